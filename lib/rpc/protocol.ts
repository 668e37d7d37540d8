/**
 * The requests of DESIGN.md section 8 and their checks; protocol-answer.ts has the answers. Wire names
 * are snake_case and durations are seconds; code is camelCase and ms. Only these two files translate.
 * An object of the wire comes in as its members' raw JSON texts, so that fn_args passes through as bytes.
 */
import {secondsToMs} from '../base/duration';
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {visibleStates} from '../base/outcome';
import type {VisibleState} from '../base/outcome';

export const protocolVersion = 1;

/** The members of one JSON object: name to raw JSON text. */
export type Members = ReadonlyMap<string, Uint8Array>;

export type CallReference = {readonly callId: string} | {readonly requestId: string};

export interface StartFunctionRequest {
  readonly fnName: string;
  readonly fnArgs: Uint8Array;
  readonly timeoutMs: number;
  readonly requestId: string | null;
  readonly abortAfterMs: number | null;
  readonly stderrFrom: number | null;
  readonly reason: string | null;
}
export interface WaitForFunctionRequest {
  readonly call: CallReference;
  readonly timeoutMs: number;
  readonly stderrFrom: number | null;
  readonly wakeOnStderr: boolean;
}
export interface WaitForFunctionsRequest {
  readonly callIds: readonly string[];
  readonly timeoutMs: number;
}
export interface AbortFunctionRequest {
  readonly call: CallReference;
  readonly timeoutMs: number;
  readonly killAfterMs: number | null;
}
export interface ForgetFunctionRequest {
  readonly callId: string;
}
export interface ListCallsRequest {
  readonly state: VisibleState | null;
  readonly fnName: string | null;
  readonly role: string | null;
  readonly limit: number;
  /** The sequence number after which to go on; 0 from the start. */
  readonly cursor: number;
}

// --- checks of single members ---

type Decode<T> = (raw: Uint8Array, name: string) => T;

function bad(name: string, what: string): NodedError {
  return new NodedError('bad_field', {field: name, message: `${name} ${what}`});
}

/** The value of one member's raw JSON text. */
export const parse = (raw: Uint8Array): unknown => JSON.parse(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString());

const string =
  (pattern: RegExp, what: string): Decode<string> =>
  (raw, name) => {
    const value = parse(raw);
    if (typeof value !== 'string' || !pattern.test(value)) throw bad(name, `must be ${what}`);
    return value;
  };

const duration = (raw: Uint8Array, name: string, code: 'bad_field' | 'bad_timeout', maxMs: number): number => {
  const value = parse(raw);
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return secondsToMs(value, maxMs);
  throw new NodedError(code, {field: name, message: `${name} must be a number of seconds, 0 or more`});
};

const bytes: Decode<Uint8Array> = (raw) => raw;
const boolean: Decode<boolean> = (raw, name) => {
  const value = parse(raw);
  if (typeof value !== 'boolean') throw bad(name, 'must be true or false');
  return value;
};
const count: Decode<number> = (raw, name) => {
  const value = parse(raw);
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw bad(name, 'must be a whole number, 0 or more');
  return value as number;
};
const seconds: Decode<number> = (raw, name) => duration(raw, name, 'bad_field', limits.maxDurationMs);
const positiveSeconds: Decode<number> = (raw, name) => {
  const value = seconds(raw, name);
  if (value === 0) throw bad(name, 'must be over 0');
  return value;
};
const timeout: Decode<number> = (raw, name) => duration(raw, name, 'bad_timeout', limits.maxDurationMs);
const fnName = string(/^[^]{1,64}$/, 'a function\'s name of 1 to 64 characters');
const callId = string(new RegExp(`^[^]{1,${limits.maxCallIdChars}}$`), 'a call ID');
const requestId = string(/^[A-Za-z0-9._:-]{8,128}$/, '8 to 128 characters of A-Z a-z 0-9 . _ : -');
const reason = string(new RegExp(`^[^]{0,${limits.maxReasonChars}}$`), `a string of at most ${limits.maxReasonChars} characters`);
const callIds: Decode<readonly string[]> = (raw, name) => {
  const value = parse(raw);
  const fits = Array.isArray(value) && value.length > 0 && value.length <= limits.maxWaitForCalls;
  if (!fits || !value.every((id) => typeof id === 'string' && id.length <= limits.maxCallIdChars)) {
    throw bad(name, `must be an array of 1 to ${limits.maxWaitForCalls} call IDs`);
  }
  return [...new Set(value as string[])];
};

// --- requests: every member known, none missing; doubled ones never get here ---

function checkNames(members: Members, known: readonly string[]): void {
  for (const name of members.keys()) {
    if (!known.includes(name)) throw new NodedError('unknown_field', {field: name, message: `${name} is not a member of this operation`});
  }
}

function need<T>(members: Members, name: string, decode: Decode<T>): T {
  const raw = members.get(name);
  if (raw !== undefined) return decode(raw, name);
  throw name === 'timeout' ? new NodedError('bad_timeout', {field: name, message: 'timeout is missing'}) : bad(name, 'is missing');
}

/** An absent member and an explicit null are the same. */
function may<T, D>(members: Members, name: string, decode: Decode<T>, absent: D): T | D {
  const raw = members.get(name);
  return raw === undefined || (raw.byteLength === 4 && parse(raw) === null) ? absent : decode(raw, name);
}

function reference(members: Members): CallReference {
  const id = may(members, 'fnc_id', callId, null);
  const request = may(members, 'request_id', requestId, null);
  if ((id === null) === (request === null)) throw bad('fnc_id', 'or request_id must be given, and not both');
  return id === null ? {requestId: request!} : {callId: id};
}

export function readStartFunction(members: Members): StartFunctionRequest {
  checkNames(members, ['fn_name', 'fn_args', 'timeout', 'request_id', 'abort_after', 'stderr_from', 'reason']);
  return {
    fnName: need(members, 'fn_name', fnName),
    fnArgs: need(members, 'fn_args', bytes),
    timeoutMs: need(members, 'timeout', timeout),
    requestId: may(members, 'request_id', requestId, null),
    abortAfterMs: may(members, 'abort_after', positiveSeconds, null),
    stderrFrom: may(members, 'stderr_from', count, null),
    reason: may(members, 'reason', reason, null),
  };
}

export function readWaitForFunction(members: Members): WaitForFunctionRequest {
  checkNames(members, ['fnc_id', 'request_id', 'timeout', 'stderr_from', 'wake_on_stderr']);
  return {
    call: reference(members),
    timeoutMs: need(members, 'timeout', timeout),
    stderrFrom: may(members, 'stderr_from', count, null),
    wakeOnStderr: may(members, 'wake_on_stderr', boolean, false),
  };
}

export function readWaitForFunctions(members: Members): WaitForFunctionsRequest {
  checkNames(members, ['fnc_ids', 'timeout']);
  return {callIds: need(members, 'fnc_ids', callIds), timeoutMs: need(members, 'timeout', timeout)};
}

export function readAbortFunction(members: Members): AbortFunctionRequest {
  checkNames(members, ['fnc_id', 'request_id', 'timeout', 'kill_after']);
  return {
    call: reference(members),
    timeoutMs: need(members, 'timeout', timeout),
    killAfterMs: may(members, 'kill_after', seconds, null),
  };
}

export function readForgetFunction(members: Members): ForgetFunctionRequest {
  checkNames(members, ['fnc_id']);
  return {callId: need(members, 'fnc_id', callId)};
}

/** For operations that only look and take nothing. */
export function readNothing(members: Members): void {
  checkNames(members, []);
}

export function readGetCall(members: Members): {readonly callId: string; readonly stderrFrom: number | null} {
  checkNames(members, ['fnc_id', 'stderr_from']);
  return {callId: need(members, 'fnc_id', callId), stderrFrom: may(members, 'stderr_from', count, null)};
}

const state: Decode<VisibleState> = (raw, name) => {
  const value = parse(raw) as VisibleState;
  if (!visibleStates.includes(value)) throw bad(name, `must be one of ${visibleStates.join(', ')}`);
  return value;
};
const pageSize: Decode<number> = (raw, name) => {
  const value = count(raw, name);
  if (value < 1 || value > limits.maxPageSize) throw bad(name, `must be 1 to ${limits.maxPageSize}`);
  return value;
};

export function readListCalls(members: Members): ListCallsRequest {
  checkNames(members, ['state', 'fn_name', 'role', 'limit', 'cursor']);
  return {
    state: may(members, 'state', state, null),
    fnName: may(members, 'fn_name', fnName, null),
    role: may(members, 'role', fnName, null),
    limit: may(members, 'limit', pageSize, limits.defaultPageSize),
    cursor: may(members, 'cursor', count, 0),
  };
}

// --- the other direction: what a master sends ---

const toSeconds = (ms: number | null | undefined): number | undefined => (ms === null || ms === undefined ? undefined : ms / 1000);

/** The body of a StartFunction: `fnArgsJson` is the arguments' JSON text and is sent byte for byte. */
export function writeStartFunction(request: Omit<StartFunctionRequest, 'fnArgs'> & {readonly fnArgsJson: string}): string {
  const rest = JSON.stringify({
    timeout: toSeconds(request.timeoutMs),
    request_id: request.requestId ?? undefined,
    abort_after: toSeconds(request.abortAfterMs),
    stderr_from: request.stderrFrom ?? undefined,
    reason: request.reason ?? undefined,
  });
  return `{"fn_name":${JSON.stringify(request.fnName)},"fn_args":${request.fnArgsJson},${rest.slice(1)}`;
}

const writeReference = (call: CallReference): object => ('callId' in call ? {fnc_id: call.callId} : {request_id: call.requestId});

export function writeWaitForFunction(request: WaitForFunctionRequest): string {
  return JSON.stringify({
    ...writeReference(request.call),
    timeout: toSeconds(request.timeoutMs),
    stderr_from: request.stderrFrom ?? undefined,
    wake_on_stderr: request.wakeOnStderr || undefined,
  });
}

export function writeWaitForFunctions(request: WaitForFunctionsRequest): string {
  return JSON.stringify({fnc_ids: request.callIds, timeout: toSeconds(request.timeoutMs)});
}

export function writeAbortFunction(request: AbortFunctionRequest): string {
  return JSON.stringify({...writeReference(request.call), timeout: toSeconds(request.timeoutMs), kill_after: toSeconds(request.killAfterMs)});
}

export function writeForgetFunction(request: ForgetFunctionRequest): string {
  return JSON.stringify({fnc_id: request.callId});
}
