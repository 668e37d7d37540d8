/**
 * The errors of the protocol: one table from code to HTTP status, default message, and whether a
 * function was started (DESIGN.md section 8). Masters match on `code`; messages may change.
 */
import {constants} from 'node:os';

/** The one fact that decides whether a master may retry: was a function started by this request? */
export const startedFacts = ['no', 'yes', 'unknown'] as const;

export type Started = (typeof startedFacts)[number];

interface ErrorKind {
  readonly status: number;
  readonly started: Started;
  readonly message: string;
  /** Seconds after which the same request may succeed; sent as `retry_after` and as `Retry-After`. */
  readonly retryAfter?: number;
}

const kinds = {
  bad_json: {status: 400, started: 'no', message: 'the body is not one JSON object'},
  bad_field: {status: 400, started: 'no', message: 'a member has a wrong type or value'},
  unknown_field: {status: 400, started: 'no', message: 'a member is not known to this operation'},
  bad_timeout: {status: 400, started: 'no', message: 'timeout must be a number of seconds, 0 or more'},
  bad_request: {status: 400, started: 'no', message: 'this is not an HTTP/1.1 request that noded takes'},
  no_certificate: {status: 401, started: 'no', message: 'a client certificate is required'},
  forbidden: {status: 403, started: 'no', message: 'this certificate may not do that'},
  certificate_expired: {status: 403, started: 'no', message: 'the client certificate is outside its dates'},
  unknown_operation: {status: 404, started: 'no', message: 'there is no such operation'},
  unknown_function: {status: 404, started: 'no', message: 'this node has no such function'},
  unknown_call: {status: 404, started: 'unknown', message: 'this node knows no such call'},
  unknown_request: {status: 404, started: 'no', message: 'this node has seen no such request ID'},
  method_not_allowed: {status: 405, started: 'no', message: 'this operation takes another method'},
  request_too_large: {status: 413, started: 'no', message: 'the request is over the limit'},
  unsupported_media_type: {status: 415, started: 'no', message: 'the body must be application/json, not compressed'},
  still_running: {status: 409, started: 'yes', message: 'the call has not ended'},
  call_expired: {status: 410, started: 'yes', message: 'the result of this call is gone; its outcome is given'},
  call_lost: {status: 410, started: 'unknown', message: 'nobody can know what became of this call'},
  invalid_args: {status: 422, started: 'no', message: 'fn_args do not fit the function\'s schema'},
  request_id_reused: {status: 422, started: 'yes', message: 'this request ID was used for another function or other arguments'},
  function_busy: {status: 429, started: 'no', message: 'as many calls of this function run as may', retryAfter: 1},
  too_many_waiters: {status: 429, started: 'no', message: 'as many waits are open as may be', retryAfter: 1},
  too_many_in_flight: {status: 429, started: 'no', message: 'one request at a time per connection', retryAfter: 0},
  too_many_calls: {status: 503, started: 'no', message: 'as many calls run as may', retryAfter: 1},
  spool_full: {status: 503, started: 'no', message: 'there is no room left for the files of a call', retryAfter: 10},
  draining: {status: 503, started: 'no', message: 'this noded takes no new calls', retryAfter: 5},
  spawner_unavailable: {status: 503, started: 'no', message: 'function processes cannot be started now', retryAfter: 1},
  internal: {status: 500, started: 'unknown', message: 'noded made a mistake; its log says more'},
} as const satisfies Record<string, ErrorKind>;

/** Stable error codes of the protocol. */
export type ErrorCode = keyof typeof kinds;

export const errorCodes = Object.keys(kinds) as readonly ErrorCode[];

/** HTTP status, default message and retry facts of a code. */
export function errorKind(code: ErrorCode): ErrorKind {
  return kinds[code];
}

/** What an error may tell beyond its code; sent as members of the problem document. */
export interface ErrorDetail {
  readonly message?: string;
  readonly started?: Started;
  readonly retryAfter?: number;
  /** The member of the request that is wrong. */
  readonly field?: string;
  /** For `invalid_args`: where (JSON pointers into fn_args) and why. */
  readonly pointers?: readonly {readonly pointer: string; readonly message: string}[];
  /** For `call_expired`: what became of the call. */
  readonly outcome?: string;
  readonly callId?: string;
}

/** A refusal: everything that a master is told when noded does not do what was asked. */
export class NodedError extends Error {
  override readonly name = 'NodedError';
  readonly status: number;
  readonly started: Started;
  readonly retryAfter: number | undefined;

  constructor(readonly code: ErrorCode, readonly detail: ErrorDetail = {}) {
    const kind = errorKind(code);
    super(detail.message ?? kind.message);
    this.status = kind.status;
    this.started = detail.started ?? kind.started;
    this.retryAfter = detail.retryAfter ?? kind.retryAfter;
  }
}

/** Of Linux (asm-generic/errno.h), what disks, filesystems and their keys give and Node's constants leave out. */
const rareErrnos: Readonly<Record<string, number>> = {
  ...{ENOTBLK: 15, EBADE: 52, EREMOTE: 66, ECOMM: 70, ESHUTDOWN: 108, EHOSTDOWN: 112, EUCLEAN: 117, EREMOTEIO: 121, ENOMEDIUM: 123},
  ...{EMEDIUMTYPE: 124, ENOKEY: 126, EKEYEXPIRED: 127, EKEYREVOKED: 128, EKEYREJECTED: 129, ENOTRECOVERABLE: 131, EHWPOISON: 133},
};

/** The first of two names for one number is the usual one: EAGAIN, not EWOULDBLOCK. */
const errnoNames = new Map(Object.entries({...rareErrnos, ...constants.errno}).reverse().map(([name, number]) => [number, name]));

/** The name of an errno of this system; EUNKNOWN if it has none. */
export function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? 'EUNKNOWN';
}

const isNameless = (code: string): boolean => code.startsWith('Unknown system error');

/** The errno name of a failed system call ('ENOSPC'), also where Node has none: libuv says "Unknown system error -122" for EDQUOT. */
export function errnoOf(error: unknown): string {
  if (!(error instanceof Error)) return 'EUNKNOWN';
  const {code, errno} = error as NodeJS.ErrnoException;
  if (code !== undefined && !isNameless(code)) return code;
  return errno === undefined ? 'EUNKNOWN' : errnoName(-errno);
}

/** An error's text for the log, whatever was thrown. What the system said has its errno's name. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Node says it twice, as code and as what strerror(3) would say: 'Unknown system error -122: Unknown system error -122, write'.
  return error.message.replace(/^(?:Unknown system error -\d+: )?Unknown system error -(\d+)(, )?/, (_text, errno: string, more = '') => errnoName(Number(errno)) + (more && ': '));
}

/** Whether it says nothing about what was asked for, but that the system has no more to look at it with: it passes. */
export function isExhausted(error: unknown): boolean {
  return ['EMFILE', 'ENFILE', 'ENOMEM'].includes(errnoOf(error));
}
