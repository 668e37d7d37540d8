/** From an HTTP request to an operation's members: what noded refuses of HTTP, and how it reads a body. */
import type {IncomingMessage, ServerResponse} from 'node:http';
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {cutMembers} from './json-members';
import {JsonScanner} from './json-scan';
import type {Members} from './protocol';

/** Types that a body may claim; curl's default for -d is among them. */
const mediaTypes = new Set(['application/json', 'application/x-www-form-urlencoded']);

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(',') : value;
}

const refuse = (message: string): never => {
  throw new NodedError('bad_request', {message});
};

/** Visible ASCII: no blank, no control character, and nothing that URL parsers read in different ways. */
const target = /^\/(?!\/)[!-~]*$/;

/** What Node's parser lets through and smugglers like: refused before anything is done. */
export function checkRequest(request: IncomingMessage): void {
  const {rawHeaders, headers, httpVersion} = request;
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]!.toLowerCase() === 'host') hosts += 1;
  if (httpVersion !== '1.1' && httpVersion !== '1.0') refuse('the version must be HTTP/1.1');
  if (hosts > 1) refuse('Host is given twice');
  if (hosts === 0 && httpVersion === '1.1') refuse('Host is missing');
  if (rawHeaders.length / 2 > limits.maxHeaders) refuse(`over ${limits.maxHeaders} headers`);
  if (headers['transfer-encoding'] !== undefined && httpVersion !== '1.1') refuse('Transfer-Encoding needs HTTP/1.1');
  if (headers.upgrade !== undefined) refuse('there is nothing to upgrade to');
  if (headers.expect !== undefined && headers.expect.toLowerCase() !== '100-continue') refuse('Expect can be 100-continue only');
}

/** The path as it is, for an exact match: a URL parser would fold `..` and `%2e`. */
export function splitTarget(url: string): {readonly path: string; readonly query: string | null} {
  if (!target.test(url) || /[\\#]/.test(url)) refuse('the request target must be a path');
  const mark = url.indexOf('?');
  return mark === -1 ? {path: url, query: null} : {path: url.slice(0, mark), query: url.slice(mark + 1)};
}

/** Refuses a method that is not among `methods`. */
export function checkMethod(request: IncomingMessage, response: ServerResponse, ...methods: readonly string[]): void {
  if (methods.includes(request.method ?? '')) return;
  response.setHeader('Allow', methods.join(', '));
  throw new NodedError('method_not_allowed', {message: `this takes ${methods.join(' or ')}, not ${request.method}`});
}

/** A body of JSON, or what curl calls one. */
export function checkMediaType(request: IncomingMessage): void {
  const type = header(request, 'content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== undefined && !mediaTypes.has(type)) throw new NodedError('unsupported_media_type');
}

/** Checks what is known of a body before any of it is read: so also before `100 Continue` is sent. */
export function checkBodyHeaders(request: IncomingMessage, maxBytes: number): void {
  const encoding = header(request, 'content-encoding')?.toLowerCase() ?? 'identity';
  if (encoding !== 'identity') throw new NodedError('unsupported_media_type');
  if (Number(header(request, 'content-length') ?? 0) > maxBytes) {
    throw new NodedError('request_too_large', {message: `the body is over ${maxBytes} bytes`});
  }
}

/** Whether a request that must not have a body has one. */
export function hasBody(request: IncomingMessage): boolean {
  return request.headers['transfer-encoding'] !== undefined || Number(header(request, 'content-length') ?? 0) > 0;
}

/** A body as it comes. Kept as one growing buffer: chunks of one byte each would cost a hundred times their size. */
class BodyBuffer {
  size = 0;
  private bytes: Buffer = Buffer.alloc(0);

  write(chunk: Buffer): void {
    const size = this.size + chunk.length;
    if (this.size === 0) {
      this.bytes = chunk;
    } else {
      if (size > this.bytes.length) this.bytes = Buffer.concat([this.bytes.subarray(0, this.size)], Math.max(size, 2 * this.bytes.length));
      chunk.copy(this.bytes, this.size);
    }
    this.size = size;
  }

  read(): Buffer {
    return this.bytes.subarray(0, this.size);
  }
}

/** Reads a body and checks it as it comes: the scan of 16 MiB at once would stall the loop. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Members> {
  const scanner = new JsonScanner({maxDepth: limits.maxDepth, members: true});
  const body = await readBytes(request, maxBytes, (chunk) => scanner.write(chunk));
  return cutMembers(body, scanner.end());
}

/** Reads a body, whatever is in it. */
export function readBytes(request: IncomingMessage, maxBytes: number, look?: (chunk: Buffer) => void): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const body = new BodyBuffer();
    const take = (chunk: Buffer): void => {
      if (body.size + chunk.length > maxBytes) {
        request.off('data', take); // it goes on flowing, into nothing
        reject(new NodedError('request_too_large', {message: `the body is over ${maxBytes} bytes`}));
        return;
      }
      look?.(chunk);
      body.write(chunk);
    };
    request.on('data', take);
    request.on('end', () => resolve(body.read()));
    // The caller is gone in the middle of its request: nothing was started, and nobody is there to be told.
    request.on('error', () => reject(new NodedError('bad_request', {message: 'the request was cut short'})));
  });
}

const counts = new Set(['limit', 'cursor', 'stderr_from']);

/** A query string as members, so that the same checks serve: numbers where the protocol has numbers, else strings. */
export function queryMembers(query: URLSearchParams): Map<string, Uint8Array> {
  const members = new Map<string, Uint8Array>();
  for (const [name, value] of query) {
    if (members.has(name)) throw new NodedError('bad_field', {field: name, message: `${name} is given twice`});
    members.set(name, Buffer.from(counts.has(name) && /^\d{1,15}$/.test(value) ? String(Number(value)) : JSON.stringify(value)));
  }
  return members;
}
