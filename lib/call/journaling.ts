/** Who writes what to the journal of a call, and when: noded, or a spawner that makes the journals itself (DESIGN.md section 5). */
import {wallMs} from '../base/duration';
import type {StopCause} from '../base/outcome';
import {acceptedLine, outcomeLine, stoppingLine} from './journal';
import type {CallFiles} from './journal';
import type {Acceptance, Call} from './call-record';
import type {FunctionSpec, Spawner} from './spawner';

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
    if (named || pid !== null || ending !== null || spec === null || !this.isMadeBySpawner(spec.urgent)) return;
    call.named = true;
    this.files.putOnFile(accepted.key, acceptedLine(accepted, spec.leaveRunning));
  }

  stopping(call: Call, cause: StopCause, by: string): void {
    this.name(call); // else there may be nothing yet to append to
    if (call.accepted.spooled) this.files.append(call.accepted.key, stoppingLine(cause, by, wallMs()));
  }

  /** `torn`: the last line of the journal was cut short. */
  outcome(call: Call, torn: boolean): void {
    const line = call.accepted.spooled ? outcomeLine(call) : null;
    if (line !== null) this.files.append(call.accepted.key, (torn ? '\n' : '') + line);
  }

  /** An urgent call must know before its start whether it can have a journal: it does without. */
  private isMadeBySpawner(urgent: boolean): boolean {
    return this.spawner.makesJournals && !urgent;
  }
}
