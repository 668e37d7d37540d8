/**
 * A spawner between the table and another one, for `durable` of noded.conf(5): nothing starts before its acceptance is on
 * disk, and nobody hears of an end before that and what the function wrote are. It knows nothing of how either is done.
 */
import {setTimeout as pause} from 'node:timers/promises';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Ending} from '../base/outcome';
import type {FunctionProcess, SpawnRequest, SpawnSink, Spawner} from '../call/spawner';
import type {Spool} from './spool';

export interface DurableSpawnerOptions {
  readonly spool: Pick<Spool, 'onDisk' | 'outputOnDisk' | 'refusal'>;
  readonly log: {warn(fields: object, message: string): void};
}

export class DurableSpawner implements Spawner {
  /** The table puts the acceptance on file itself, so that it can be synced before the spawner hears of the call. */
  readonly makesJournals = false;

  constructor(
    private readonly spawner: Spawner,
    private readonly options: DurableSpawnerOptions,
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
    const call = new DurableCall();
    void this.start(call, request, sink);
    return call;
  }

  /** The sink of a call that a spawner has already. */
  sinkOf(key: string, sink: SpawnSink): SpawnSink {
    return {
      started: (pid, at) => sink.started(pid, at),
      refused: (refusal, errno) => sink.refused(refusal, errno),
      ended: (ending) => void this.end(key, ending, sink),
    };
  }

  private async start(call: DurableCall, request: SpawnRequest, sink: SpawnSink): Promise<void> {
    const {key, spec} = request;
    const {spool} = this.options;
    try {
      // The power switch of a node must work, whatever its disk does.
      await Promise.race([spool.onDisk(), ...(spec.urgent ? [pause(limits.urgentSyncMs)] : [])]);
    } catch (error) {
      if (!spec.urgent) return sink.refused(spool.refusal(key, errnoOf(error)), errnoOf(error));
    }
    call.isSpawned(this.spawner.spawn(request, this.sinkOf(key, sink)));
  }

  private async end(key: string, ending: Ending, sink: SpawnSink): Promise<void> {
    try {
      if (ending.kind === 'exited' && ending.inJournal !== true) await this.options.spool.outputOnDisk(key, ending);
      await this.options.spool.onDisk();
    } catch (error) {
      // It has ended all the same, and whoever waits for it must hear that.
      this.options.log.warn({key, errno: errnoOf(error)}, `the end of a call may not be on disk: ${messageOf(error)}`);
    }
    sink.ended(ending);
  }
}

/** Before its spawner has it, a signal is kept. */
class DurableCall implements FunctionProcess {
  private process: FunctionProcess | null = null;
  private wanted: 'terminate' | 'kill' | null = null;

  get hasEnded(): boolean {
    return this.process !== null && this.process.hasEnded;
  }

  signal(what: 'terminate' | 'kill'): void {
    if (this.process !== null) this.process.signal(what);
    else if (this.wanted !== 'kill') this.wanted = what;
  }

  isSpawned(process: FunctionProcess): void {
    this.process = process;
    if (this.wanted !== null) process.signal(this.wanted);
  }
}
