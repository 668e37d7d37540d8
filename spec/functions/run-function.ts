/** Runs the functions that come along as noded does: as real programs, with files as standard streams. */
import {spawn} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {Ajv} from 'ajv';
import {expect} from 'chai';
import {parse} from 'smol-toml';
import {signalGroup} from '../support/processes';

export const functionsDir = path.join(__dirname, '..', '..', 'functions');

export interface RunOptions {
  /** The table `[function.NAME]`. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Another program than the one in the functions directory. */
  readonly program?: string;
  /** RLIMIT_FSIZE in the shell's blocks of 512 bytes. */
  readonly maxFileBlocks?: number;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly pid: number;
  readonly ended: Promise<Ended>;
  stderr(): string;
  signalGroup(signal: NodeJS.Signals): void;
}

const running = new Set<Running>();

/** Kills what a failed test has left running. */
export function endLeftovers(): void {
  for (const one of running) one.signalGroup('SIGKILL');
  running.clear();
}

/** Polls, because there is nothing to wait for, and gives up with an error. */
export async function until(what: string, isSo: () => boolean): Promise<void> {
  for (let round = 0; round < 2000; round += 1) {
    if (isSo()) return;
    await pause(5);
  }
  throw new Error(`waited in vain: ${what}`);
}

/** Process IDs of a process group, without those that have ended and wait for init to notice. */
export function livingInGroup(group: number): number[] {
  return fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
      const [state, , itsGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return state !== 'Z' && Number(itsGroup) === group;
    } catch {
      return false;
    }
  });
}

/** Makes a directory for fixtures; the caller removes it. */
export function makeDirectory(): string {
  return fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'noded-functions-')));
}

function environment(name: string, options: RunOptions): Record<string, string> {
  const directories = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  return {
    PATH: `${directories}:${path.dirname(process.execPath)}`,
    LANG: 'C.UTF-8',
    HOME: os.homedir(),
    NODED_CALL_KEY: '9f3a77c01b2d4e5f',
    NODED_FN_NAME: name,
    NODED_REQUEST_ID: 'spec:12345678',
    ...(options.config === undefined ? {} : {NODED_FN_CONFIG: JSON.stringify(options.config)}),
  };
}

interface Streams {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

// The names are gone once the files are open, so there is nothing to clean up.
function openStreams(args: string): Streams {
  const directory = makeDirectory();
  fs.writeFileSync(path.join(directory, 'args'), args);
  const streams = {
    stdin: fs.openSync(path.join(directory, 'args'), 'r'),
    stdout: fs.openSync(path.join(directory, 'out'), 'wx+'),
    stderr: fs.openSync(path.join(directory, 'err'), 'wx+'),
  };
  fs.rmSync(directory, {recursive: true});
  return streams;
}

function readFrom(fd: number): string {
  const bytes = Buffer.alloc(fs.fstatSync(fd).size);
  const length = fs.readSync(fd, bytes, 0, bytes.length, 0);
  return bytes.toString('utf8', 0, length);
}

function commandLine(name: string, options: RunOptions): [string, string[]] {
  const program = options.program ?? path.join(functionsDir, name);
  const limit = options.maxFileBlocks;
  const script = `umask 022; ${limit === undefined ? '' : `ulimit -f ${limit};`} exec "$0"`;
  return ['/bin/sh', ['-c', script, program]];
}

export function startFunction(name: string, args: string, options: RunOptions = {}): Running {
  const streams = openStreams(args);
  const [file, words] = commandLine(name, options);
  const child = spawn(file, words, {
    cwd: '/',
    detached: true,
    env: environment(name, options),
    stdio: [streams.stdin, streams.stdout, streams.stderr],
  });
  const pid = child.pid;
  if (pid === undefined) throw new Error(`${name} was not started`);
  const ended = new Promise<Ended>((resolve) => {
    child.once('exit', (code, signal) => {
      running.delete(one);
      resolve({code, signal, stdout: readFrom(streams.stdout), stderr: readFrom(streams.stderr)});
      for (const fd of Object.values(streams)) fs.closeSync(fd as number);
    });
  });
  const one: Running = {
    pid,
    ended,
    stderr: () => readFrom(streams.stderr),
    signalGroup: (signal) => signalGroup(pid, signal),
  };
  running.add(one);
  return one;
}

/** `args` is a value; what is not JSON goes through startFunction. */
export async function runFunction(name: string, args: unknown, options: RunOptions = {}): Promise<Ended> {
  return startFunction(name, JSON.stringify(args), options).ended;
}

/** The result of a function that is expected to succeed. */
export async function resultOf<T>(name: string, args: unknown, options: RunOptions = {}): Promise<T> {
  const ended = await runFunction(name, args, options);
  expect(ended, ended.stdout + ended.stderr).to.include({code: 0, signal: null});
  return JSON.parse(ended.stdout) as T;
}

/** The error of a function that is expected to fail: an exit status, and one sentence on stdout. */
export function errorIn(ended: Ended): string {
  expect(ended, ended.stdout + ended.stderr).to.include({code: 1, signal: null});
  const value = JSON.parse(ended.stdout) as {error: string};
  expect(value).to.have.all.keys('error');
  return value.error;
}

export async function errorOf(name: string, args: unknown, options: RunOptions = {}): Promise<string> {
  return errorIn(await runFunction(name, args, options));
}

const MANIFEST_KEYS = ['description', 'args', 'abort_after', 'max_abort_after', 'kill_after', 'max_running',
  'max_output', 'user', 'group', 'nice', 'urgent', 'leave_running', 'roles'];

export function readManifest(name: string): Record<string, unknown> {
  return parse(fs.readFileSync(path.join(functionsDir, `${name}.toml`), 'utf8'));
}

/** Whether the manifest's schema lets these arguments through; a manifest without one takes anything. */
export function takesArguments(name: string, args: unknown): boolean {
  const schema = readManifest(name)['args'];
  if (schema === undefined) return true;
  return new Ajv({strict: true, strictTypes: true, strictTuples: true}).compile(schema as object)(args);
}

/** The cases that hold for every function: the program's file, the manifest, and what its schema takes. */
export function describeManifest(name: string, accepted: readonly unknown[], refused: readonly unknown[]): void {
  describe('its manifest', () => {
    it('lies beside an executable with an interpreter line', () => {
      const program = path.join(functionsDir, name);
      // Who may write it is up to the umask of whoever checked it out.
      expect(fs.statSync(program).mode & 0o555).to.equal(0o555);
      expect(fs.readFileSync(program, 'utf8')).to.match(/^#!\/(bin\/sh|usr\/bin\/env node)\n/);
    });

    it('has a description and only keys that noded knows', () => {
      const manifest = readManifest(name);
      expect(manifest['description']).to.be.a('string');
      expect(MANIFEST_KEYS).to.include.members(Object.keys(manifest));
    });

    for (const args of accepted) {
      it(`takes the arguments ${JSON.stringify(args).slice(0, 80)}`, () => {
        expect(takesArguments(name, args)).to.equal(true);
      });
    }
    for (const args of refused) {
      it(`refuses the arguments ${JSON.stringify(args).slice(0, 80)}`, () => {
        expect(takesArguments(name, args)).to.equal(false);
      });
    }
  });
}
