/** From an operation's reply, or a refusal, to an HTTP response. */
import {once} from 'node:events';
import {STATUS_CODES} from 'node:http';
import type {ServerResponse} from 'node:http';
import type {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {writeProblem} from './protocol-answer';
import {bytesOf} from './reply';
import type {Piece, Reply} from './reply';

type Headers = Record<string, string | number>;

/** How a protocol writes what it refuses. */
export type RefusalWriter = (error: NodedError) => {readonly contentType: string; readonly body: Buffer};

/** As application/problem+json (RFC 9457). */
const problem: RefusalWriter = (error) => ({contentType: 'application/problem+json', body: Buffer.from(JSON.stringify(writeProblem(error)))});

/** Sends a reply. Large pieces are read from their files as fast as the master takes them, and no faster. */
export async function sendReply(response: ServerResponse, {contentType, pieces, sent, over}: Reply, headers: Headers): Promise<void> {
  const length = pieces.reduce((sum, {byteLength}) => sum + byteLength, 0);
  if (sent !== undefined) onSent(response, sent);
  if (over !== undefined) onOver(response, over);
  // A master that takes nothing for a minute is cut off: its result stays, and costs no memory here.
  response.setTimeout(limits.stalledReaderMs, () => response.destroy());
  response.writeHead(200, {...headers, 'Content-Type': contentType, 'Content-Length': length});
  const joined = joinBytes(pieces);
  const [only] = joined;
  if (joined.length === 1 && Buffer.isBuffer(only)) {
    response.end(only);
    return;
  }
  try {
    for (const piece of joined) for await (const chunk of bytesOf(piece)) await write(response, chunk);
    response.end();
  } catch {
    // The length has been promised; a connection that breaks off is the only way left to take it back.
    response.destroy();
  }
}

/** A piece of bytes for all of those that stand in a row: each takes a write of its own. */
function joinBytes(pieces: readonly Piece[]): readonly Piece[] {
  const joined: Piece[] = [];
  let row: Buffer[] = [];
  const endRow = (): void => {
    if (row.length > 0) joined.push(row.length === 1 ? row[0]! : Buffer.concat(row));
    row = [];
  };
  for (const piece of pieces) {
    if (Buffer.isBuffer(piece)) {
      row.push(piece);
    } else {
      endRow();
      joined.push(piece);
    }
  }
  endRow();
  return joined;
}

/** Calls back once all bytes are with the kernel. Node says 'finish' also of a response whose connection broke before. */
function onSent(response: ServerResponse, sent: () => void): void {
  const {socket} = response;
  // Before Node's own listener, which takes the socket from the response and may close it.
  response.prependOnceListener('finish', () => {
    if (socket !== null && !socket.destroyed && socket.errored === null) sent();
  });
}

/** Calls back once nothing more of the response will leave, however that came. */
function onOver(response: ServerResponse, over: () => void): void {
  if (response.destroyed) over();
  else response.once('close', over);
}

async function write(response: ServerResponse, chunk: Buffer): Promise<void> {
  if (response.destroyed) throw new Error('the connection is gone');
  if (!response.write(chunk)) await drained(response);
}

/** Whichever comes first: room for more, or the end of the connection. */
async function drained(response: ServerResponse): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([once(response, 'drain', {signal: over.signal}), once(response, 'close', {signal: over.signal})]);
  } finally {
    over.abort();
  }
}

/** Sends a refusal, as a problem unless its protocol writes them in another way. */
export function sendRefusal(response: ServerResponse, error: NodedError, headers: Headers, write: RefusalWriter = problem): void {
  const {contentType, body} = write(error);
  response.writeHead(error.status, {...headers, ...refusalHeaders(error, contentType, body)});
  const {req} = response;
  if (req.complete || headers.Connection !== 'close' || req.headers.expect !== undefined) response.end(body);
  else endLater(response, body);
}

/** To close while the caller still sends would reset the connection, and the reset can overtake this answer. */
function endLater(response: ServerResponse, body: Buffer): void {
  const timer = setTimeout(() => response.end(), limits.closeGraceMs);
  response.once('close', () => clearTimeout(timer));
  response.write(body);
  response.req.once('end', () => response.end());
  response.req.resume();
}

function refusalHeaders(error: NodedError, contentType: string, body: Buffer): Headers {
  return {
    'Content-Type': contentType,
    'Content-Length': body.length,
    ...(error.retryAfter === undefined ? {} : {'Retry-After': Math.ceil(error.retryAfter)}),
  };
}

/** A whole response for a socket on which no request could be read. */
export function rawProblem(error: NodedError, headers: Headers): string {
  const {contentType, body} = problem(error);
  const lines = Object.entries({...headers, ...refusalHeaders(error, contentType, body), Connection: 'close'});
  return `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body.toString()}`;
}
