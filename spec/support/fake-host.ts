/** One call without a table: the host that its actions see, and calls in every state. */
import {monotonicMs, wallMs} from '../../lib/base/duration';
import {NodedError} from '../../lib/base/errors';
import type {StopCause} from '../../lib/base/outcome';
import {dispatch} from '../../lib/call/call';
import {newCall as makeCall} from '../../lib/call/call-record';
import type {Acceptance, Call, State} from '../../lib/call/call-record';
import type {CallHost, EventName} from '../../lib/call/call';
import type {FunctionSpec} from '../../lib/call/spawner';
import {wallStartMs} from './clock';
import {FakeProcess, exited, functionSpec} from './fake-spawner';

export const hostKillAfterMs = 10_000;
export const hostKeepResultMs = 3_600_000;
export const hostUnkillableMs = 15_000;

/** Writes down what a call does. */
export class FakeHost implements CallHost {
  readonly killAfterMs = hostKillAfterMs;
  readonly keepResultMs = hostKeepResultMs;
  readonly unkillableMs = hostUnkillableMs;
  readonly steps: string[] = [];

  journalStopping(_call: Call, cause: StopCause, by: string): void {
    this.steps.push(`stopping ${cause} by ${by}`);
  }
  journalOutcome(call: Call): void {
    this.steps.push(`outcome ${call.outcome}`);
  }
  changed(call: Call, from: State): void {
    this.steps.push(`${from} → ${call.state}`);
  }
  keepUntil({expiresAt}: Call): void {
    this.steps.push(`kept until ${expiresAt}`);
  }
  unkillable(): void {
    this.steps.push('unkillable');
  }
  bug(_call: Call, event: EventName): void {
    this.steps.push(`bug ${event}`);
  }
}

/** A process whose spawner hears nothing. */
export const silentProcess = (): FakeProcess =>
  new FakeProcess({key: '0123456789abcdef', spec: functionSpec(), requestId: null, traceparent: null, args: null, accepted: null, spooled: true}, {started: () => {}, ended: () => {}, refused: () => {}});

export function acceptance(facts: Partial<Acceptance> = {}): Acceptance {
  return {
    key: '0123456789abcdef',
    ppid: 4121,
    acceptedAtMs: wallMs(),
    acceptedBoot: null,
    fnName: 'echo',
    requestId: null,
    role: 'master',
    fingerprint: 'f'.repeat(64),
    argsBytes: 2,
    abortAfterMs: null,
    reason: null,
    spooled: true,
    ...facts,
  };
}

export function newCall(facts: Partial<Acceptance> = {}, spec: FunctionSpec | null = functionSpec()): Call & {process: FakeProcess} {
  return {...makeCall(acceptance(facts), spec, 1, monotonicMs()), process: silentProcess()};
}

/** An event of each kind, with what it may say. */
export const someEvent = {
  started: {pid: 4189, at: {atMs: wallStartMs + 7, boot: null}},
  ended: {ending: exited()},
  refused: {refusal: new NodedError('spool_full'), errno: 'ENOSPC'},
  timer: {},
  abort: {by: 'master', killAfterMs: null},
  shutdown: {killAfterMs: 20_000},
  kill: {},
  forget: {},
  evict: {},
} as const;

/** A call that came to `state` on the way that calls take. A stopping one was aborted and has no timer. */
export function callIn(state: State, host: CallHost, spec: FunctionSpec | null = functionSpec()): Call & {process: FakeProcess} {
  const call = newCall({}, spec);
  if (state !== 'starting') dispatch(call, 'started', {...someEvent.started, pid: 4188}, host);
  if (state === 'stopping') dispatch(call, 'abort', {by: 'master', killAfterMs: 0}, host);
  if (state === 'ended' || state === 'gone') dispatch(call, 'ended', someEvent.ended, host);
  if (state === 'gone') dispatch(call, 'forget', someEvent.forget, host);
  return call;
}
