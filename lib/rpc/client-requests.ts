/** What a master asks of a node, and the bodies and queries that this becomes. */
import type {VisibleState} from '../base/outcome';
import {checkArgs} from './client-answers';
import {writeStartFunction} from './protocol';
import type {CallReference} from './protocol';
import type {Answer} from './protocol-answer';

/** The function's arguments: a value, or their JSON text, which reaches the function byte for byte. */
export type FunctionArgs = {readonly fnArgs: unknown; readonly fnArgsJson?: never} | {readonly fnArgsJson: string; readonly fnArgs?: never};

export type StartRequest = FunctionArgs & {
  readonly fnName: string;
  /** The node answers after so long at the latest; 0: as soon as the function runs. */
  readonly timeoutMs: number;
  /** 8 to 128 of `A-Z a-z 0-9 . _ : -`; one is made if there is none. */
  readonly requestId?: string;
  /** The node stops the function after so long. */
  readonly abortAfterMs?: number;
  /** The byte of stderr from which the answer's piece begins; without it the last 64 KiB come. */
  readonly stderrFrom?: number;
  /** Free text for the node's log. */
  readonly reason?: string;
};

/** What ends every try of a request, apart from an answer. */
export interface Bounds {
  /** Its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
  /** On the monotonic clock: no try begins after it, and what is under way then is given up soon. */
  readonly endMs?: number;
}

export interface WaitRequest {
  readonly call: CallReference;
  readonly timeoutMs: number;
  readonly stderrFrom?: number;
  /** Answer as well when there is stderr after `stderrFrom`. */
  readonly wakeOnStderr?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface AbortRequest {
  readonly call: CallReference;
  /** How long to wait for its end. */
  readonly timeoutMs: number;
  /** From SIGTERM to SIGKILL; without it as the function's manifest says. */
  readonly killAfterMs?: number;
  /** How long to try in all; without it a lost answer is asked for as long as patience lasts. */
  readonly giveUpAfterMs?: number;
}

export interface CallFilter {
  readonly state?: VisibleState;
  readonly fnName?: string;
  readonly role?: string;
  readonly limit?: number;
  /** `next` of the page before. */
  readonly cursor?: number;
}

/** What goes on waiting for a call takes. */
export interface FollowOptions {
  /** How long to wait in all; without it until the call ends. */
  readonly timeoutMs?: number;
  /** Told of every answer that came before the end. */
  readonly onProgress?: (answer: Answer) => void;
  /** Have an answer whenever there is stderr, each with the piece that follows on the one before. */
  readonly followStderr?: boolean;
  /** Ends the waiting, never the call; the signal's reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/** A start, and then waits until the call has ended. */
export type CallRequest = FunctionArgs & Omit<StartRequest, 'timeoutMs' | 'fnArgs' | 'fnArgsJson'> & FollowOptions;

/** The body of StartFunction. Throws bad_json for arguments that are no JSON text. */
export function bodyOfStart(start: StartRequest, requestId: string): string {
  return writeStartFunction({
    fnName: start.fnName,
    fnArgsJson: checkArgs(start.fnArgsJson ?? JSON.stringify(start.fnArgs ?? null)),
    timeoutMs: start.timeoutMs,
    requestId,
    abortAfterMs: start.abortAfterMs ?? null,
    stderrFrom: start.stderrFrom ?? null,
    reason: start.reason ?? null,
  });
}

/** The path and query of GET /calls. */
export function pathOfCalls({state, fnName, role, limit, cursor}: CallFilter): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({state, fn_name: fnName, role, limit, cursor})) {
    if (value !== undefined) query.set(name, String(value));
  }
  return query.size === 0 ? '/calls' : `/calls?${query.toString()}`;
}
