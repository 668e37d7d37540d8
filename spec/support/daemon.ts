/**
 * The real noded in a directory of its own: started on a free loopback port, asked over HTTP or HTTPS,
 * stopped, killed, started again on what it left, and cleaned up with everything that its functions started.
 */
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import * as os from 'node:os';
import {join} from 'node:path';
import type * as tls from 'node:tls';
import {forkServersIn, isFunctionProcess, kill, processesWith} from './processes';
import {until} from './until';
import {responseOf} from './wire';
import type {Response} from './wire';

export type {Answer, CallView, Response} from './wire';

/** `make build/check/stamp` compiles it for a whole run of specs: from source each start takes seconds. */
export const noded = process.env.NODED_SPEC_BUILT === undefined ? join(__dirname, '../../bin/noded') : join(process.env.NODED_SPEC_BUILT, 'bin/noded');
const readyBoundMs = 25_000;

/** Text of a program and of its manifest. */
export interface FunctionFile {
  readonly body: string;
  readonly manifest?: string;
}

/** Paths of PEM files. */
export interface TlsPaths {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

export interface DaemonOptions {
  /** More of the command line. */
  readonly args?: readonly string[];
  /** Text of noded.conf(5). */
  readonly config?: string;
  /** Without it, `--no-ssl`. `client` is who asks unless a request says otherwise. */
  readonly tls?: TlsPaths & {readonly client?: TlsPaths};
  readonly functions?: Readonly<Record<string, FunctionFile>>;
  /** More of the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** 0, the default, is a free one; the log says which. */
  readonly port?: number;
  /** Another bin/noded. */
  readonly program?: string;
  /** Words before the program, such as those of unshare(1). */
  readonly wrapper?: readonly string[];
}

export interface RequestOptions {
  readonly headers?: http.OutgoingHttpHeaders;
  /** Another certificate than the daemon's `client`; null is none at all. */
  readonly client?: TlsPaths | null;
  /** A connection of its own instead of a kept one. */
  readonly fresh?: boolean;
  /** Where a fresh one comes from: any address of 127.0.0.0/8. */
  readonly localAddress?: string;
}

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const running = new Set<NodedDaemon>();
process.once('exit', () => running.forEach((daemon) => daemon.signal('SIGKILL')));

/** Writes an executable file and its manifest. */
export function writeFunction(directory: string, name: string, {body, manifest}: FunctionFile): void {
  const path = join(directory, name);
  fs.writeFileSync(path, body);
  fs.chmodSync(path, 0o755);
  if (manifest === undefined) return;
  fs.writeFileSync(`${path}.toml`, manifest);
  fs.chmodSync(`${path}.toml`, 0o644);
}

export class NodedDaemon {
  /** Everything of this daemon lies here. It is also HOME of its functions: so they can be told from all others. */
  readonly root: string;
  readonly runDir: string;
  readonly functionsDir: string;
  readonly configFile: string;
  port = 0;
  /** Standard output and error since the last start. */
  log = '';
  private child: ChildProcess | null = null;
  private exit: Promise<Exit> = Promise.resolve({code: null, signal: null});
  private agents = new Map<TlsPaths | null, http.Agent>();

  /** Makes the directories and files; `start` starts it. */
  constructor(private readonly options: DaemonOptions = {}) {
    this.root = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-spec-')));
    fs.chmodSync(this.root, 0o755); // functions of another user must get at their programs
    this.runDir = join(this.root, 'run');
    this.functionsDir = join(this.root, 'functions');
    this.configFile = join(this.root, 'noded.conf');
    fs.mkdirSync(this.functionsDir, {mode: 0o755});
    for (const [name, file] of Object.entries(options.functions ?? {})) writeFunction(this.functionsDir, name, file);
    this.writeConfig(options.config ?? '');
  }

  /** Makes one and starts it. What was made is removed again if it does not start. */
  static async start(options: DaemonOptions = {}): Promise<NodedDaemon> {
    const daemon = new NodedDaemon(options);
    try {
      await daemon.start();
    } catch (error) {
      await daemon.dispose();
      throw error;
    }
    return daemon;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.child !== null;
  }

  /** Resolves when the process has ended. */
  get exited(): Promise<Exit> {
    return this.exit;
  }

  writeConfig(text: string): void {
    fs.writeFileSync(this.configFile, text);
  }

  /** The words of its command line, without the program. */
  commandLine(): string[] {
    const {args = [], tls, port = 0} = this.options;
    const secured = tls === undefined ? ['--no-ssl'] : ['-C', tls.cert, '-K', tls.key, '--ca', tls.ca];
    return ['-f', '-c', this.configFile, '-b', '127.0.0.1', '-p', String(port), ...secured, '--run-dir', this.runDir, '--functions', this.functionsDir, ...args];
  }

  /** Starts it, again if it has ended, and waits until it answers. Throws with its log if it does not. */
  async start(): Promise<void> {
    this.launch();
    let ended = false;
    void this.exit.then(() => (ended = true));
    await until('noded is ready', () => {
      if (ended) throw new Error(`noded has ended instead of starting:\n${this.log}`);
      const ready = this.logLines().find(({msg}) => msg === 'noded is ready');
      if (ready === undefined) return false;
      this.port = Number(ready.port);
      return true;
    }, readyBoundMs).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.log}`);
    });
    if (this.options.tls === undefined || this.options.tls.client !== undefined) await this.get('/status');
  }

  /** Starts the process and waits for nothing. */
  launch(): void {
    if (this.child !== null) throw new Error('this noded is running');
    const [command = noded, ...words] = [...(this.options.wrapper ?? []), this.options.program ?? noded];
    const child = spawn(command, [...words, ...this.commandLine()], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {...process.env, HOME: this.root, ...this.options.env},
    });
    this.child = child;
    this.log = '';
    running.add(this);
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    this.exit = new Promise((resolve) => {
      // 'close', not 'exit': the log is whole then.
      child.once('close', (code, signal) => {
        this.child = null;
        running.delete(this);
        for (const agent of this.agents.values()) agent.destroy();
        this.agents.clear();
        resolve({code, signal});
      });
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  /** SIGTERM, and what it ended with. */
  async stop(): Promise<Exit> {
    this.signal('SIGTERM');
    return this.exit;
  }

  /** SIGKILL. */
  async kill(): Promise<Exit> {
    this.signal('SIGKILL');
    return this.exit;
  }

  /** Kills it, its fork server and all that its functions started, and removes its files. */
  async dispose(): Promise<void> {
    await this.kill();
    await until('no process of this noded is left', () => {
      const left = [...forkServersIn(this.runDir), ...this.functionProcesses()];
      left.forEach(kill);
      return left.length === 0;
    });
    fs.rmSync(this.root, {recursive: true, force: true});
  }

  /** Living processes that this daemon's functions started, whatever became of their parents. */
  functionProcesses(): number[] {
    return processesWith(`HOME=${this.root}`).filter(isFunctionProcess);
  }

  /** SIGKILL to all of them. */
  killFunctions(): void {
    this.functionProcesses().forEach(kill);
  }

  /** The lines of the log that are JSON. */
  logLines(): LogLine[] {
    return this.log.split('\n').filter((line) => line.startsWith('{') && line.endsWith('}')).map((line) => JSON.parse(line) as LogLine);
  }

  /** Waits for a line of the log. */
  async logged(pattern: RegExp, boundMs?: number): Promise<LogLine> {
    return until(`the log says ${pattern}`, () => this.logLines().find(({msg}) => pattern.test(msg)), boundMs);
  }

  request(method: string, path: string, body?: unknown, options: RequestOptions = {}): Promise<Response> {
    const data = body === undefined ? undefined : typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const headers = {...(data === undefined ? {} : {'content-type': 'application/json', 'content-length': Buffer.byteLength(data)}), ...options.headers};
    const {request} = this.options.tls === undefined ? http : https;
    return new Promise((resolve, reject) => {
      const asked = request({host: '127.0.0.1', port: this.port, method, path, headers, ...this.connection(options)}, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => resolve(responseOf(response, Buffer.concat(chunks))));
      });
      asked.on('error', reject);
      asked.end(data);
    });
  }

  get(path: string, options?: RequestOptions): Promise<Response> {
    return this.request('GET', path, undefined, options);
  }

  put(operation: string, members: unknown, options?: RequestOptions): Promise<Response> {
    return this.request('PUT', `/${operation}`, members, options);
  }

  startFunction(fnName: string, args: unknown, timeout: number, more: object = {}): Promise<Response> {
    return this.put('StartFunction', {fn_name: fnName, fn_args: args, timeout, ...more});
  }

  /** Starts a function that says `ready` on stderr, and waits until it does. Gives its call ID. */
  async startReady(fnName: string, args: unknown = null, more: object = {}): Promise<string> {
    const {json} = await this.startFunction(fnName, args, 0, more);
    const id = json.call.id;
    await until(`${fnName} is ready`, async () => (await this.waitForFunction(id, 1, {stderr_from: 0, wake_on_stderr: true})).json.call.stderr.text.includes('ready'));
    return id;
  }

  waitForFunction(callId: string | null, timeout: number, more: object = {}): Promise<Response> {
    return this.put('WaitForFunction', {fnc_id: callId, timeout, ...more});
  }

  /** What is asked with, and over which connection. */
  private connection({client = this.options.tls?.client ?? null, fresh = false, localAddress}: RequestOptions): https.RequestOptions {
    if (fresh) return {...this.credentials(client), agent: false, ...(localAddress === undefined ? {} : {localAddress})};
    let agent = this.agents.get(client);
    if (agent === undefined) {
      const options = {keepAlive: true, maxSockets: 256};
      agent = this.options.tls === undefined ? new http.Agent(options) : new https.Agent({...options, ...this.credentials(client)});
      this.agents.set(client, agent);
    }
    return {agent};
  }

  private credentials(client: TlsPaths | null): tls.ConnectionOptions {
    const {tls} = this.options;
    if (tls === undefined) return {};
    const own = client === null ? {} : {cert: fs.readFileSync(client.cert), key: fs.readFileSync(client.key)};
    // The address is that of this machine, the certificate's name is not.
    return {ca: fs.readFileSync(client?.ca ?? tls.ca), checkServerIdentity: () => undefined, ...own};
  }
}
