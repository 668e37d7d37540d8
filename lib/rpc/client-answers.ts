/**
 * What a node's answers mean. Results are cut out as bytes and never parsed, so numbers above 2^53 survive; the
 * rest of an answer is small and becomes values.
 */
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {TransportError} from './client-transport';
import type {HttpAnswer} from './client-transport';
import {cutMembers} from './json-members';
import {scanJson} from './json-scan';
import {parse} from './protocol';
import type {Members} from './protocol';
import {readAnswer, readCall, readProblem} from './protocol-answer';
import type {Answer, CallInfo} from './protocol-answer';

/** The answer of WaitForFunctions. */
export interface Answers {
  readonly finished: readonly Answer[];
  /** Call IDs. */
  readonly unfinished: readonly string[];
  /** Calls that this node cannot tell of, each with the error code of a single wait. */
  readonly unknown: readonly {readonly callId: string; readonly code: string}[];
}

/** One page of GET /calls. */
export interface CallPage {
  readonly calls: readonly CallInfo[];
  /** The cursor of the next page; null after the last one. */
  readonly next: number | null;
}

/** An object whose members are read by name: what lies in them is the node's affair. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** The result lies in an answer, which may lie in an array in an object. */
const maxDepth = limits.maxDepth + 3;

function notNoded(what: string): TransportError {
  return new TransportError('bad_answer', `this is no answer of noded: ${what}`, {started: 'unknown', connected: true});
}

/** Throws a NodedError for a refusal, and a TransportError if it is not noded that answers. */
export function checkAnswer(answer: HttpAnswer): void {
  if (answer.status >= 200 && answer.status < 300) return;
  if (!answer.contentType.startsWith('application/problem+json')) throw notNoded(`HTTP ${answer.status}`);
  throw readProblem(readObject(answer.body));
}

/** Throws a TransportError if `text` is no object. */
export function readObject(text: Uint8Array): JsonObject {
  let value: unknown;
  try {
    value = parse(text);
  } catch {
    throw notNoded('its body is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw notNoded('its body is not an object');
  return value as JsonObject;
}

function membersOf(text: Uint8Array): Members {
  return cutMembers(text, scanJson(text, {maxDepth, members: true}));
}

/** The elements of an array that is known to be valid JSON. */
function* cutElements(array: Uint8Array): Generator<Uint8Array> {
  let depth = 0;
  let start = 1;
  let inString = false;
  for (let i = 0; i < array.length; i += 1) {
    const byte = array[i]!;
    if (inString) {
      if (byte === 0x5c) i += 1;
      else if (byte === 0x22) inString = false;
    } else if (byte === 0x22) inString = true;
    else if (byte === 0x5b || byte === 0x7b) depth += 1;
    else if (byte === 0x5d || byte === 0x7d) depth -= 1;
    const ends = !inString && (depth === 0 || (depth === 1 && byte === 0x2c));
    if (!ends) continue;
    const element = array.subarray(start, i);
    if (Buffer.from(element).toString().trim() !== '') yield element;
    start = i + 1;
  }
}

/** The one sentence of `{"error": "..."}`, by which functions say what went wrong; null if a result is something else. */
function sentenceOf(resultJson: string): string | null {
  const result: unknown = JSON.parse(resultJson);
  const {error} = (result ?? {}) as JsonObject;
  return typeof error === 'string' && error.trim() !== '' ? error : null;
}

/** What a function said of its failure belongs to the message. */
function withItsWords(answer: Answer): Answer {
  const {error, resultJson} = answer;
  const sentence = error?.code === 'failed' ? sentenceOf(resultJson) : null;
  return error === null || sentence === null ? answer : {...answer, error: {...error, message: `${error.message}: ${sentence}`}};
}

/** The answer of StartFunction, WaitForFunction, AbortFunction and GET /calls/ID. */
export function readOne(text: Uint8Array): Answer {
  return orNotNoded(() => withItsWords(readAnswer(membersOf(text))));
}

export function readMany(text: Uint8Array): Answers {
  return orNotNoded(() => {
    const members = membersOf(text);
    const list = <T>(name: string): T[] => parse(members.get(name) ?? Buffer.from('[]')) as T[];
    return {
      finished: [...cutElements(members.get('finished') ?? Buffer.from('[]'))].map(readOne),
      unfinished: list<string>('unfinished'),
      unknown: list<{fnc_id: string; code: string}>('unknown').map(({fnc_id: callId, code}) => ({callId, code})),
    };
  });
}

export function readCallPage(text: Uint8Array): CallPage {
  const {calls, next} = readObject(text);
  if (!Array.isArray(calls)) throw notNoded('calls is not an array');
  return {calls: calls.map((call) => readCall(call as JsonObject)), next: typeof next === 'number' ? next : null};
}

/** The value of a JSON text, such as an answer's result. Numbers are rounded to doubles, as JSON.parse does. */
export function parseResult<T = unknown>({resultJson}: Pick<Answer, 'resultJson'>): T {
  return JSON.parse(resultJson) as T;
}

/** The arguments' JSON text. Throws bad_json: a text that is not one value would change the request around it. */
export function checkArgs(fnArgsJson: string): string {
  const scan = scanJson(Buffer.from(fnArgsJson), {maxDepth: limits.maxDepth});
  if (!scan.valid) throw new NodedError('bad_json', {message: `the arguments are not JSON: ${scan.reason} at byte ${scan.offset}`, field: 'fn_args'});
  if (scan.kind === 'empty') throw new NodedError('bad_json', {message: 'the arguments are empty; nothing is written as null', field: 'fn_args'});
  return fnArgsJson;
}

/** What those who read bodies and answers say with a NodedError is no refusal here: it is not noded that answers. */
function orNotNoded<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof NodedError) throw notNoded(error.message);
    throw error instanceof TransportError ? error : notNoded(String(error));
  }
}
