/** The real daemon and the real nodectl, each a process of its own, for specs that look at them from outside. */
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {NodeClient} from '../../lib';
import type {JsonObject} from '../../lib';
import {BuiltNoded} from '../support/built';

let built: BuiltNoded | null = null;

/** Both programs as they are installed: dozens of starts from source would take minutes. Compiled at the first use. */
function program(name: 'noded' | 'nodectl'): string {
  if (built === null) {
    const made = new BuiltNoded();
    built = made;
    process.once('exit', () => made.dispose());
  }
  return path.join(built.root, 'bin', name);
}

/** Polls, and gives up with an error. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let round = 0; round < 2_000; round += 1) {
    if (await isSo()) return;
    await pause(10);
  }
  throw new Error(`waited in vain: ${what}`);
}

export class RunningNoded {
  readonly directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'noded-nodectl-')));
  /** Chosen by the kernel at the first start, and kept. */
  port = 0;
  #daemon: ChildProcess | null = null;
  #log = '';

  /** `functions`: name to the lines of a shell script. */
  constructor(functions: Readonly<Record<string, string>>, readonly options: readonly string[] = ['--no-ssl']) {
    fs.mkdirSync(this.functionsDirectory);
    for (const [name, script] of Object.entries(functions)) {
      fs.writeFileSync(path.join(this.functionsDirectory, name), `#!/bin/sh\n${script}\n`, {mode: 0o755});
    }
  }

  get functionsDirectory(): string {
    return path.join(this.directory, 'functions');
  }


  async start(): Promise<void> {
    const runDir = path.join(this.directory, 'run');
    const line = ['-f', '-b', '127.0.0.1', '-p', String(this.port), '--run-dir', runDir, '--functions', this.functionsDirectory, ...this.options];
    const daemon = spawn(process.execPath, [program('noded'), ...line], {stdio: ['ignore', 'pipe', 'pipe']});
    this.#daemon = daemon;
    this.#log = '';
    for (const stream of [daemon.stdout, daemon.stderr]) stream.on('data', (chunk: Buffer) => void (this.#log += chunk.toString()));
    await until('noded is ready', () => {
      if (daemon.exitCode !== null) throw new Error(`noded ended: ${this.#log}`);
      return /"port":\d+.*noded is ready/.test(this.#log);
    });
    this.port = Number(/"port":(\d+)/.exec(this.#log)?.[1]);
  }

  /** As a master sees it. */
  async status(): Promise<JsonObject> {
    const client = new NodeClient({host: '127.0.0.1', port: this.port});
    try {
      return await client.status();
    } finally {
      client.close();
    }
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === null) return;
    this.#daemon = null;
    if (daemon.exitCode !== null || daemon.signalCode !== null) return;
    const exited = once(daemon, 'exit');
    daemon.kill(signal);
    await exited;
  }

  async remove(): Promise<void> {
    await this.kill('SIGTERM');
    fs.rmSync(this.directory, {recursive: true, force: true});
  }
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly stdin?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Told of the running process, to send it a signal, say, once it has said something. */
  readonly whileRunning?: (child: ChildProcess, said: () => string) => Promise<void>;
}

async function runToEnd(file: string, args: readonly string[], {stdin = '', env, whileRunning}: RunOptions): Promise<Ended> {
  const child = spawn(file, args, {stdio: 'pipe', ...(env === undefined ? {} : {env})});
  const said = {stdout: '', stderr: ''};
  child.stdout.on('data', (chunk: Buffer) => void (said.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => void (said.stderr += chunk.toString()));
  child.stdin.on('error', () => undefined).write(stdin);
  const closed = once(child, 'close') as Promise<[number | null]>;
  await whileRunning?.(child, () => said.stdout + said.stderr);
  child.stdin.end();
  const [code] = await closed;
  return {code, ...said};
}

export function nodectl(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return runToEnd(process.execPath, [program('nodectl'), ...args], options);
}

/** The words of a shell command that runs it. */
const quoted = (args: readonly string[]): string => [process.execPath, program('nodectl'), ...args].map((word) => `'${word.replaceAll('\'', '\'\\\'\'')}'`).join(' ');

/** In a shell's line that `line` makes of the command: with a redirection, a limit, another program before it. */
export function nodectlInShell(args: readonly string[], line: (command: string) => string): Promise<Ended> {
  return runToEnd('sh', ['-c', line(quoted(args))], {});
}

/** On a terminal of its own, 100 columns wide; `stdout` is all that was shown there. */
export function nodectlOnTerminal(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return runToEnd('script', ['-qefc', `stty cols 100 rows 40; exec ${quoted(args)}`, '/dev/null'], options);
}
