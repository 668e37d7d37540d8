/**
 * A spawner over a fork server's socket (DESIGN.md section 7). The fork server starts, reaps and kills;
 * it outlives the daemon, so calls that run are taken over by the next one.
 */
import type {Socket} from 'node:net';
import {setTimeout as pause} from 'node:timers/promises';
import {Alarm} from '../base/alarm';
import {momentNow} from '../base/boot-clock';
import {monotonicMs} from '../base/duration';
import {messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {KnownSizes} from '../base/outcome';
import type {FunctionProcess, SpawnRequest, SpawnSink, Spawner} from '../call/spawner';
import {environment} from './environment';
import {EarlyEnds, RecentEnds, newRunning} from './fork-call';
import type {LiveCall, Running} from './fork-call';
import {settle} from './fork-settlement';
import {FrameReader, frameVersion, isKnownVersion, maxInlineArgsBytes, writeQuit, writeSegment, writeSignal, writeStart, writesLog} from './fork-frames';
import type {EndedFrame, ForkerFrame, OutputFrame} from './fork-frames';
import {closes, isWithoutForkServer, reachForkServer} from './fork-server';
import type {ForkServerProgram} from './fork-server';
import {EarlierForker} from './earlier-forker';
import {endingOfProcess} from './ending';
import type {EndingOptions} from './ending';
import type {OutputScanner} from './output';
import {sealLine} from './log-lines';
import type {ProcessTrees} from './process-tree';
import type {Spool} from './spool';

export interface ForkSpawnerOptions extends ForkServerProgram {
  readonly spool: Spool;
  readonly trees: ProcessTrees;
  readonly newScanner: () => OutputScanner;
  readonly log: {info(fields: object, message: string): void; warn(fields: object, message: string): void};
}

export class ForkSpawner implements Spawner {
  readonly makesJournals = true;
  readonly inlineArgsBytes = maxInlineArgsBytes;
  /** Functions of the fork server that was connected last; their specs have `ganeti:NAME` for a program. */
  builtIns: ReadonlySet<string> = new Set();
  unavailable: string | null = 'the fork server is not connected yet';
  private socket: Socket | null = null;
  private readonly running = new Map<string, Running>();
  private readonly live = new Map<string, LiveCall>();
  private readonly names = new Set<string>();
  private readonly early = new EarlyEnds();
  private readonly recentEnds = new RecentEnds();
  private outgoing: Buffer[] = [];
  private closing = false;
  /** Stands in for the fork server where that knows nothing of the log; else null. */
  private earlier: EarlierForker | null = null;

  constructor(private readonly options: ForkSpawnerOptions) {}

  get name(): 'forker' | 'ganeti' {
    return this.builtIns.size === 0 ? 'forker' : 'ganeti';
  }

  /** Connects to the fork server that is there, or starts one. Resolves with the calls that it runs. */
  async connect(): Promise<ReadonlyMap<string, LiveCall>> {
    for (const due = monotonicMs() + limits.forkServerStartMs; ; ) {
      try {
        await this.use(await reachForkServer(this.options));
        return new Map(this.live);
      } catch (error) {
        // One that was about to leave, or that just began in another's place: both pass.
        if (monotonicMs() > due - limits.forkServerRetryMs) throw error;
        await pause(limits.forkServerRetryMs / 5);
      }
    }
  }

  spawn(request: SpawnRequest, sink: SpawnSink): FunctionProcess {
    const {key, spec, args, accepted, spooled} = request;
    const {leaveRunning, maxOutputBytes} = spec;
    const env = Object.entries(environment(request)).map(([name, value]) => `${name}=${value}`);
    const running = newRunning({key, leaveRunning, maxOutputBytes, spooled, sink, start: {key, spec, env, spooled, args, accepted}});
    this.running.set(key, running);
    this.sendStart(running);
    return this.processOf(running);
  }

  /** Takes over a call of an earlier daemon; its end is reported to `sink`. */
  adopt(key: string, {leaveRunning, maxOutputBytes}: {readonly leaveRunning: boolean; readonly maxOutputBytes: number}, sink: SpawnSink): FunctionProcess {
    const live = this.live.get(key);
    const running: Running = {...newRunning({key, leaveRunning, maxOutputBytes, spooled: true, sink, start: null}), ...(live && {pid: live.pid, startTime: live.startTime})};
    this.running.set(key, running);
    const early = this.early.take(key);
    if (early.length > 0) setImmediate(() => early.forEach((frame) => this.tell(running, frame)));
    // Its fork server died meanwhile, and another one is here; otherwise it is seen to when there is one.
    else if (this.socket !== null && !this.live.has(key)) setImmediate(() => void this.settle([running]));
    return this.processOf(running);
  }

  /** Ends the fork server and whatever it still runs; resolves when it has gone, or does not go. */
  async quit(): Promise<void> {
    this.closing = true;
    const {socket} = this;
    if (socket === null || socket.destroyed) return;
    this.send(writeQuit());
    if (!(await closes(socket))) this.options.log.warn({}, 'the fork server does not end');
  }

  /** Leaves the fork server alone with its calls. What was sent to it still reaches it. */
  async leave(): Promise<void> {
    this.closing = true;
    const {socket} = this;
    if (socket === null || socket.destroyed) return;
    this.flush();
    socket.end();
    await closes(socket);
    socket.destroy();
  }

  private processOf(running: Running): FunctionProcess {
    const hasEnded = (): boolean => this.running.get(running.key) !== running;
    return {
      get hasEnded() {
        return hasEnded();
      },
      signal: (what) => {
        if (hasEnded()) return;
        if (running.wanted !== 'kill') running.wanted = what;
        this.send(writeSignal(running.key, what));
      },
    };
  }

  private sendStart({start, tries}: Running): void {
    if (start === null) return;
    const {key, accepted} = start;
    const line = accepted === null ? null : (this.earlier?.firstLine(accepted) ?? sealLine(key, accepted));
    this.send(writeStart({...start, accepted: line, lastTry: tries >= limits.busyProgramTries}));
  }

  /** What is sent in one turn of the loop leaves in one write. Without a connection nothing is kept: what still counts is sent again. */
  private send(frame: Buffer): void {
    if (this.socket !== null && this.outgoing.push(frame) === 1) setImmediate(() => this.flush());
  }

  private flush(): void {
    if (this.outgoing.length > 0) this.socket?.write(Buffer.concat(this.outgoing));
    this.outgoing = [];
  }

  private use(socket: Socket): Promise<void> {
    const reader = new FrameReader();
    let problem: unknown = new Error('the fork server closed the connection');
    this.live.clear();
    this.names.clear();
    return new Promise((resolve, reject) => {
      const alarm = new Alarm(monotonicMs() + limits.forkServerStartMs, () => socket.destroy(new Error('it does not say a word')));
      socket.on('data', (chunk) => {
        try {
          for (const frame of reader.push(chunk)) this.take(frame, socket, resolve);
        } catch (error) {
          problem = error;
          this.options.log.warn({}, `the fork server: ${messageOf(error)}`);
          socket.destroy();
        }
        if (this.socket === socket) alarm.clear();
      });
      socket.on('error', (error) => this.options.log.warn({}, `the fork server: ${messageOf(error)}`));
      socket.once('close', () => {
        alarm.clear();
        reject(problem);
        this.lost(socket);
      });
    });
  }

  private take(frame: ForkerFrame, socket: Socket, introduced: () => void): void {
    if (frame.type === 'message') return this.options.log.warn({}, `the fork server says: ${frame.text}`);
    if (frame.type === 'built_in') return void this.names.add(frame.name);
    if (frame.type === 'live') return void this.live.set(frame.key, frame);
    if (frame.type === 'segment') return this.options.spool.log.usedFrom(frame.number);
    if (frame.type === 'welcome') {
      const isOurs = frame.version === frameVersion;
      if (!isOurs && (this.live.size === 0 || !isKnownVersion(frame.version))) return this.partWith(socket, frame.version);
      this.socket = socket;
      this.builtIns = new Set(this.names);
      this.shareLog(frame.version);
      this.unavailable = null;
      for (const [key, live] of this.live) this.attach(this.running.get(key), live);
      return introduced();
    }
    const running = this.running.get(frame.key);
    if (running === undefined) {
      if (frame.type === 'ended' || frame.type === 'output') this.early.add(frame);
    } else if (frame.type === 'started') this.started(running, frame);
    else if (frame.type === 'busy') this.tryLater(running);
    else this.tell(running, frame);
  }

  private tell(running: Running, frame: EndedFrame | OutputFrame): void {
    if (frame.type === 'ended') void this.ended(running, frame);
    else running[frame.stream] = frame.bytes;
  }

  /** Before any start: no line goes to a segment that is read no more. */
  private shareLog(version: number): void {
    const {log} = this.options.spool;
    this.earlier = writesLog(version) ? null : new EarlierForker(this.options.spool);
    log.usedFrom(this.earlier === null ? 0 : Infinity);
    log.onSegment = (number) => {
      if (this.earlier === null) this.send(writeSegment(number));
    };
    log.onSegment(log.current);
  }

  /** Of another version. With nothing to do it makes way; the calls of a later one cannot be taken over, and may go on. */
  private partWith(socket: Socket, version: number): never {
    if (this.live.size === 0) socket.write(writeQuit());
    throw new Error(`it speaks version ${version}, and this noded ${frameVersion}; calls that run there: ${this.live.size}`);
  }

  /** A call that went on while there was no connection. */
  private attach(running: Running | undefined, live: LiveCall): void {
    if (running === undefined) return;
    if (running.pid === 0) this.started(running, live);
    if (running.wanted !== null) this.send(writeSignal(running.key, running.wanted));
  }

  private started(running: Running, live: LiveCall): void {
    const {pid, startTime, at} = live;
    this.earlier?.started(running, live);
    // A signal that came before could not find it.
    const again = running.tries > 1;
    Object.assign(running, {pid, startTime, start: null});
    if (again && running.wanted !== null) this.send(writeSignal(running.key, running.wanted));
    running.sink.started(pid, at ?? momentNow());
  }

  private tryLater(running: Running): void {
    running.tries += 1;
    if (running.tries === 2) this.options.log.warn({key: running.key, program: running.start?.spec.program}, 'a program is being written; its start is tried again');
    setTimeout(() => {
      if (this.running.get(running.key) === running) this.sendStart(running);
    }, limits.busyProgramPauseMs);
  }

  private async ended(running: Running, frame: EndedFrame): Promise<void> {
    const {key, leaveRunning, spooled, stdout, stderr} = running;
    const {spool} = this.options;
    this.running.delete(key);
    if (!leaveRunning) this.recentEnds.add(key);
    const {exitCode, signal, errno, stage, atMs, boot, noted} = frame;
    if (errno !== null && stage === 'journal') return running.sink.refused(spool.refusal(key, errno), errno);
    // One of an earlier daemon may have run without files too.
    const hasFiles = spooled && stdout.length + stderr.length === 0;
    if (!hasFiles) spool.keepUnspooled(key, {stdout, stderr});
    if (noted !== null) spool.keepNoted(key, noted);
    const ended = errno === null ? {exitCode, signal, atMs, boot} : {errno, stage, atMs, boot};
    this.earlier?.ended(running, ended, frame);
    const sizes: KnownSizes = hasFiles ? {...frame, inJournal: noted !== null} : spool.sizes(key);
    running.sink.ended(await endingOfProcess(key, ended, sizes, this.endingOptions(running)));
  }

  private endingOptions({spooled, maxOutputBytes}: Running): EndingOptions {
    const {spool, newScanner} = this.options;
    return {files: spool, newScanner, maxOutputBytes: spooled ? maxOutputBytes : Math.min(maxOutputBytes, limits.maxUnspooledBytes)};
  }

  /** The connection is gone, and perhaps the fork server. Its calls are taken over again, or settled; and there must be another one. */
  private lost(socket: Socket): void {
    if (this.socket !== socket || this.closing) return;
    this.socket = null;
    this.outgoing = [];
    this.unavailable = 'the connection to the fork server is lost; it is being looked for';
    this.options.log.warn({calls: this.running.size}, this.unavailable);
    for (const key of this.recentEnds.take()) this.options.trees.sweep({key, pid: 0, startTime: null});
    void this.reconnect();
  }

  private async reconnect(): Promise<void> {
    if (this.closing) return;
    try {
      await this.connect();
    } catch (error) {
      this.options.log.warn({}, `cannot have a fork server: ${messageOf(error)}`);
      setTimeout(() => void this.reconnect(), limits.forkServerRetryMs).unref();
      // Nobody shall wait for calls that ended with it until there is another one.
      if (isWithoutForkServer(this.options.runDir)) await this.settle([...this.running.values()]);
      return;
    }
    // The daemon has been told to end meanwhile.
    if (this.closing) return this.quit();
    this.options.log.info({calls: this.live.size}, 'a fork server is there again');
    await this.settle([...this.running.values()].filter(({key}) => !this.live.has(key)));
  }

  /** Calls that no fork server has any more. */
  private async settle(gone: readonly Running[]): Promise<void> {
    for (const {key} of gone) this.running.delete(key);
    await settle(gone, this.options, (running, live) => this.started(running, live), (running) => this.endingOptions(running));
  }
}
