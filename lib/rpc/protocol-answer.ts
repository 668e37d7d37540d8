/**
 * The answers of DESIGN.md section 8, in both directions: noded writes them, a master's client reads
 * them. The result's bytes are spliced in between `head` and `tail` and cut out again, never parsed.
 */
import {NodedError, errorCodes, errorKind, startedFacts} from '../base/errors';
import type {ErrorCode, ErrorDetail} from '../base/errors';
import type {Outcome, StopCause, VisibleState} from '../base/outcome';
import {parse} from './protocol';
import type {Members} from './protocol';

/** A piece of a function's stderr: `text` begins at byte `from`, `next` is where the next piece begins. */
export interface StderrTail {
  readonly from: number;
  readonly next: number;
  /** Bytes between what was asked for and `from`, left out because the tail is bounded. */
  readonly dropped: number;
  readonly text: string;
}

export interface CallInfo {
  readonly id: string;
  readonly fnName: string;
  readonly requestId: string | null;
  readonly role: string;
  readonly state: VisibleState;
  readonly outcome: Outcome | null;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly stoppedBy: StopCause | null;
  /** Wall clock, seconds since the epoch. */
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  /** Seconds from its acceptance to its end, or to now. */
  readonly elapsed: number;
  readonly abortAt: number | null;
  readonly expiresAt: number | null;
  /** This request did not start it: an earlier one with the same request ID did. */
  readonly duplicate: boolean;
  /** Null in lists. */
  readonly stderr: StderrTail | null;
}

/** Why a call's outcome is not ok. */
export interface CallError {
  readonly code: Exclude<Outcome, 'ok'>;
  /** For people. A master's client takes up what the function said of its failure. */
  readonly message: string;
  readonly errno?: string;
  readonly stage?: string;
}

/** One table for both directions. */
const wireNames = {
  id: 'id',
  fnName: 'fn_name',
  requestId: 'request_id',
  role: 'role',
  state: 'state',
  outcome: 'outcome',
  exitCode: 'exit_code',
  signal: 'signal',
  stoppedBy: 'stopped_by',
  startedAt: 'started_at',
  endedAt: 'ended_at',
  elapsed: 'elapsed',
  abortAt: 'abort_at',
  expiresAt: 'expires_at',
  duplicate: 'duplicate',
  stderr: 'stderr',
} as const satisfies Record<keyof CallInfo, string>;

const pairs = Object.entries(wireNames) as [keyof CallInfo, string][];

type WireCall = {readonly [K in keyof CallInfo as (typeof wireNames)[K]]: CallInfo[K]};

/** Written out, because every answer has one: a loop over the table above costs ten times as much. The type holds it to the table. */
export function writeCall(call: CallInfo): WireCall {
  return {
    id: call.id,
    fn_name: call.fnName,
    request_id: call.requestId,
    role: call.role,
    state: call.state,
    outcome: call.outcome,
    exit_code: call.exitCode,
    signal: call.signal,
    stopped_by: call.stoppedBy,
    started_at: call.startedAt,
    ended_at: call.endedAt,
    elapsed: call.elapsed,
    abort_at: call.abortAt,
    expires_at: call.expiresAt,
    duplicate: call.duplicate,
    stderr: call.stderr,
  };
}

/** The `call` of an answer, or one of GET /calls. */
export function readCall(call: Readonly<Record<string, unknown>>): CallInfo {
  return Object.fromEntries(pairs.map(([name, wireName]) => [name, call[wireName] ?? null])) as unknown as CallInfo;
}

/** What stands around the result of an answer: the result's bytes go between `head` and `tail`. */
export function writeAnswer(call: CallInfo, waited: number, error: CallError | null): {readonly head: string; readonly tail: string} {
  const finished = call.state === 'ended';
  return {
    head: `{"fnc_id":${finished ? 'null' : JSON.stringify(call.id)},"finished":${finished},"result":`,
    tail: `,"call":${JSON.stringify(writeCall(call))},"waited":${waited},"error":${JSON.stringify(error)}}`,
  };
}

/** One answer of StartFunction, WaitForFunction, AbortFunction or GET /calls/ID, as a master sees it. */
export interface Answer {
  /** Null once the call has ended; `call.id` is always there. */
  readonly callId: string | null;
  readonly finished: boolean;
  /** The function's stdout, byte for byte. */
  readonly resultJson: string;
  readonly call: CallInfo;
  /** Seconds that this request waited. */
  readonly waited: number;
  readonly error: CallError | null;
}

export function readAnswer(members: Members): Answer {
  const raw = (name: string): Uint8Array => {
    const value = members.get(name);
    if (value === undefined) throw new NodedError('internal', {message: `the node's answer has no ${name}`}); // not a noded at the other end
    return value;
  };
  return {
    callId: parse(raw('fnc_id')) as string | null,
    finished: parse(raw('finished')) as boolean,
    resultJson: Buffer.from(raw('result')).toString(),
    call: readCall(parse(raw('call')) as Record<string, unknown>),
    waited: parse(raw('waited')) as number,
    error: parse(raw('error')) as CallError | null,
  };
}

// --- refusals: RFC 9457 problem documents ---

/** The problem document of a refusal. */
export function writeProblem(error: NodedError): object {
  const {detail} = error;
  return {
    type: 'about:blank',
    title: errorKind(error.code).message,
    status: error.status,
    detail: error.message,
    code: error.code,
    started: error.started,
    retry_after: error.retryAfter,
    field: detail.field,
    pointers: detail.pointers,
    outcome: detail.outcome,
    fnc_id: detail.callId,
  };
}

/** The refusal that a problem document tells of; a code that this version does not know is `internal`. */
export function readProblem(problem: Readonly<Record<string, unknown>>): NodedError {
  const text = (name: string): string | undefined => (typeof problem[name] === 'string' ? problem[name] : undefined);
  const known = errorCodes.find((code) => code === problem.code);
  const detail: ErrorDetail = {
    message: text('detail') ?? `the node answered ${text('code') ?? 'without a code'}`,
    started: startedFacts.find((fact) => fact === problem.started) ?? 'unknown',
    ...(typeof problem.retry_after === 'number' ? {retryAfter: problem.retry_after} : {}),
    ...(text('field') === undefined ? {} : {field: text('field')!}),
    ...(Array.isArray(problem.pointers) ? {pointers: problem.pointers as ErrorDetail['pointers'] & object} : {}),
    ...(text('outcome') === undefined ? {} : {outcome: text('outcome')!}),
    ...(text('fnc_id') === undefined ? {} : {callId: text('fnc_id')!}),
  };
  return new NodedError(known ?? ('internal' satisfies ErrorCode), detail);
}
