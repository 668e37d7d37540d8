/** Who writes what to the journal of a call, and when: noded, or a spawner that makes the journals itself (DESIGN.md section 5). */
import {settledWithin} from '../base/alarm';
import {wallMs} from '../base/duration';
import {limits} from '../base/limits';
import type {StopCause} from '../base/outcome';
import {acceptedLine, outcomeLine, stoppingLine} from './journal';
import type {CallFiles} from './journal';
import type {Acceptance, Call} from './call-record';
import type {FunctionSpec, Spawner} from './spawner';
import {tombstoneLine} from './tombstones';
import type {Tombstone} from './tombstones';

/** What the files of a new call have come to. */
export interface Begun {
  /** The journal's first line, if the spawner is to make the journal. */
  readonly accepted: string | null;
  /** Why there are no files: only an urgent call does without. */
  readonly error: Error | null;
}

export class Journaling {
  constructor(
    private readonly spawner: Spawner,
    private readonly files: CallFiles,
  ) {}

  /** Makes the files of a new call, as far as its spawner does not; `args` are null if they need none. Throws spool_full, unless the call is urgent. */
  begin(accepted: Acceptance, {urgent, leaveRunning}: FunctionSpec, args: Uint8Array | null): Begun {
    const line = acceptedLine(accepted, leaveRunning);
    const bySpawner = this.isMadeBySpawner(urgent);
    try {
      this.files.create(accepted.key, bySpawner ? null : line, args, urgent);
      return {accepted: bySpawner ? line : null, error: null};
    } catch (error) {
      if (!urgent) throw error;
      return {accepted: null, error: error as Error};
    }
  }

  /** The ID of a call is about to be handed out: a crash must not make it unknown, and a spawner may not have made its journal yet. */
  name(call: Call): void {
    const {accepted, spec, pid, ending, named} = call;
    if (named || pid !== null || ending !== null || spec === null) return;
    call.named = true;
    if (this.isMadeBySpawner(spec.urgent)) this.files.putOnFile(accepted.key, acceptedLine(accepted, spec.leaveRunning));
  }

  /** Resolves once what has been put on file survives what it is to survive; or when a disk takes too long for that. */
  onDisk(): Promise<void> {
    return settledWithin(limits.syncGraceMs, this.files.onDisk());
  }

  stopping(call: Call, cause: StopCause, by: string): void {
    // Before anybody hears of it: who was told that a call is being stopped must not see it go on after a crash.
    if (call.accepted.spooled) this.files.putOnFile(call.accepted.key, stoppingLine(cause, by, wallMs()));
  }

  outcome(call: Call): void {
    const line = call.accepted.spooled ? outcomeLine(call) : null;
    if (line !== null) this.files.append(call.accepted.key, line);
  }

  /** The call is gone, and its tombstone takes its place: before its files go, or a crash in between would make its request ID good for a second run. */
  buried(tombstone: Tombstone): void {
    this.files.append(tombstone.key, tombstoneLine(tombstone));
  }

  /** An urgent call must know before its start whether it can have a journal: it does without. */
  private isMadeBySpawner(urgent: boolean): boolean {
    return this.spawner.makesJournals && !urgent;
  }
}
