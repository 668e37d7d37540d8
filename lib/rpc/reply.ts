/** What an operation answers, whatever the protocol: pieces of bytes, some of them still in a file. */
import type {Readable} from 'node:stream';
import {monotonicMs, msToSeconds, wallMs} from '../base/duration';
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {hasResult, writtenOf} from '../base/outcome';
import type {Ending, Outcome, VisibleState} from '../base/outcome';
import {callIdOf, timesOf} from '../call/call-record';
import type {Call} from '../call/call-record';
import {writeAnswer} from './protocol-answer';
import type {CallError, CallInfo, StderrTail} from './protocol-answer';

/** A piece of an answer: bytes, or as many bytes as a stream will give. */
export type Piece = Buffer | {readonly byteLength: number; open(): Readable};

export interface Reply {
  readonly contentType: 'application/json' | 'text/plain; version=0.0.4; charset=utf-8';
  readonly pieces: readonly Piece[];
  /** Told once the reply was handed to the kernel: that is not yet 'received'. */
  readonly sent?: () => void;
  /** Told once there is nothing more to send, also if the connection broke off before the end. */
  readonly over?: () => void;
}

/** The files of calls, as answers need them; proc/spool.ts. */
export interface ResultFiles {
  sizes(key: string): {readonly stdoutBytes: number; readonly stderrBytes: number};
  read(key: string, stream: 'stdout' | 'stderr', from: number, length: number): Buffer;
  /** All of it; fewer bytes if somebody shortened its file. */
  readStdout(key: string, length: number): Buffer;
  stream(key: string, length: number): Readable;
}

export function jsonReply(value: unknown): Reply {
  return {contentType: 'application/json', pieces: [Buffer.from(JSON.stringify(value))]};
}

/** Bytes of stderr that are there now. */
export function stderrBytesOf(call: Call, files: ResultFiles): number {
  if (call.ending !== null) return writtenOf(call.ending).stderrBytes;
  return files.sizes(call.accepted.key).stderrBytes;
}

/** Whether an answer from `from` on would have something to show: a character that is still being written is nothing yet. */
export function hasStderrBeyond(call: Call, files: ResultFiles, from: number): boolean {
  const size = stderrBytesOf(call, files);
  if (size <= from) return false;
  if (call.ending !== null || size - from >= maxCharacterBytes) return true;
  const bytes = files.read(call.accepted.key, 'stderr', from, size - from);
  return cutTail(bytes) < bytes.length;
}

/** The tail of stderr: from `from` on, or its end; never more than limits.maxStderrTailBytes. */
function stderrTail(call: Call, files: ResultFiles, from: number | null): StderrTail {
  const size = stderrBytesOf(call, files);
  const wanted = Math.min(from ?? 0, size);
  const begin = Math.max(wanted, size - limits.maxStderrTailBytes);
  const bytes = size > begin ? readStderr(call, files, begin, size - begin) : Buffer.alloc(0);
  // Pieces join only at whole characters: where the bound cut one it is dropped, and one that is still being written comes next time.
  const head = begin > wanted ? cutHead(bytes) : 0;
  const tail = call.ending === null ? cutTail(bytes) : 0;
  return {from: begin + head, next: begin + bytes.length - tail, dropped: begin + head - wanted, text: bytes.toString('utf8', head, bytes.length - tail)};
}

/** Of a call that has ended a stderr that cannot be read is no reason to keep its outcome back. */
function readStderr(call: Call, files: ResultFiles, from: number, length: number): Buffer {
  try {
    return files.read(call.accepted.key, 'stderr', from, length);
  } catch (error) {
    if (call.ending === null) throw error;
    return Buffer.alloc(0);
  }
}

const maxCharacterBytes = 4;
const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80;

/** Bytes at the begin that belong to a character which began before it: at most 3. */
function cutHead(bytes: Buffer): number {
  let count = 0;
  while (count < maxCharacterBytes - 1 && isContinuation(bytes[count])) count += 1;
  return count;
}

/** Bytes at the end of a character that is not whole yet: at most 3. */
function cutTail(bytes: Buffer): number {
  let count = 0;
  while (count < maxCharacterBytes - 1 && isContinuation(bytes.at(-1 - count))) count += 1;
  const lead = bytes.at(-1 - count) ?? 0;
  const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
  return length > count + 1 ? count + 1 : 0;
}

/** A monotonic instant as the wall clock shows it now, in seconds since the epoch. */
const wallSeconds = (instant: number): number => msToSeconds(wallMs() + instant - monotonicMs());

export interface CallView {
  readonly duplicate: boolean;
  readonly stderr: StderrTail | null;
}

export function callInfo(call: Call, {duplicate, stderr}: CallView): CallInfo {
  const {accepted, ending} = call;
  const {startedAtMs, endedAtMs} = timesOf(call);
  const exited = ending?.kind === 'exited' ? ending : null;
  return {
    id: callIdOf(call),
    fnName: accepted.fnName,
    requestId: accepted.requestId,
    role: accepted.role,
    state: call.state as VisibleState, // a call that is gone is not in the table
    outcome: call.outcome,
    exitCode: exited?.exitCode ?? null,
    signal: exited?.signal ?? null,
    stoppedBy: call.stopCause,
    startedAt: startedAtMs === null ? null : msToSeconds(startedAtMs),
    endedAt: endedAtMs === null ? null : msToSeconds(endedAtMs),
    elapsed: msToSeconds((call.endedAt ?? monotonicMs()) - call.acceptedAt),
    abortAt: call.abortAt === null ? null : wallSeconds(call.abortAt),
    expiresAt: call.expiresAt === null ? null : wallSeconds(call.expiresAt),
    duplicate,
    stderr,
  };
}

const sentences: Readonly<Record<Exclude<Outcome, 'ok'>, (call: Call) => string>> = {
  failed: ({ending}) => `the function exited with code ${ending?.kind === 'exited' ? ending.exitCode : '?'}`,
  invalid_output: ({ending}) => `the function exited with code 0, but its stdout is not one JSON value: ${(ending?.kind === 'exited' && ending.outputReason) || 'it is empty'}`,
  output_too_large: ({ending}) => `the function's stdout is over max_output (${ending?.kind === 'exited' ? ending.stdoutBytes : '?'} bytes)`,
  signaled: ({ending}) => {
    const signal = ending?.kind === 'exited' ? ending.signal : null;
    return signal === 'SIGXFSZ' ? 'the function was ended by SIGXFSZ: it wrote a file larger than its max_output' : `the function was ended by ${signal}`;
  },
  start_failed: ({ending}) => (ending?.kind === 'not_started' ? `the function process could not be started: ${ending.errno} (${ending.stage})` : 'not started'),
  aborted: () => 'the call was aborted',
  deadline: () => 'the call took longer than its abort_after',
  shutdown: () => 'noded was stopped while the call ran',
  lost: ({ending}) => `nobody can know what became of the call: ${ending?.kind === 'lost' ? ending.reason : ''}`,
};

/** How stdout begins that cannot be given as the result: else nobody would ever see what the function wrote. */
function beginningOf({accepted: {key}, ending, outcome}: Call, files: ResultFiles): string {
  if (ending?.kind !== 'exited' || ending.output !== 'invalid' || (outcome !== 'invalid_output' && outcome !== 'failed')) return '';
  try {
    const bytes = files.read(key, 'stdout', 0, Math.min(ending.stdoutBytes, limits.maxQuotedStdoutBytes));
    const text = bytes.toString('utf8', 0, bytes.length - (bytes.length < ending.stdoutBytes ? cutTail(bytes) : 0));
    return text === '' ? '' : `; stdout begins with ${JSON.stringify(text)}`;
  } catch {
    return ''; // no reason to keep its outcome back
  }
}

/** Why the outcome of a call is not ok, or null. */
export function callError(call: Call, files: ResultFiles): CallError | null {
  const {outcome, ending} = call;
  if (outcome === null || outcome === 'ok') return null;
  const facts = ending?.kind === 'not_started' ? {errno: ending.errno, stage: ending.stage} : {};
  return {code: outcome, message: `${sentences[outcome](call)}${beginningOf(call, files)}`, ...facts};
}

/** A call whose result cannot be given any more: its outcome is all that is left, or why it never was one. */
export function resultGone(call: Call): NodedError {
  return call.refusal ?? new NodedError('call_expired', {callId: callIdOf(call), outcome: call.outcome ?? 'lost'});
}

type Exited = Extract<Ending, {readonly kind: 'exited'}>;

/** The result's bytes; `null` unless stdout is the result. Throws call_expired if somebody removed its file. */
export function resultPiece(call: Call, files: ResultFiles, maxInlineBytes: number): Piece {
  const {ending, outcome} = call;
  if (ending?.kind !== 'exited' || outcome === null || !hasResult(outcome, ending)) return Buffer.from('null');
  return stdoutPiece(call, ending, files, maxInlineBytes);
}

/** All that an ended function wrote. Throws call_expired if somebody removed its file. */
export function stdoutPiece(call: Call, {stdoutBytes: byteLength, inJournal}: Exited, files: ResultFiles, maxInlineBytes: number): Piece {
  const {key} = call.accepted;
  // What stands in the journal has no file to be streamed from, and is little.
  const bytes = byteLength <= maxInlineBytes || inJournal === true ? files.readStdout(key, byteLength) : null;
  if ((bytes ?? {byteLength: files.sizes(key).stdoutBytes}).byteLength < byteLength) throw resultGone(call);
  return bytes ?? {byteLength, open: () => files.stream(key, byteLength)};
}

/** The bytes of a piece. Throws if its file has fewer than were promised: what follows would be taken for the rest. */
export async function* bytesOf(piece: Piece): AsyncGenerator<Buffer> {
  if (Buffer.isBuffer(piece)) return yield piece;
  let left = piece.byteLength;
  for await (const chunk of piece.open() as AsyncIterable<Buffer>) {
    left -= chunk.length;
    yield chunk;
  }
  if (left !== 0) throw new Error(`a result's file is ${left} bytes short`);
}

export interface AnswerView {
  readonly duplicate: boolean;
  readonly stderrFrom: number | null;
  readonly waitedMs: number;
  /** A larger result is streamed from its file; limits.maxInlineResultBytes unless the answer is one of many. */
  readonly maxInlineBytes?: number;
}

/** The answer of section 8 for a call as it is now: head, result byte for byte, tail. */
export function answerPieces(call: Call, files: ResultFiles, {duplicate, stderrFrom, waitedMs, maxInlineBytes = limits.maxInlineResultBytes}: AnswerView): readonly Piece[] {
  const info = callInfo(call, {duplicate, stderr: stderrTail(call, files, stderrFrom)});
  const {head, tail} = writeAnswer(info, msToSeconds(waitedMs), callError(call, files));
  return [Buffer.from(head), resultPiece(call, files, maxInlineBytes), Buffer.from(tail)];
}
