/**
 * Nodes of a Ganeti cluster on addresses of the loopback: real nodeds, Ganeti's own node daemon, and Ganeti's own RPC
 * client in a process of its own, all with the certificates of one cluster. Everything lies below one directory.
 */
import {execFileSync, spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import {fingerprintOf, roleText} from '../support/certificates';
import {NodedDaemon} from '../support/daemon';
import type {FunctionFile, TlsPaths} from '../support/daemon';
import {until} from '../support/until';

const checkout = join(__dirname, '../..');
const python = '/usr/bin/python3';
const ganetiPackage = '/usr/share/ganeti/default';
const ganetiNoded = '/usr/sbin/ganeti-noded';

/** Why these specs cannot be shown here, or null. */
export const noGaneti = [python, `${ganetiPackage}/ganeti/rpc/node.py`, ganetiNoded].every((path) => fs.existsSync(path)) ? null : 'Ganeti is not installed';

/** What `version` gives: 3000000 of Ganeti 3.0, 3010000 of 3.1. */
export const protocolVersion = noGaneti === null ? execFileSync(python, ['-IB', '-c', `import sys; sys.path.insert(0, ${JSON.stringify(ganetiPackage)}); from ganeti import constants; print(constants.PROTOCOL_VERSION)`], {encoding: 'utf8'}).trim() : '';

export interface RpcResult {
  /** Python's own spelling of the values. */
  readonly data: string;
  readonly payload: string;
  readonly fail_msg: string | null;
  readonly offline: boolean;
}

export interface Called {
  readonly results: Readonly<Record<string, RpcResult>>;
  /** What Ganeti's lock monitor was told of. */
  readonly pending: readonly unknown[];
}

export interface CallOptions {
  readonly args?: readonly unknown[];
  /** The class timeout, in seconds. */
  readonly timeout?: number;
}

/** Ganeti's RPC client. */
export class Master {
  /** What it logged. */
  log = '';
  private readonly answers: AsyncIterator<string>;

  constructor(readonly process: ChildProcess) {
    this.answers = createInterface({input: process.stdout!})[Symbol.asyncIterator]();
    process.stderr!.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
  }

  async command<T>(members: object): Promise<T> {
    this.process.stdin!.write(`${JSON.stringify(members)}\n`);
    const {done, value} = await this.answers.next();
    if (done === true) throw new Error(`the master has ended:\n${this.log}`);
    return JSON.parse(value) as T;
  }

  /** Calls on these nodes, by name; null is an offline one. */
  call(procedure: string, nodes: Readonly<Record<string, string | null>>, options: CallOptions = {}): Promise<Called> {
    return this.command({do: 'call', procedure, nodes, ...options});
  }

  /** Sets numbers of a module of the adapter. */
  configure(module: string, values: Readonly<Record<string, number>>): Promise<unknown> {
    return this.command({do: 'configure', module, ...values});
  }

  async end(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    this.process.stdin!.end();
    await ended;
  }
}

const sh = (body: string): FunctionFile => ({body: `#!/bin/sh\n${body}\n`});

const untilFile = 'IFS="[], " read -r none started end rest; started=${started#\\"}; end=${end#\\"}; echo x >> "${started%\\"}"; while [ ! -e "${end%\\"}" ]; do sleep 0.02; done; echo "[true, null]"';

/** Functions that answer as Ganeti's do, with its pair. Arguments come as `[value]`. */
export const pairFunctions: Readonly<Record<string, FunctionFile>> = {
  version: sh(`echo "[true, ${protocolVersion}]"`),
  test_delay: sh('read -r args; args=${args#[}; sleep "${args%]}"; echo "[true, null]"'),
  /** Gives its arguments back. */
  echo_pair: sh('printf "[true, "; cat; echo "]"'),
  /** Answers with what the file has that it is told of: `["file"]`. */
  from_file: sh('read -r args; args=${args#[\\"}; cat "${args%\\"]}"'),
  fails: sh('echo "no such disk" >&2; exit 3'),
  /** Appends a line to a file, and then takes a while if there are two arguments: `["file",seconds]`. */
  tally: sh('IFS="[], " read -r none name seconds rest; name=${name#\\"}; echo x >> "${name%\\"}"; sleep "${seconds:-0}"; echo "[true, null]"'),
  /** Ends once two have been at a file. */
  meeting: sh('read -r args; args=${args#[\\"}; file=${args%\\"]}; echo x >> "$file"; while [ "$(wc -l < "$file")" -lt 2 ]; do sleep 0.02; done; echo "[true, null]"'),
  /** Says so in a file, and ends once another one is there: `["started","end"]`. */
  until_file: sh(untilFile),
  /** The same, but one at a time. */
  single: {...sh(untilFile), manifest: 'max_running = 1'},
};

export class GanetiWorld {
  readonly root = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-ganeti-')));
  readonly nodeRoot = join(this.root, 'node1');
  readonly data = join(this.nodeRoot, 'var/lib/ganeti');
  /** Where the old nodes are remembered. */
  readonly oldNodes = join(this.nodeRoot, 'var/run/ganeti/noded-rpc');
  private atPort = 0;
  private readonly daemons: NodedDaemon[] = [];
  private readonly processes: ChildProcess[] = [];
  private readonly masters: Master[] = [];
  private files = 0;

  constructor() {
    fs.chmodSync(this.root, 0o755);
    this.makeNodeRoot('node1');
    this.makeCertificates();
    execFileSync('make', ['-C', join(checkout, 'contrib/ganeti'), 'install', `DESTDIR=${this.root}`], {stdio: 'pipe'});
  }

  /** Where the adapter was installed to. */
  get site(): string {
    const lib = join(this.root, 'usr/local/lib');
    return join(lib, fs.readdirSync(lib)[0]!, 'dist-packages');
  }

  get tls(): TlsPaths {
    const pem = join(this.data, 'server.pem');
    return {cert: pem, key: pem, ca: pem};
  }

  get client(): TlsPaths {
    const pem = join(this.data, 'client.pem');
    return {cert: pem, key: pem, ca: this.tls.ca};
  }

  /** All nodes of a cluster have the same port; it stays when one is started again. */
  get port(): number {
    return this.atPort;
  }

  /** A path that nothing has been written to. */
  newFile(): string {
    return join(this.root, `file-${++this.files}`);
  }

  /** Looks for a port that nobody has. */
  async open(): Promise<this> {
    const server = net.createServer().listen(0);
    await once(server, 'listening');
    this.atPort = (server.address() as net.AddressInfo).port;
    server.close();
    await once(server, 'close');
    return this;
  }

  /** A noded on an address of its own, such as 127.0.0.2. */
  async noded(address: string, more = ''): Promise<NodedDaemon> {
    const config = `${more}\n${roleText('master', [fingerprintOf(this.client)])}`;
    const daemon = await NodedDaemon.start({tls: this.tls, config, functions: pairFunctions, args: ['-b', address], port: this.port});
    this.daemons.push(daemon);
    return daemon;
  }

  /** Ganeti's own node daemon. */
  async oldNode(address: string): Promise<ChildProcess> {
    const name = `old${this.processes.length}`;
    this.makeNodeRoot(name);
    for (const file of ['server.pem', 'client.pem', 'ssconf_master_candidates_certs']) fs.copyFileSync(join(this.data, file), join(this.root, name, 'var/lib/ganeti', file));
    const child = spawn(ganetiNoded, ['-f', '--no-mlock', '-b', address, '-p', String(this.port)], {env: this.environment(name), stdio: 'ignore'});
    this.processes.push(child);
    await until('ganeti-noded listens', () => this.listens(address), 25_000);
    return child;
  }

  /** The RPC client, with the adapter or as Ganeti has it, in small slices. An answer that is not there `grace` seconds after its slice is missed: a loaded machine takes some. */
  async master({adapted = true, grace = 10} = {}): Promise<Master> {
    const line = [join(__dirname, 'rpc-driver.py'), ganetiPackage, adapted ? this.site : '', String(this.port)];
    const child = spawn(python, line, {env: this.environment('node1'), stdio: 'pipe'});
    const master = new Master(child);
    this.processes.push(child);
    this.masters.push(master);
    if (adapted) await master.configure('conversation', {SLICE: 0.4, GRACE: grace, SILENCE_PATIENCE: 2, RESTART_PATIENCE: 20});
    return master;
  }

  async stop(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  async dispose(): Promise<void> {
    for (const child of this.processes) await this.stop(child, 'SIGKILL');
    for (const daemon of this.daemons) await daemon.dispose();
    fs.rmSync(this.root, {recursive: true, force: true});
  }

  /** As Ganeti's own virtual clusters: a node's files lie below a directory of its name. */
  private environment(name: string): NodeJS.ProcessEnv {
    return {...process.env, GANETI_ROOTDIR: join(this.root, name), GANETI_HOSTNAME: name};
  }

  private makeNodeRoot(name: string): void {
    for (const directory of ['var/lib/ganeti/queue/archive', 'var/run/ganeti/socket', 'var/lock', 'var/log/ganeti', 'etc/ganeti']) {
      fs.mkdirSync(join(this.root, name, directory), {recursive: true});
    }
  }

  private async listens(address: string): Promise<boolean> {
    const socket = net.connect(this.port, address);
    const [event] = await Promise.race([once(socket, 'connect').then(() => ['connect']), once(socket, 'error').then(() => ['error'])]).catch(() => ['error']);
    socket.destroy();
    return event === 'connect';
  }

  /** As a cluster has them: one certificate of all nodes, which is also their CA, and one of the master, which is on the list. */
  private makeCertificates(): void {
    const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, {cwd: this.data, stdio: 'pipe'});
    const joinPem = (name: string): void => {
      const pem = ['key', 'crt'].map((suffix) => fs.readFileSync(join(this.data, `${name}.${suffix}`), 'utf8')).join('');
      fs.writeFileSync(join(this.data, `${name}.pem`), pem, {mode: 0o600});
    };
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'server.key', '-out', 'server.crt', '-days', '2', '-subj', '/CN=ganeti.example.com');
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'client.key', '-out', 'client.csr', '-subj', '/CN=node1');
    openssl('x509', '-req', '-in', 'client.csr', '-CA', 'server.crt', '-CAkey', 'server.key', '-CAcreateserial', '-days', '2', '-out', 'client.crt');
    for (const name of ['server', 'client']) joinPem(name);
    const digest = execFileSync('openssl', ['x509', '-in', 'client.crt', '-noout', '-fingerprint', '-sha1'], {cwd: this.data, encoding: 'utf8'});
    fs.writeFileSync(join(this.data, 'ssconf_master_candidates_certs'), `uuid=${digest.trim().split('=')[1]}\n`);
  }
}
