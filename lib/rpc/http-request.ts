/** From an HTTP request to an operation's members: what noded refuses of HTTP, and how it reads a body. */
import type {IncomingMessage} from 'node:http';
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

/** What Node's parser lets through and smugglers like: refused before anything is done. */
export function checkRequest(request: IncomingMessage): void {
  const {rawHeaders, url = '', httpVersion} = request;
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]!.toLowerCase() === 'host') hosts += 1;
  if (hosts > 1) throw new NodedError('bad_request', {message: 'Host is given twice'});
  if (rawHeaders.length / 2 >= limits.maxHeaders) throw new NodedError('bad_request', {message: `over ${limits.maxHeaders} headers`});
  if (!url.startsWith('/') || url.startsWith('//')) throw new NodedError('bad_request', {message: 'the request target must be a path'});
  if (httpVersion !== '1.1' && request.headers['transfer-encoding'] !== undefined) {
    throw new NodedError('bad_request', {message: 'Transfer-Encoding needs HTTP/1.1'});
  }
}

/** Checks what is known of a body before any of it is read: so also before `100 Continue` is sent. */
export function checkBodyHeaders(request: IncomingMessage, maxBytes: number): void {
  const type = header(request, 'content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== undefined && !mediaTypes.has(type)) throw new NodedError('unsupported_media_type');
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

/** Reads a body and checks it as it comes: the scan of 16 MiB at once would stall the loop. */
export function readBody(request: IncomingMessage, maxBytes: number): Promise<Members> {
  return new Promise((resolve, reject) => {
    const scanner = new JsonScanner({maxDepth: limits.maxDepth, members: true});
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) {
        request.removeAllListeners('data');
        chunks.length = 0;
        reject(new NodedError('request_too_large', {message: `the body is over ${maxBytes} bytes`}));
        return;
      }
      scanner.write(chunk);
      chunks.push(chunk);
    });
    request.on('end', () => {
      try {
        resolve(cutMembers(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks), scanner.end()));
      } catch (error) {
        reject(error as Error);
      }
    });
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
