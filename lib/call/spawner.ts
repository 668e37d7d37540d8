/** What a spawner promises, and what it is told (DESIGN.md section 7). Types only. */
import type {Moment} from '../base/boot-clock';
import type {NodedError} from '../base/errors';
import type {Ending} from '../base/outcome';

/** A user that function processes run as, when it is not the daemon's own. */
export interface FunctionUser {
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/** What a function's manifest says about its calls. */
export interface FunctionSpec {
  readonly name: string;
  /** Absolute path of the program, found by scanning. */
  readonly program: string;
  readonly maxRunning: number | null;
  readonly maxOutputBytes: number;
  /** From SIGTERM to SIGKILL; 0 is never, null leaves it to the configuration. */
  readonly killAfterMs: number | null;
  readonly urgent: boolean;
  readonly leaveRunning: boolean;
  readonly user: FunctionUser | null;
  readonly nice: number | null;
  /** The value of NODED_FN_CONFIG: JSON text of `[function.NAME]` in noded.conf, if there is any. */
  readonly config: string | null;
}

export interface SpawnRequest {
  readonly key: string;
  readonly spec: FunctionSpec;
  readonly requestId: string | null;
  readonly traceparent: string | null;
  /**
   * The arguments, one JSON text; null if they are in the call's file. Those of an urgent call are always given: it may
   * have to do without files.
   */
  readonly args: Uint8Array | null;
  /** The journal's first line, if the spawner is to make the journal; null if it is there, or is not to be. */
  readonly accepted: string | null;
  /** False for an urgent call that the spool could not take: it has no files, and `args` are given. */
  readonly spooled: boolean;
}

/** Where a spawner reports; never called from inside `spawn`. */
export interface SpawnSink {
  /** At most once, before `ended`: the function process runs, since `at` by the same clocks that tell of its end. */
  started(pid: number, at: Moment): void;
  /** Exactly once, unless `refused`. */
  ended(ending: Ending): void;
  /** In place of both: the call could not be put on file, because of `errno`, so nothing was started. */
  refused(refusal: NodedError, errno: string): void;
}

export interface FunctionProcess {
  /** Its end is known and will be reported once its output has been looked at: there is nothing left to stop. */
  readonly hasEnded: boolean;
  /**
   * Signals the whole process group: SIGTERM then SIGCONT, or SIGKILL. Before `started` the signal is
   * kept and sent then; after the process was reaped nothing is sent.
   */
  signal(what: 'terminate' | 'kill'): void;
}

export interface Spawner {
  readonly name: 'child' | 'forker' | 'ganeti';
  /** Arguments of up to so many bytes go along with a request and need no file. */
  readonly inlineArgsBytes: number;
  /** It makes the journals itself, in time: no start that is not on file. */
  readonly makesJournals: boolean;
  /** Why nothing can be started now, or null. */
  readonly unavailable: string | null;
  /** Never throws: what goes wrong is reported as `ended`. */
  spawn(request: SpawnRequest, sink: SpawnSink): FunctionProcess;
}
