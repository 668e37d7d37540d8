/** What is known of one call. Only call.ts and call-table.ts write to it. */
import type {Alarm} from '../base/alarm';
import {spanMs} from '../base/boot-clock';
import type {BootTime, Moment} from '../base/boot-clock';
import type {NodedError} from '../base/errors';
import type {Ending, Outcome, StopCause} from '../base/outcome';
import type {FunctionProcess, FunctionSpec} from './spawner';
import {makeCallId} from './call-id';

/** DESIGN.md section 3. */
export const states = ['starting', 'running', 'stopping', 'ended', 'gone'] as const;
export type State = (typeof states)[number];

/** What a call was accepted with; never changes. */
export interface Acceptance {
  readonly key: string;
  readonly ppid: number;
  readonly acceptedAtMs: number;
  /** The same instant by the boot clock; null where it is not known. */
  readonly acceptedBoot: BootTime | null;
  readonly fnName: string;
  readonly requestId: string | null;
  readonly role: string;
  /** SHA-256 of the arguments' bytes, hexadecimal: tells whether a request ID is used for the same call. */
  readonly fingerprint: string;
  readonly argsBytes: number;
  readonly abortAfterMs: number | null;
  readonly reason: string | null;
  /** False for an urgent call that the spool could not take: it leaves no trace on disk. */
  readonly spooled: boolean;
}

export const acceptedMoment = ({acceptedAtMs, acceptedBoot}: Acceptance): Moment => ({atMs: acceptedAtMs, boot: acceptedBoot});

/** One call. */
export interface Call {
  readonly accepted: Acceptance;
  /** Null for a call that was read back from its journal: its function may be gone from the catalog. */
  readonly spec: FunctionSpec | null;
  /** Grows with acceptance: the order of GET /calls. */
  readonly sequence: number;
  readonly acceptedAt: number;
  state: State;
  /** There from the call of its spawner to its end: while there is anything to signal. */
  process: FunctionProcess | null;
  pid: number | null;
  /** When its process was started, as its spawner or the journal says. */
  started: Moment | null;
  /** Written once, before the signal: first reason wins. */
  stopCause: StopCause | null;
  killed: boolean;
  ending: Ending | null;
  outcome: Outcome | null;
  /** Why its start was refused after it had been accepted; then it is gone. */
  refusal: NodedError | null;
  /** Its ID has been handed out while nobody had said a word of it: it cannot be taken back. */
  named: boolean;
  /** Monotonic instants. */
  abortAt: number | null;
  endedAt: number | null;
  deliveredAt: number | null;
  expiresAt: number | null;
  timer: Alarm | null;
  timerDue: number | null;
  /** Where expiry.ts has it; -1 while nothing of it is to expire. */
  expiryPlace: number;
}

/** The record of a call that has just been accepted, or is read back from its journal. */
export function newCall(accepted: Acceptance, spec: FunctionSpec | null, sequence: number, acceptedAt: number): Call {
  return {
    accepted,
    spec,
    sequence,
    acceptedAt,
    state: 'starting',
    process: null,
    pid: null,
    started: null,
    stopCause: null,
    killed: false,
    ending: null,
    outcome: null,
    refusal: null,
    named: false,
    abortAt: null,
    endedAt: null,
    deliveredAt: null,
    expiresAt: null,
    timer: null,
    timerDue: null,
    expiryPlace: -1,
  };
}

/** The call's ID as it is known now: cpid is 0 until the process runs. */
export function callIdOf({accepted: {ppid, acceptedAtMs, key}, pid}: Call): string {
  return makeCallId({ppid, cpid: pid ?? 0, acceptedAtMs, key});
}

/** When a call was started and when it ended, by the wall clock in ms; null for what has not happened. */
export interface CallTimes {
  readonly startedAtMs: number | null;
  readonly endedAtMs: number | null;
}

/**
 * For display: never before the call's acceptance nor out of order, whatever was done to the wall clock meanwhile. From
 * start to end goes the clock that nobody sets.
 */
export function timesOf({accepted, started, ending}: Pick<Call, 'accepted' | 'started' | 'ending'>): CallTimes {
  const startedAtMs = started === null ? null : Math.max(accepted.acceptedAtMs, started.atMs);
  if (ending === null) return {startedAtMs, endedAtMs: null};
  const ended: Moment = {atMs: ending.endedAtMs, boot: ending.endedBoot};
  return {startedAtMs, endedAtMs: (startedAtMs ?? accepted.acceptedAtMs) + spanMs(started ?? acceptedMoment(accepted), ended)};
}
