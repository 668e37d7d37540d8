/** The real ganeti-noded on a node of its own, with certificates like Ganeti's, asked as Ganeti's masters ask. */
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import * as os from 'node:os';
import {join} from 'node:path';
import type * as tls from 'node:tls';
import {BuiltNoded} from './built';
import {sha1Of} from './certificates';
import type {Exit, TlsPaths} from './daemon';
import {GanetiAuthority} from './ganeti-certificates';
import {makeGanetiNode, makeGanetiShare} from './ganeti-node';
import type {GanetiNode} from './ganeti-node';
import {kill, processesWith} from './processes';
import {until} from './until';
import {responseOf} from './wire';
import type {Response} from './wire';

let built: BuiltNoded | null = null;

/** The program as it is installed: from source each start would take seconds. Compiled at the first use. */
export function ganetiProgram(): string {
  if (built === null) {
    const made = new BuiltNoded({ganeti: true});
    built = made;
    process.once('exit', () => made.dispose());
  }
  return join(built.root, 'bin/ganeti-noded');
}

/** Functions that do what Ganeti's own do too seldom: methods of Ganeti's class. */
const oddFunctions = `
  @staticmethod
  def perspective_spec_say(params):
    return repr(params)
  @staticmethod
  def perspective_spec_give(params):
    return {"nano": 1795333344142123456, "one": 1.0, "big": 123456789012345678901234567890, "tiny": 1e-7, "text": u"\\xe9</script>"}
  @staticmethod
  def perspective_spec_no_numbers(params):
    return [float("nan"), float("inf"), {"least": -float("inf")}] * params[0]
  @staticmethod
  def perspective_spec_length(params):
    return len(params[0])
  @staticmethod
  def perspective_spec_repeat(params):
    return "x" * params[0]
  @staticmethod
  def perspective_spec_die(params):
    os.kill(os.getpid(), params[0])
    time.sleep(60)
  @staticmethod
  def perspective_spec_leave(params):
    os._exit(params[0])
  @staticmethod
  def perspective_spec_wait(params):
    print("a line on stdout")
    sys.stderr.write("ready")
    sys.stderr.flush()
    while not os.path.exists(params[0]):
      time.sleep(0.02)
    return "waited"
  @staticmethod
  def perspective_spec_quit(params):
    raise errors.QuitGanetiException(True, "Shutdown scheduled")
`;

export interface AskOptions {
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  readonly client?: TlsPaths;
  readonly agent?: https.Agent;
}

/** One connection, which is kept. The check is the agent's: Debian's Node 20.19 keeps none whose request brought its own. */
export function keepingAgent(): https.Agent {
  return new https.Agent({keepAlive: true, maxSockets: 1, checkServerIdentity: () => undefined});
}

const readyBoundMs = 25_000;

export class GanetiNoded {
  readonly directory = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-ganeti-')));
  readonly node: GanetiNode;
  readonly authority: GanetiAuthority;
  /** The certificate of the one master candidate. */
  readonly candidate: TlsPaths;
  readonly env: NodeJS.ProcessEnv;
  port = 0;
  private child: ChildProcess | null = null;
  private exit: Promise<Exit> = Promise.resolve({code: null, signal: null});
  /** Standard error since the last start. */
  stderr = '';

  constructor() {
    fs.chmodSync(this.directory, 0o755);
    this.node = makeGanetiNode(this.directory);
    const pki = join(this.directory, 'pki');
    fs.mkdirSync(pki);
    this.authority = new GanetiAuthority(pki);
    this.candidate = this.authority.issue('node1');
    fs.copyFileSync(this.authority.pem, this.serverPem);
    fs.copyFileSync(this.candidate.cert, this.path('var/lib/ganeti/client.pem'));
    this.writeMap([sha1Of(this.candidate)]);
    const {PATH = '', CI} = process.env;
    this.env = {PATH, ...(CI === undefined ? {} : {CI}), ...this.node.env, NODED_GANETI_SHARE: makeGanetiShare(this.directory, oddFunctions), NODE_V8_COVERAGE: process.env.NODE_V8_COVERAGE};
  }

  get serverPem(): string {
    return this.path('var/lib/ganeti/server.pem');
  }
  get runDir(): string {
    return this.path('var/run/ganeti-noded');
  }
  get pidFile(): string {
    return this.path('var/run/ganeti/ganeti-noded.pid');
  }
  /** The daemon's. Throws if its file is missing, or names no process of this node. */
  get pid(): number {
    const pid = Number(fs.readFileSync(this.pidFile, 'utf8'));
    if (!this.processes().includes(pid)) throw new Error(`${this.pidFile} names ${pid}, which is no process of this node`);
    return pid;
  }
  get log(): string {
    return fs.existsSync(this.node.log) ? fs.readFileSync(this.node.log, 'utf8') : '';
  }
  get exited(): Promise<Exit> {
    return this.exit;
  }

  /** A path below the node's root. */
  path(name: string): string {
    return join(this.node.root, name);
  }

  /** Replaces Ganeti's map whole, as Ganeti does. */
  writeMap(fingerprints: readonly string[]): void {
    const map = this.path('var/lib/ganeti/ssconf_master_candidates_certs');
    fs.writeFileSync(`${map}.new`, fingerprints.map((one, number) => `0a1b-${number}=${one}\n`).join(''));
    fs.renameSync(`${map}.new`, map);
  }

  /** ganeti-noded.conf. */
  configure(text: string): void {
    fs.mkdirSync(this.path('etc/noded'), {recursive: true});
    fs.writeFileSync(this.path('etc/noded/ganeti-noded.conf'), text);
  }

  /** In the foreground, on a free port of loopback. `wrapper`: words before the program. */
  async start(args: readonly string[] = [], wrapper: readonly string[] = []): Promise<void> {
    const before = this.log.length;
    const [command = '', ...words] = [...wrapper, ganetiProgram()];
    const child = spawn(command, [...words, '-f', '-b', '127.0.0.1', '-p', '0', '--no-mlock', ...args], {stdio: ['ignore', 'ignore', 'pipe'], env: this.env});
    this.child = child;
    this.stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    let ended = false;
    this.exit = new Promise((resolve) => child.once('close', (code, signal) => {
      ended = true;
      this.child = null;
      resolve({code, signal});
    }));
    await until('ganeti-noded is ready', () => {
      const ready = / INFO noded is ready port=(\d+)/.exec(this.log.slice(before));
      if (ready !== null) this.port = Number(ready[1]);
      if (ended && ready === null) throw new Error(`ganeti-noded has ended: ${this.stderr}\n${this.log}`);
      return ready !== null;
    }, readyBoundMs);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    this.child?.kill(signal);
    return this.exit;
  }

  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  /** Detached ones too. */
  private processes(): number[] {
    return processesWith(`GANETI_ROOTDIR=${this.node.root}`);
  }

  /** Kills it, its fork server and all functions. */
  async killAll(): Promise<void> {
    await this.stop('SIGKILL');
    await until('no process of this node is left', () => {
      const left = this.processes();
      left.forEach(kill);
      return left.length === 0;
    });
  }

  /** That, and removes its files. */
  async dispose(): Promise<void> {
    await this.killAll();
    fs.rmSync(this.directory, {recursive: true, force: true});
  }

  /** Files of calls that are there now. */
  spoolFiles(): string[] {
    return fs.readdirSync(join(this.runDir, 'calls'));
  }

  /** As Ganeti's Python client: one request on a connection of its own. */
  ask(path: string, body: string | Buffer, options: AskOptions = {}): Promise<Response> {
    return this.begin(path, body, options).response;
  }

  /** The same, with the request in hand. */
  begin(path: string, body: string | Buffer, {method = 'POST', headers = {}, client = this.candidate, agent}: AskOptions = {}): {readonly request: http.ClientRequest; readonly response: Promise<Response>} {
    const {checkServerIdentity, ...connection} = this.connection(client);
    const request = https.request({...connection, ...(agent === undefined ? {checkServerIdentity} : {}), method, path, headers: {'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers}, agent: agent ?? false});
    // Node's client would say keep-alive or close; Ganeti's says nothing.
    if (agent === undefined) request.removeHeader('Connection');
    const response = new Promise<Response>((resolve, reject) => {
      request.on('error', reject);
      request.on('response', (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', reject);
        answer.on('end', () => resolve(responseOf(answer, Buffer.concat(chunks))));
      });
    });
    request.end(body);
    return {request, response};
  }

  /** An operation or a query of noded-protocol(7). */
  put(operation: string, members: object, options: AskOptions = {}): Promise<Response> {
    return this.ask(`/${operation}`, JSON.stringify(members), {method: 'PUT', ...options});
  }
  get(path: string, options: AskOptions = {}): Promise<Response> {
    return this.ask(path, '', {method: 'GET', ...options});
  }

  connection(client: TlsPaths): tls.ConnectionOptions & {readonly host: string; readonly port: number} {
    return {host: '127.0.0.1', port: this.port, cert: fs.readFileSync(client.cert), key: fs.readFileSync(client.key), ca: fs.readFileSync(client.ca), checkServerIdentity: () => undefined};
  }
}
