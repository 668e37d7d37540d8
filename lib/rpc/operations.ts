/**
 * StartFunction, WaitForFunction and the others: what masters ask, whatever the protocol (DESIGN.md
 * section 8). A refusal is a thrown NodedError. No operation waits longer than it was told.
 */
import {hash} from 'node:crypto';
import {monotonicMs} from '../base/duration';
import {NodedError} from '../base/errors';
import type {ErrorCode} from '../base/errors';
import {limits} from '../base/limits';
import type {Call} from '../call/call-record';
import type {CallTable} from '../call/call-table';
import {inSlices} from '../call/slices';
import type {FunctionSpec} from '../call/spawner';
import type {Waiter} from '../call/waiters';
import {readAbortFunction, readForgetFunction, readStartFunction, readWaitForFunction, readWaitForFunctions} from './protocol';
import type {CallReference, Members, StartFunctionRequest} from './protocol';
import {answerPieces, hasStderrBeyond, jsonReply, resultGone, stderrBytesOf} from './reply';
import type {AnswerView, Piece, Reply, ResultFiles} from './reply';
import {mayCall} from './tls';
import type {Role} from './tls';

/** Who asks, over which connection. */
export interface Caller {
  readonly role: Role;
  readonly traceparent: string | null;
  /** Calls back when the caller's connection is gone: its waits are dropped, its calls are not. */
  onGone(callback: () => void): void;
}

/** A function of this node; proc/catalog.ts. */
export interface FunctionEntry {
  readonly spec: FunctionSpec;
  readonly description: string | null;
  readonly args: {readonly schema: object | boolean; check(args: Uint8Array): readonly {readonly pointer: string; readonly message: string}[] | null} | null;
  readonly abortAfterMs: number | null;
  readonly maxAbortAfterMs: number | null;
  readonly roles: readonly string[] | null;
}

export interface Functions {
  get(name: string): FunctionEntry | undefined;
  list(): readonly FunctionEntry[];
}

export interface OperationContext {
  readonly table: CallTable;
  readonly functions: Functions;
  readonly files: ResultFiles;
  readonly maxWaitMs: number;
}

export type Operation = (context: OperationContext, caller: Caller, members: Members) => Promise<Reply>;

/** Default deny: the role must have the function, and the function's manifest the role. */
export function mayUse({functions}: OperationContext, role: Role, fnName: string): boolean {
  const roles = functions.get(fnName)?.roles ?? null;
  return mayCall(role, fnName) && (role.name === 'local' || roles === null || roles.includes(role.name));
}

function checkMayUse(context: OperationContext, role: Role, fnName: string): void {
  if (!mayUse(context, role, fnName)) throw new NodedError('forbidden', {message: `the role ${role.name} may not use ${fnName}`});
}

function findCall(context: OperationContext, {role}: Caller, reference: CallReference): Call {
  const {index} = context.table;
  const check = (fnName: string): void => checkMayUse(context, role, fnName);
  if ('callId' in reference) return index.find(reference.callId, check);
  const call = index.findByRequest(role.name, reference.requestId);
  if (call === null) throw new NodedError('unknown_request');
  check(call.accepted.fnName);
  return call;
}

/** An error of the disk is news too: the answer then says what it is. */
function hasNews(call: Call, files: ResultFiles, stderrBeyond: number): boolean {
  try {
    return hasStderrBeyond(call, files, stderrBeyond);
  } catch {
    return true;
  }
}

interface WaitOptions {
  readonly calls: readonly Call[];
  readonly until: Waiter['until'];
  readonly timeoutMs: number;
  /** Wakes the wait once the one call's stderr has a whole character beyond this. */
  readonly stderrBeyond?: number;
}

/** Waits; resolves never if the caller goes away, and is collected then. */
export function wait({table, files, maxWaitMs}: OperationContext, caller: Caller, {calls, until, timeoutMs, stderrBeyond}: WaitOptions): Promise<void> {
  return new Promise((resolve) => {
    let poll: NodeJS.Timeout | undefined;
    const waiter = table.waiters.open(calls, until, Math.min(timeoutMs, maxWaitMs), () => {
      clearInterval(poll);
      resolve();
    });
    caller.onGone(() => {
      clearInterval(poll);
      table.waiters.drop(waiter);
    });
    const [call] = calls;
    if (stderrBeyond === undefined || call === undefined) return;
    poll = setInterval(() => {
      if (hasNews(call, files, stderrBeyond)) table.waiters.wake(waiter);
    }, limits.stderrPollMs);
  });
}

async function answer({table, files}: OperationContext, call: Call, view: AnswerView): Promise<Reply> {
  if (call.pid === null && (call.state === 'starting' || call.state === 'stopping')) {
    table.naming(call);
    // Of others that is known: before a process runs its call is on disk.
    await table.journaling.onDisk();
  }
  // Between its end and now somebody else may have forgotten it.
  if (call.state === 'gone') throw resultGone(call);
  return {contentType: 'application/json', pieces: answerPieces(call, files, view), sent: () => table.markDelivered(call)};
}

function abortAfter(request: StartFunctionRequest, {abortAfterMs, maxAbortAfterMs}: FunctionEntry): number | null {
  const wanted = request.abortAfterMs ?? abortAfterMs ?? maxAbortAfterMs;
  return wanted === null || maxAbortAfterMs === null ? wanted : Math.min(wanted, maxAbortAfterMs);
}

/** Starts a call that the role may make; or finds the one that this request ID has made already. */
export function start(context: OperationContext, {role, traceparent}: Caller, request: StartFunctionRequest): {readonly call: Call; readonly duplicate: boolean} {
  const {table, functions} = context;
  const {fnName, fnArgs, requestId} = request;
  checkMayUse(context, role, fnName);
  const fingerprint = hash('sha256', fnArgs, 'hex');
  const earlier = requestId === null ? null : table.duplicateOf(role.name, requestId, fnName, fingerprint);
  if (earlier !== null) return {call: earlier, duplicate: true};
  const entry = functions.get(fnName);
  if (entry === undefined) throw new NodedError('unknown_function', {message: `this node has no function ${JSON.stringify(fnName)}`});
  const pointers = entry.args?.check(fnArgs) ?? null;
  if (pointers !== null) throw new NodedError('invalid_args', {pointers, message: `fn_args do not fit the schema of ${fnName}: ${pointers.map(({pointer, message}) => `${pointer} ${message}`.trim()).join('; ')}`});
  // A start without a timeout waits too, until the process runs; refused after the start, it would be taken for not started.
  table.waiters.checkRoom();
  const {reason} = request;
  const call = table.start({spec: entry.spec, args: fnArgs, fingerprint, role: role.name, requestId, abortAfterMs: abortAfter(request, entry), reason, traceparent});
  return {call, duplicate: false};
}

const startFunction: Operation = async (context, caller, members) => {
  const request = readStartFunction(members);
  const begin = monotonicMs();
  const {call, duplicate} = start(context, caller, request);
  if (request.timeoutMs > 0) {
    if (call.state !== 'ended') await wait(context, caller, {calls: [call], until: 'ended', timeoutMs: request.timeoutMs});
  } else if (call.state === 'starting') {
    // Fire and forget is answered as soon as the process runs: then the call ID is whole.
    await wait(context, caller, {calls: [call], until: 'started', timeoutMs: limits.startWaitMs});
  }
  return answer(context, call, {duplicate, stderrFrom: request.stderrFrom, waitedMs: monotonicMs() - begin});
};

const waitForFunction: Operation = async (context, caller, members) => {
  const request = readWaitForFunction(members);
  const begin = monotonicMs();
  const call = findCall(context, caller, request.call);
  const stderrBeyond = request.wakeOnStderr ? (request.stderrFrom ?? stderrBytesOf(call, context.files)) : undefined;
  const news = stderrBeyond !== undefined && hasNews(call, context.files, stderrBeyond);
  if (call.state !== 'ended' && request.timeoutMs > 0 && !news) {
    await wait(context, caller, {calls: [call], until: 'ended', timeoutMs: request.timeoutMs, ...(stderrBeyond === undefined ? {} : {stderrBeyond})});
  }
  return answer(context, call, {duplicate: false, stderrFrom: request.stderrFrom, waitedMs: monotonicMs() - begin});
};

interface Unknown {
  readonly fnc_id: string;
  readonly code: ErrorCode;
}

/** A call, and the ID that the master knows it by: that may be the early one, of a call that was starting. */
interface Named {
  readonly callId: string;
  readonly call: Call;
}

async function findCalls(context: OperationContext, caller: Caller, callIds: readonly string[]): Promise<{readonly named: readonly Named[]; readonly unknown: readonly Unknown[]}> {
  const named: Named[] = [];
  const unknown: Unknown[] = [];
  await inSlices(callIds, (callId) => {
    try {
      named.push({callId, call: findCall(context, caller, {callId})});
    } catch (error) {
      if (!(error instanceof NodedError)) throw error;
      unknown.push({fnc_id: callId, code: error.code});
    }
  });
  return {named, unknown};
}

/** What a wait for several calls has come to. */
interface Finished {
  /** The answers of those that have ended, each as its pieces. */
  readonly answers: (readonly Piece[])[];
  readonly answered: Call[];
  readonly unfinished: string[];
  readonly unknown: Unknown[];
}

/**
 * Each call as it is when its turn comes. Together no more result bytes are held in memory than one answer may have;
 * the rest is streamed. A result that somebody removed or forgot, or that cannot be read, is unknown.
 */
async function finishedAnswers({files}: OperationContext, named: readonly Named[], waitedMs: number): Promise<Finished> {
  const finished: Finished = {answers: [], answered: [], unfinished: [], unknown: []};
  let maxInlineBytes: number = limits.maxInlineResultBytes;
  await inSlices(named, ({callId, call}) => {
    try {
      // While this request waited, one may have ended and been forgotten by another.
      if (call.state === 'gone') throw resultGone(call);
      if (call.state !== 'ended') return void finished.unfinished.push(callId);
      const pieces = answerPieces(call, files, {duplicate: false, stderrFrom: null, waitedMs, maxInlineBytes});
      for (const piece of pieces) if (Buffer.isBuffer(piece)) maxInlineBytes = Math.max(0, maxInlineBytes - piece.length);
      finished.answers.push(pieces);
      finished.answered.push(call);
    } catch (error) {
      // One damaged file must not keep the others from their master for ever.
      finished.unknown.push({fnc_id: callId, code: error instanceof NodedError ? error.code : 'internal'});
    }
  });
  return finished;
}

const waitForFunctions: Operation = async (context, caller, members) => {
  const {table} = context;
  const {callIds, timeoutMs} = readWaitForFunctions(members);
  const begin = monotonicMs();
  const {named, unknown} = await findCalls(context, caller, callIds);
  const calls = named.map(({call}) => call);
  const isOver = ({state}: Call): boolean => state === 'ended' || state === 'gone';
  if (timeoutMs > 0 && calls.length > 0 && !calls.some(isOver)) await wait(context, caller, {calls, until: 'ended', timeoutMs});
  const finished = await finishedAnswers(context, named, monotonicMs() - begin);
  const pieces = finished.answers.flatMap((answer, position) => (position === 0 ? answer : [Buffer.from(','), ...answer]));
  const tail = `],"unfinished":${JSON.stringify(finished.unfinished)},"unknown":${JSON.stringify([...unknown, ...finished.unknown])}}`;
  return {
    contentType: 'application/json',
    pieces: [Buffer.from('{"finished":['), ...pieces, Buffer.from(tail)],
    sent: () => void inSlices(finished.answered, (call) => table.markDelivered(call)),
  };
};

const abortFunction: Operation = async (context, caller, members) => {
  const request = readAbortFunction(members);
  const begin = monotonicMs();
  const call = findCall(context, caller, request.call);
  if (call.state !== 'ended' && request.timeoutMs > 0) context.table.waiters.checkRoom();
  context.table.abort(call, caller.role.name, request.killAfterMs);
  // Who is told that it is being stopped must not see it go on after a crash.
  if (call.state === 'stopping') await context.table.journaling.onDisk();
  if (call.state !== 'ended' && request.timeoutMs > 0) await wait(context, caller, {calls: [call], until: 'ended', timeoutMs: request.timeoutMs});
  return answer(context, call, {duplicate: false, stderrFrom: null, waitedMs: monotonicMs() - begin});
};

const forgetFunction: Operation = async (context, caller, members) => {
  const {callId} = readForgetFunction(members);
  const call = findCall(context, caller, {callId});
  context.table.forget(call);
  await context.table.journaling.onDisk();
  return jsonReply({fnc_id: callId, forgotten: true});
};

/** The operations of PUT /<Operation>, by name. */
export const operations: ReadonlyMap<string, Operation> = new Map([
  ['StartFunction', startFunction],
  ['WaitForFunction', waitForFunction],
  ['WaitForFunctions', waitForFunctions],
  ['AbortFunction', abortFunction],
  ['ForgetFunction', forgetFunction],
]);

/** The answer of a wait that does not wait; GET /calls/ID. */
export function showCall(context: OperationContext, caller: Caller, callId: string, stderrFrom: number | null): Promise<Reply> {
  return answer(context, findCall(context, caller, {callId}), {duplicate: false, stderrFrom, waitedMs: 0});
}
