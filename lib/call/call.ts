/**
 * The life of ONE call (DESIGN.md section 3): states, events, the table, the actions. Read top-down it is the
 * specification. Nothing here awaits; a call is touched by its spawner's sink, its one timer and masters' requests.
 */
import {Alarm} from '../base/alarm';
import {momentNow} from '../base/boot-clock';
import type {Moment} from '../base/boot-clock';
import {monotonicMs} from '../base/duration';
import {NodedError} from '../base/errors';
import {outcomeOf} from '../base/outcome';
import type {Ending, StopCause} from '../base/outcome';
import {callIdOf} from './call-record';
import type {Call, State} from './call-record';

interface Events {
  /** The spawner: the function process runs. */
  started: {readonly pid: number; readonly at: Moment};
  /** The spawner: it has ended, or could not be started. */
  ended: {readonly ending: Ending};
  /** The spawner: it could not be put on file, so nothing was started. */
  refused: {readonly refusal: NodedError; readonly errno: string};
  /** The one timer; its meaning is the state it fires in. */
  timer: object;
  /** AbortFunction. `killAfterMs` null: as the function's manifest says. */
  abort: {readonly by: string; readonly killAfterMs: number | null};
  /** The daemon stops. `killAfterMs` for functions whose manifest names none. */
  shutdown: {readonly killAfterMs: number};
  /** A second signal to the stopping daemon: SIGKILL now. */
  kill: object;
  /** ForgetFunction: the master has what it needs. */
  forget: object;
  /** Retention: its time is up, or room is needed. */
  evict: object;
}
export type EventName = keyof Events;
export const eventNames = ['started', 'ended', 'refused', 'timer', 'abort', 'shutdown', 'kill', 'forget', 'evict'] as const satisfies readonly EventName[];

/** What the actions need of the many; call-table.ts is the one host. */
export interface CallHost {
  /** Seconds from SIGTERM to SIGKILL of an abort or a deadline, where neither master nor manifest says. */
  readonly killAfterMs: number;
  readonly keepResultMs: number;
  /** SIGKILL has not ended it for this long: said in the log, again and again. */
  readonly unkillableMs: number;
  /** It has ended, and its result goes at its `expiresAt`. */
  keepUntil(call: Call): void;
  journalStopping(call: Call, cause: StopCause, by: string): void;
  journalOutcome(call: Call): void;
  /** The one announcer: after each change of state. */
  changed(call: Call, from: State): void;
  unkillable(call: Call): void;
  /** An event that cannot happen in this state. Changes nothing. */
  bug(call: Call, event: EventName): void;
}

type Action<E extends EventName> = (call: Call, event: Events[E], host: CallHost) => State;

/** Sets the call's one timer; null clears it. */
function arm(call: Call, due: number | null, host: CallHost): void {
  call.timer?.clear();
  call.timerDue = due;
  call.timer = due === null ? null : new Alarm(due, () => fire(call, host));
}

function fire(call: Call, host: CallHost): void {
  call.timer = null;
  dispatch(call, 'timer', {}, host);
}

/** Arms SIGKILL `graceMs` after `from`; 0 is never. A sooner SIGKILL that is already due stays. */
function armKill(call: Call, from: number, graceMs: number, host: CallHost): void {
  if (graceMs === 0 || call.killed) return;
  const due = from + graceMs;
  if (call.timerDue === null || due < call.timerDue) arm(call, due, host);
}

const deadlineGrace = (call: Call, host: CallHost): number => call.spec?.killAfterMs ?? host.killAfterMs;

function terminate(call: Call, killAfterMs: number, host: CallHost): void {
  call.process!.signal('terminate');
  arm(call, null, host);
  armKill(call, monotonicMs(), killAfterMs, host);
  // abort_after holds also for a call that was stopped before it, however patiently; if it passed while no noded ran, there is a grace all the same.
  if (call.abortAt !== null) armKill(call, Math.max(call.abortAt, monotonicMs()), deadlineGrace(call, host), host);
}

/** Facts first: of what has ended by itself, only its output has still to be looked at. */
const hasEnded = (call: Call): boolean => call.process!.hasEnded;

function stop(call: Call, cause: StopCause, by: string, killAfterMs: number, host: CallHost): State {
  if (hasEnded(call)) return call.state;
  call.stopCause = cause;
  host.journalStopping(call, cause, by);
  terminate(call, killAfterMs, host);
  return 'stopping';
}

const abortGrace = (call: Call, event: Events['abort'], host: CallHost): number => event.killAfterMs ?? deadlineGrace(call, host);
const shutdownGrace = (call: Call, {killAfterMs}: Events['shutdown']): number => call.spec?.killAfterMs ?? killAfterMs;

const bug =
  <E extends EventName>(name: E): Action<E> =>
  (call, _event, host) => {
    host.bug(call, name);
    return call.state;
  };
const stay = (call: Call): State => call.state;

const leave = (call: Call, _event: object, host: CallHost): State => {
  arm(call, null, host);
  return 'gone';
};
const run: Action<'started'> = (call, {pid, at}) => {
  call.pid = pid;
  call.started = at;
  return 'running';
};
/** The stop came before the process: it runs now, and its spawner has the signal. */
const runStopping: Action<'started'> = (call, event, host) => {
  run(call, event, host);
  return 'stopping';
};
const finish: Action<'ended'> = (call, {ending}, host) => {
  call.ending = ending;
  call.outcome = outcomeOf(ending, call.stopCause);
  call.endedAt = monotonicMs();
  call.process = null;
  host.journalOutcome(call);
  arm(call, null, host);
  keepUntil(call, call.endedAt + host.keepResultMs, host);
  return 'ended';
};
/** It never was a call: nobody hears of it again but who waits for its start. Unless somebody has its ID: then it has failed. */
const withdraw: Action<'refused'> = (call, {refusal, errno}, host) => {
  const {atMs, boot} = momentNow();
  if (call.named) return finish(call, {ending: {kind: 'not_started', errno, stage: 'journal', endedAtMs: atMs, endedBoot: boot}}, host);
  call.refusal = refusal;
  call.process = null;
  return leave(call, {}, host);
};
const stopDeadline: Action<'timer'> = (call, _event, host) => stop(call, 'deadline', 'noded', deadlineGrace(call, host), host);
const stopAborted: Action<'abort'> = (call, event, host) => stop(call, 'aborted', event.by, abortGrace(call, event, host), host);
const stopShutdown: Action<'shutdown'> = (call, event, host) => stop(call, 'shutdown', 'noded', shutdownGrace(call, event), host);
/** A second reason to stop changes nothing but the time of SIGKILL, and that only to sooner. */
function hasten(call: Call, graceMs: number, host: CallHost): State {
  armKill(call, monotonicMs(), graceMs, host);
  return call.state;
}
const hastenAbort: Action<'abort'> = (call, event, host) => hasten(call, abortGrace(call, event, host), host);
const hastenShutdown: Action<'shutdown'> = (call, event, host) => hasten(call, shutdownGrace(call, event), host);
const kill = (call: Call, _event: object, host: CallHost): State => {
  call.killed = true;
  call.process!.signal('kill');
  arm(call, monotonicMs() + host.unkillableMs, host);
  return call.state;
};
/** The grace is over; or SIGKILL was sent long ago, and is sent again. */
const killLate: Action<'timer'> = (call, event, host) => {
  if (hasEnded(call)) return call.state;
  if (call.killed) host.unkillable(call);
  return kill(call, event, host);
};
const stopKilled: Action<'kill'> = (call, event, host) => {
  const state = stop(call, 'shutdown', 'noded', 0, host);
  if (state === 'stopping') kill(call, event, host);
  return state;
};
const refuseForget: Action<'forget'> = (call) => {
  throw new NodedError('still_running', {callId: callIdOf(call)});
};

const table: {readonly [S in State]: {readonly [E in EventName]: Action<E>}} = {
  starting: {
    started: run,
    ended: finish,
    refused: withdraw,
    timer: stopDeadline,
    abort: stopAborted,
    shutdown: stopShutdown,
    kill: stopKilled,
    forget: refuseForget,
    evict: bug('evict'),
  },
  running: {
    started: bug('started'),
    ended: finish,
    refused: bug('refused'),
    timer: stopDeadline,
    abort: stopAborted,
    shutdown: stopShutdown,
    kill: stopKilled,
    forget: refuseForget,
    evict: bug('evict'),
  },
  stopping: {
    started: runStopping,
    ended: finish,
    refused: withdraw,
    timer: killLate,
    abort: hastenAbort,
    shutdown: hastenShutdown,
    kill,
    forget: refuseForget,
    evict: bug('evict'),
  },
  ended: {
    started: bug('started'),
    ended: bug('ended'),
    refused: bug('refused'),
    timer: bug('timer'),
    abort: stay,
    shutdown: stay,
    kill: stay,
    forget: leave,
    evict: leave,
  },
  gone: {
    started: bug('started'),
    ended: bug('ended'),
    refused: bug('refused'),
    timer: bug('timer'),
    abort: bug('abort'),
    shutdown: bug('shutdown'),
    kill: bug('kill'),
    forget: bug('forget'),
    evict: bug('evict'),
  },
};

/** Feeds one event to a call. Throws a NodedError where the cell refuses; then nothing has changed. */
export function dispatch<E extends EventName>(call: Call, name: E, event: Events[E], host: CallHost): void {
  const from = call.state;
  const action = table[from][name] as Action<E>;
  const to = action(call, event, host);
  if (to === from) return;
  call.state = to;
  host.changed(call, from);
}

/** Starts the clock of a new call: `abort_after` counts from its acceptance. */
export function armDeadline(call: Call, host: CallHost): void {
  if (call.accepted.abortAfterMs === null) return;
  call.abortAt = call.acceptedAt + call.accepted.abortAfterMs;
  arm(call, call.abortAt, host);
}

/** Sets when the result goes: at the end, on delivery, and for calls read back from the log. */
export function keepUntil(call: Call, expiresAt: number, host: CallHost): void {
  call.expiresAt = expiresAt;
  host.keepUntil(call);
}

/** A call of an earlier noded goes on: as running, or as stopping for the reason that is on file. */
export function resume(call: Call, facts: Pick<Call, 'pid' | 'started' | 'stopCause'>, host: CallHost): void {
  Object.assign(call, facts);
  call.state = call.stopCause === null ? 'running' : 'stopping';
  host.changed(call, 'starting');
  armDeadline(call, host);
  if (call.stopCause === null) return;
  // Whether the signal went out before that noded died, nobody knows; a second one does no harm. stop_kill_after was for that noded's stop.
  terminate(call, call.stopCause === 'shutdown' ? shutdownGrace(call, {killAfterMs: 0}) : deadlineGrace(call, host), host);
}
