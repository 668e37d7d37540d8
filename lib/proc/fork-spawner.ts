/**
 * A spawner over a fork server's socket (DESIGN.md section 7). The fork server starts, reaps and kills;
 * it outlives the daemon, so calls that run are taken over by the next one.
 */
import type {Socket} from 'node:net';
import {wallMs} from '../base/duration';
import {messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Ending} from '../base/outcome';
import {readJournal} from '../call/journal';
import type {EndedLine} from '../call/journal';
import type {FunctionProcess, SpawnRequest, SpawnSink, Spawner} from '../call/spawner';
import {environment} from './environment';
import {FrameReader, frameVersion, maxInlineArgsBytes, writeQuit, writeSignal, writeStart} from './fork-frames';
import type {EndedFrame, ForkerFrame} from './fork-frames';
import {findForkServer, startForkServer} from './fork-server';
import {endingOfProcess} from './ending';
import type {OutputSizes} from './ending';
import type {OutputScanner} from './output';
import type {ProcessTrees} from './process-tree';
import type {Spool} from './spool';

export interface ForkSpawnerOptions {
  readonly program: string;
  readonly runDir: string;
  readonly spool: Spool;
  readonly trees: ProcessTrees;
  readonly newScanner: () => OutputScanner;
  readonly log: {info(fields: object, message: string): void; warn(fields: object, message: string): void};
}

/** A call that the fork server has. */
interface Running {
  readonly key: string;
  readonly leaveRunning: boolean;
  readonly maxOutputBytes: number;
  readonly spooled: boolean;
  readonly sink: SpawnSink;
  pid: number;
  startTime: number;
  stdout: Buffer;
  stderr: Buffer;
}

/** A call of an earlier daemon that the fork server still runs. */
export interface LiveCall {
  readonly pid: number;
  readonly startTime: number;
}

export class ForkSpawner implements Spawner {
  readonly name = 'forker';
  readonly inlineArgsBytes = maxInlineArgsBytes;
  unavailable: string | null = 'the fork server is not connected yet';
  private socket: Socket | null = null;
  private readonly running = new Map<string, Running>();
  private readonly live = new Map<string, LiveCall>();
  /** Ends of calls that nobody has taken over yet. */
  private readonly early = new Map<string, EndedFrame>();
  private outgoing: Buffer[] = [];
  private closing = false;

  constructor(private readonly options: ForkSpawnerOptions) {}

  /** Connects to the fork server that is there, or starts one. Resolves with the calls that it runs. */
  async connect(): Promise<ReadonlyMap<string, LiveCall>> {
    const {program, runDir, log} = this.options;
    let socket = await findForkServer(runDir);
    if (socket === null) {
      await startForkServer(program, runDir);
      socket = await findForkServer(runDir);
      if (socket === null) throw new Error(`${program}: it is ready and does not listen`);
    } else {
      log.info({}, 'found the fork server of an earlier noded');
    }
    await this.use(socket);
    return this.live;
  }

  spawn(request: SpawnRequest, sink: SpawnSink): FunctionProcess {
    const {key, spec, args, spooled} = request;
    this.running.set(key, {key, leaveRunning: spec.leaveRunning, maxOutputBytes: spec.maxOutputBytes, spooled, sink, pid: 0, startTime: 0, stdout: Buffer.alloc(0), stderr: Buffer.alloc(0)});
    this.send(writeStart({key, spec, env: Object.entries(environment(request)).map(([name, value]) => `${name}=${value}`), spooled, args}));
    return this.processOf(key);
  }

  /** Takes over a call of an earlier daemon; its end is reported to `sink`. */
  adopt(key: string, {leaveRunning, maxOutputBytes}: {readonly leaveRunning: boolean; readonly maxOutputBytes: number}, sink: SpawnSink): FunctionProcess {
    const {pid, startTime} = this.live.get(key)!;
    const running: Running = {key, leaveRunning, maxOutputBytes, spooled: true, sink, pid, startTime, stdout: Buffer.alloc(0), stderr: Buffer.alloc(0)};
    this.running.set(key, running);
    const ended = this.early.get(key);
    if (ended !== undefined) setImmediate(() => this.ended(running, ended));
    return this.processOf(key);
  }

  /** Ends the fork server and whatever it still runs; resolves when it has gone. */
  async quit(): Promise<void> {
    this.closing = true;
    const {socket} = this;
    if (socket === null || socket.destroyed) return;
    const gone = new Promise((resolve) => socket.once('close', resolve));
    this.send(writeQuit());
    await gone;
  }

  /** Leaves the fork server alone with its calls. */
  async leave(): Promise<void> {
    this.closing = true;
    this.socket?.destroy();
  }

  private processOf(key: string): FunctionProcess {
    return {signal: (what) => void (this.running.has(key) && this.send(writeSignal(key, what)))};
  }

  /** What is sent in one turn of the loop leaves in one write. */
  private send(frame: Buffer): void {
    if (this.outgoing.push(frame) === 1) process.nextTick(() => this.socket?.write(Buffer.concat(this.outgoing.splice(0))));
  }

  private use(socket: Socket): Promise<void> {
    const reader = new FrameReader();
    this.live.clear();
    return new Promise((resolve, reject) => {
      socket.on('data', (chunk) => {
        try {
          for (const frame of reader.push(chunk)) if (this.take(frame, socket)) resolve();
        } catch (error) {
          this.options.log.warn({}, `the fork server: ${messageOf(error)}`);
          socket.destroy();
        }
      });
      socket.on('error', (error) => this.options.log.warn({}, `the fork server: ${messageOf(error)}`));
      socket.once('close', () => {
        reject(new Error('the fork server closed the connection'));
        this.lost(socket);
      });
    });
  }

  /** True for the frame that ends the introduction. */
  private take(frame: ForkerFrame, socket: Socket): boolean {
    if (frame.type === 'welcome') {
      if (frame.version !== frameVersion) throw new Error(`speaks version ${frame.version}, and this noded ${frameVersion}`);
      this.socket = socket;
      this.unavailable = null;
      return true;
    }
    if (frame.type === 'message') {
      this.options.log.warn({}, `the fork server says: ${frame.text}`);
      return false;
    }
    if (frame.type === 'live') {
      this.live.set(frame.key, {pid: frame.pid, startTime: frame.startTime});
      return false;
    }
    const running = this.running.get(frame.key);
    if (running === undefined) {
      if (frame.type === 'ended') this.early.set(frame.key, frame);
    } else if (frame.type === 'started') {
      running.pid = frame.pid;
      running.startTime = frame.startTime;
      running.sink.started(frame.pid);
    } else if (frame.type === 'output') {
      running[frame.stream] = frame.bytes;
    } else {
      void this.ended(running, frame);
    }
    return false;
  }

  private async ended(running: Running, frame: EndedFrame): Promise<void> {
    const {key, spooled, stdout, stderr} = running;
    const {spool} = this.options;
    this.running.delete(key);
    if (!spooled) spool.keepUnspooled(key, stdout, stderr);
    const {exitCode, signal, errno, stage, endedAtMs: atMs} = frame;
    const sizes = spooled ? {stdoutBytes: frame.stdoutBytes, stderrBytes: frame.stderrBytes} : spool.sizes(key);
    running.sink.ended(await this.endingOf(running, errno === null ? {exitCode, signal, atMs} : {errno, stage, atMs}, sizes));
  }

  private endingOf({key, maxOutputBytes}: Running, ended: EndedLine, sizes: OutputSizes): Promise<Ending> {
    const {spool, newScanner} = this.options;
    return endingOfProcess(key, ended, sizes, {source: spool, newScanner, maxOutputBytes});
  }

  /** The connection is gone, and perhaps the fork server. Its calls are taken over again, or settled; and there must be another one. */
  private lost(socket: Socket): void {
    if (this.socket !== socket || this.closing) return;
    this.socket = null;
    this.outgoing = [];
    this.unavailable = 'the connection to the fork server is lost; it is being looked for';
    this.options.log.warn({calls: this.running.size}, this.unavailable);
    void this.reconnect([...this.running.values()]);
  }

  private async reconnect(before: readonly Running[]): Promise<void> {
    try {
      await this.connect();
      this.options.log.info({calls: this.live.size}, 'a fork server is there again');
    } catch (error) {
      this.options.log.warn({}, `cannot have a fork server: ${messageOf(error)}`);
      setTimeout(() => void this.reconnect(before), limits.forkServerRetryMs).unref();
      return;
    }
    await this.settle(before.filter(({key}) => !this.live.has(key) && this.running.has(key)));
  }

  /** Calls that no fork server has any more: what the journal says of them, or `lost` once their processes are dead. */
  private async settle(gone: readonly Running[]): Promise<void> {
    const {trees} = this.options;
    for (const running of gone) this.running.delete(running.key);
    for (const {key, pid, startTime, leaveRunning} of gone) if (!leaveRunning) trees.sweep({key, pid, startTime});
    await trees.idle();
    for (const running of gone) running.sink.ended(await this.endingOnFile(running));
  }

  private async endingOnFile(running: Running): Promise<Ending> {
    const {key, spooled} = running;
    const {spool} = this.options;
    const content = spooled ? spool.journal(key) : null;
    const ended = content === null ? null : (readJournal(key, content)?.ended ?? null);
    if (ended === null) return {kind: 'lost', reason: 'the fork server died under it', endedAtMs: wallMs()};
    return this.endingOf(running, ended, spool.sizes(key));
  }
}
