/**
 * A spawner between the table and another one, for a run directory on a disk, which may hang, and may lose its power.
 * Nothing starts before its acceptance is on file, and nobody hears of an end before that is; with `durable` of
 * noded.conf(5) both are on the disk by then. Only an urgent function waits for no disk: it starts after
 * limits.diskGraceMs in any case, its output goes to memory, and to files in the end; and so long its end waits for
 * these.
 */
import {settledWithin} from '../base/alarm';
import {bootId} from '../base/boot-clock';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Ending} from '../base/outcome';
import {endedLine, startedLine} from '../call/journal';
import type {FunctionProcess, SpawnRequest, SpawnSink, Spawner} from '../call/spawner';
import {startTimeOf} from './process-tree';
import type {Spool} from './spool';

export interface DiskSpawnerOptions {
  readonly spool: Pick<Spool, 'append' | 'files' | 'hasUnspooled' | 'made' | 'onDisk' | 'putUnspooledOnFile' | 'refusal'>;
  readonly durable: boolean;
  readonly log: {warn(fields: object, message: string): void};
}

export class DiskSpawner implements Spawner {
  /** The table puts acceptances on file itself: this waits for that before the spawner hears of the call. */
  readonly makesJournals = false;

  constructor(
    private readonly spawner: Spawner,
    private readonly options: DiskSpawnerOptions,
  ) {}

  get name(): Spawner['name'] {
    return this.spawner.name;
  }

  get inlineArgsBytes(): number {
    return this.spawner.inlineArgsBytes;
  }

  get unavailable(): string | null {
    return this.spawner.unavailable;
  }

  spawn(request: SpawnRequest, sink: SpawnSink): FunctionProcess {
    // It has no files, and nothing of it will be known after a crash.
    if (!request.spooled) return this.spawner.spawn(request, sink);
    const call = this.newCall();
    void (request.spec.urgent ? this.startUrgent(call, request, sink) : this.start(call, request, sink));
    return call;
  }

  /** Over the process of a call that a spawner has already. */
  processOf(process: FunctionProcess): FunctionProcess {
    const call = this.newCall();
    call.isSpawned(process);
    return call;
  }

  /** The sink of such a call. */
  sinkOf(key: string, sink: SpawnSink): SpawnSink {
    return {
      started: (pid, at) => sink.started(pid, at),
      refused: (refusal, errno) => sink.refused(refusal, errno),
      ended: (ending) => void (this.options.spool.hasUnspooled(key) ? this.endUrgent(key, ending, sink) : this.end(key, ending, sink)),
    };
  }

  private newCall(): WaitingCall {
    return new WaitingCall(() => settledWithin(limits.diskGraceMs, this.options.spool.onDisk()));
  }

  private async start(call: WaitingCall, request: SpawnRequest, sink: SpawnSink): Promise<void> {
    const {key} = request;
    try {
      await this.isAccepted(key);
    } catch (error) {
      return sink.refused(this.options.spool.refusal(key, errnoOf(error)), errnoOf(error));
    }
    call.isSpawned(this.spawner.spawn(request, this.sinkOf(key, sink)));
  }

  private async isAccepted(key: string): Promise<void> {
    const {spool, durable} = this.options;
    await spool.made(key);
    if (durable) await spool.onDisk();
  }

  /** The power switch of a node must work, whatever its disk does. */
  private async startUrgent(call: WaitingCall, request: SpawnRequest, sink: SpawnSink): Promise<void> {
    const {key} = request;
    const {spool} = this.options;
    const accepted = this.isAccepted(key).catch((error: unknown) => void spool.refusal(key, errnoOf(error)));
    await settledWithin(limits.diskGraceMs, accepted);
    const process = this.spawner.spawn({...request, spooled: false}, {
      ...this.sinkOf(key, sink),
      started: (pid, at) => {
        spool.append(key, startedLine({pid, startTime: startTimeOf(pid), bootId, ...at}));
        sink.started(pid, at);
      },
      ended: (ending) => void this.endUrgent(key, ending, sink),
    });
    call.isSpawned(process);
  }

  private async end(key: string, ending: Ending, sink: SpawnSink): Promise<void> {
    const {spool, durable} = this.options;
    await this.mayFail(key, async () => {
      await this.outputOnDisk(key, ending);
      // A fork server tells of an end when that is on file.
      if (durable || !this.spawner.makesJournals) await spool.onDisk();
    });
    sink.ended(ending);
  }

  /** Its end and its output are put on file only now. */
  private async endUrgent(key: string, ending: Ending, sink: SpawnSink): Promise<void> {
    const {spool} = this.options;
    spool.putUnspooledOnFile(key);
    const line = lineOf(ending);
    if (line !== null) spool.append(key, line);
    const onFile = this.mayFail(key, async () => {
      await spool.onDisk();
      await this.outputOnDisk(key, ending);
    });
    await settledWithin(limits.diskGraceMs, onFile);
    sink.ended(ending);
  }

  private async outputOnDisk(key: string, ending: Ending): Promise<void> {
    const {spool, durable} = this.options;
    if (durable && ending.kind === 'exited' && ending.inJournal !== true) await spool.files.outputOnDisk(key, ending);
  }

  /** A call has ended all the same, and whoever waits for it must hear that. */
  private async mayFail(key: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.options.log.warn({key, errno: errnoOf(error)}, `the end of a call may not be on disk: ${messageOf(error)}`);
    }
  }
}

/** What a spawner would have written of an end; null of one that nobody saw. */
function lineOf(ending: Ending): string | null {
  const moment = {atMs: ending.endedAtMs, boot: ending.endedBoot};
  if (ending.kind === 'not_started') return endedLine({...moment, errno: ending.errno, stage: ending.stage});
  if (ending.kind === 'lost') return null;
  const {exitCode, signal, stdoutBytes, stderrBytes} = ending;
  return endedLine({...moment, exitCode, signal, sizes: {stdoutBytes, stderrBytes}});
}

/**
 * Before its spawner has it, a signal is kept; and after that until it is on file who wants it: an end by a signal that
 * nobody sent would be another end.
 */
class WaitingCall implements FunctionProcess {
  private process: FunctionProcess | null = null;
  private wanted: 'terminate' | 'kill' | null = null;

  constructor(private readonly onFile: () => Promise<void>) {}

  get hasEnded(): boolean {
    return this.process !== null && this.process.hasEnded;
  }

  signal(what: 'terminate' | 'kill'): void {
    if (this.process === null && this.wanted !== 'kill') this.wanted = what;
    const {process} = this;
    if (process !== null) void this.onFile().then(() => process.signal(what));
  }

  isSpawned(process: FunctionProcess): void {
    this.process = process;
    if (this.wanted !== null) this.signal(this.wanted);
  }
}
