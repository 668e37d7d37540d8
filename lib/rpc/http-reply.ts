/** From an operation's reply, or a refusal, to an HTTP response. */
import {once} from 'node:events';
import type {ServerResponse} from 'node:http';
import type {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {writeProblem} from './protocol-answer';
import type {Piece, Reply} from './reply';

type Headers = Record<string, string | number>;

/** Sends a reply. Large pieces are read from their files as fast as the master takes them, and no faster. */
export async function sendReply(response: ServerResponse, {contentType, pieces, sent}: Reply, headers: Headers): Promise<void> {
  const length = pieces.reduce((sum, {byteLength}) => sum + byteLength, 0);
  if (sent !== undefined) response.once('finish', sent);
  response.writeHead(200, {...headers, 'Content-Type': contentType, 'Content-Length': length});
  if (pieces.every(Buffer.isBuffer)) {
    response.end(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces, length));
    return;
  }
  // A master that takes nothing for a minute is cut off: its result stays, and costs no memory here.
  response.setTimeout(limits.stalledReaderMs, () => response.destroy());
  try {
    for (const piece of pieces) await sendPiece(response, piece);
    response.end();
  } catch {
    // The length has been promised; a connection that breaks off is the only way left to take it back.
    response.destroy();
  }
  response.setTimeout(0);
}

async function sendPiece(response: ServerResponse, piece: Piece): Promise<void> {
  for await (const chunk of Buffer.isBuffer(piece) ? [piece] : piece.open()) {
    if (response.destroyed) throw new Error('the connection is gone');
    if (!response.write(chunk)) await drained(response);
  }
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

/** Sends a refusal as application/problem+json (RFC 9457). */
export function sendProblem(response: ServerResponse, error: NodedError, headers: Headers): void {
  const body = Buffer.from(JSON.stringify(writeProblem(error)));
  response.writeHead(error.status, {
    ...headers,
    'Content-Type': 'application/problem+json',
    'Content-Length': body.length,
    ...(error.retryAfter === undefined ? {} : {'Retry-After': Math.ceil(error.retryAfter)}),
  });
  response.end(body);
}

/** A whole response for a socket on which no request could be read. */
export function rawProblem(error: NodedError, headers: Headers): string {
  const body = JSON.stringify(writeProblem(error));
  const lines = Object.entries({...headers, 'Content-Type': 'application/problem+json', 'Content-Length': Buffer.byteLength(body), Connection: 'close'});
  return `HTTP/1.1 ${error.status} Bad Request\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`;
}
