/** The HTTP binding of the operations: HTTPS/1.1 with client certificates, or plain HTTP on loopback (DESIGN.md sections 8 and 9). */
import http from 'node:http';
import https from 'node:https';
import type {IncomingMessage, Server, ServerResponse} from 'node:http';
import type {Socket} from 'node:net';
import type {TLSSocket, TlsOptions} from 'node:tls';
import {monotonicMs} from '../base/duration';
import {NodedError, messageOf} from '../base/errors';
import type {ErrorCode} from '../base/errors';
import {limits} from '../base/limits';
import {checkBodyHeaders, checkRequest, hasBody, queryMembers, readBody} from './http-request';
import {rawProblem, sendProblem, sendReply} from './http-reply';
import type {Caller, Operation, OperationContext} from './operations';
import {protocolVersion} from './protocol';
import type {Members} from './protocol';
import {localRole, peerOfSocket, roleOf} from './tls';
import type {Peer, Role} from './tls';

export interface HttpOptions {
  readonly context: OperationContext;
  readonly operations: ReadonlyMap<string, Operation>;
  readonly queries: ReadonlyMap<string, Operation>;
  /** Null without TLS: then every caller is `local`. */
  readonly tls: TlsOptions | null;
  /** The roles as they are now: asked for on every request. */
  readonly roles: () => readonly Role[];
  readonly maxRequestBytes: number;
  readonly maxConnections: number;
  /** `<boot id>:<pid>:<start>`: tells a master that this is another incarnation. */
  readonly instance: string;
  readonly log: {info(fields: object, message: string): void; error(fields: object, message: string): void};
  readonly refused: (code: ErrorCode) => void;
}

/** What is known of a connection. */
interface Connection {
  /** One request at a time: Node parses pipelined ones without limit. */
  busy: boolean;
  refused: boolean;
  peer: Peer | null | undefined;
}

const serverOptions = {
  headersTimeout: limits.headersTimeoutMs,
  requestTimeout: limits.requestTimeoutMs,
  connectionsCheckingInterval: limits.connectionsCheckMs,
  keepAliveTimeout: limits.keepAliveMs,
  keepAlive: true,
  keepAliveInitialDelay: limits.tcpKeepAliveMs,
  noDelay: true,
  maxHeaderSize: limits.maxHeaderBytes,
  requireHostHeader: true,
} as const;

export class HttpBinding {
  readonly server: Server;
  private readonly connections = new WeakMap<Socket, Connection>();
  private readonly headers: Record<string, string>;
  private closing = false;
  private answering = 0;

  constructor(private readonly options: HttpOptions) {
    this.headers = {'Noded-Protocol': String(protocolVersion), 'Noded-Instance': options.instance};
    const handler = (request: IncomingMessage, response: ServerResponse): void => void this.handle(request, response, false);
    this.server = options.tls === null ? http.createServer(serverOptions, handler) : https.createServer({...serverOptions, ...options.tls}, handler);
    this.server.maxHeadersCount = limits.maxHeaders;
    this.server.maxConnections = options.maxConnections;
    this.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => void this.handle(request, response, true));
    this.server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => this.refuseSocket(error, socket));
    this.server.on('drop', () => options.log.info({max: options.maxConnections}, 'a connection was refused: too many are open'));
    if (options.tls !== null) this.limitHandshakes();
  }

  /** Takes no new connections. Open ones go on, each until its next answer, so that a master can still fetch and wait. */
  stopListening(): void {
    this.closing = true;
    this.server.close();
  }

  /** Ends all connections: those with an answer under way have `graceMs` to take it. `server.close()` alone waits for silent sockets. */
  async close(graceMs: number): Promise<void> {
    this.stopListening();
    for (const until = monotonicMs() + graceMs; this.answering > 0 && monotonicMs() < until; ) {
      await new Promise((resolve) => setTimeout(resolve, limits.closePollMs));
    }
    this.server.closeAllConnections();
  }

  private connectionOf(socket: Socket): Connection {
    let connection = this.connections.get(socket);
    if (connection === undefined) {
      connection = {busy: false, refused: false, peer: undefined};
      this.connections.set(socket, connection);
    }
    return connection;
  }

  private async handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): Promise<void> {
    const connection = this.connectionOf(request.socket);
    if (connection.refused) return; // the refusal before this one closes the connection
    if (connection.busy) {
      connection.refused = true;
      this.refuse(response, new NodedError('too_many_in_flight'), true);
      return;
    }
    connection.busy = true;
    this.answering += 1;
    response.once('close', () => {
      connection.busy = false;
      this.answering -= 1;
    });
    try {
      const role = this.roleOf(request.socket, connection);
      checkRequest(request);
      const {operation, members} = await this.route(request, response, expectsContinue);
      const reply = await operation(this.options.context, this.caller(request, response, role), members);
      await sendReply(response, reply, this.responseHeaders(false));
    } catch (error) {
      // What was not read of the body cannot be told from a next request.
      this.refuse(response, this.refusalOf(error), !request.complete);
    }
  }

  private roleOf(socket: Socket, connection: Connection): Role {
    if (this.options.tls === null) return localRole;
    // TLS 1.3 has no renegotiation: a connection's certificate stays, only what it may do changes.
    connection.peer ??= peerOfSocket(socket as TLSSocket);
    return roleOf(connection.peer, this.options.roles());
  }

  private caller(request: IncomingMessage, response: ServerResponse, role: Role): Caller {
    const traceparent = request.headers.traceparent;
    return {
      role,
      traceparent: typeof traceparent === 'string' && /^[\x21-\x7e]{1,128}$/.test(traceparent) ? traceparent : null,
      // 'close' of the request comes when its body was read; of the response, when the connection is gone too.
      onGone: (callback) => response.once('close', () => void (response.writableFinished || callback())),
    };
  }

  private async route(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): Promise<{operation: Operation; members: Members}> {
    const target = new URL(request.url ?? '/', 'http://noded');
    const [, name = '', id, ...rest] = target.pathname.split('/');
    const operation = this.options.operations.get(name);
    if (operation !== undefined && id === undefined) {
      checkMethod(request, 'PUT');
      if (target.search !== '') throw new NodedError('unknown_field', {message: 'this operation takes no query'});
      checkBodyHeaders(request, this.options.maxRequestBytes);
      if (expectsContinue) response.writeContinue();
      return {operation, members: await readBody(request, this.options.maxRequestBytes)};
    }
    const query = rest.length > 0 ? undefined : this.queryOf(name, id);
    if (query === undefined) throw new NodedError('unknown_operation', {message: `there is no operation ${target.pathname}`});
    checkMethod(request, 'GET');
    if (hasBody(request)) throw new NodedError('bad_request', {message: 'a GET has no body here'});
    const members = queryMembers(target.searchParams);
    if (id !== undefined) members.set('fnc_id', Buffer.from(JSON.stringify(decode(id))));
    return {operation: query, members};
  }

  private queryOf(name: string, id: string | undefined): Operation | undefined {
    const {queries} = this.options;
    if (id !== undefined) return name === 'calls' ? queries.get('GetCall') : undefined;
    const names: Readonly<Record<string, string>> = {calls: 'ListCalls', functions: 'ListFunctions', status: 'GetStatus', metrics: 'GetMetrics'};
    return Object.hasOwn(names, name) ? queries.get(names[name]!) : undefined;
  }

  private responseHeaders(close: boolean): Record<string, string> {
    return close || this.closing ? {...this.headers, Connection: 'close'} : this.headers;
  }

  private refusalOf(error: unknown): NodedError {
    if (error instanceof NodedError) return error;
    this.options.log.error({err: error}, `a request failed: ${messageOf(error)}`);
    return new NodedError('internal');
  }

  private refuse(response: ServerResponse, error: NodedError, close: boolean): void {
    this.options.refused(error.code);
    if (response.headersSent || response.destroyed) response.destroy();
    else sendProblem(response, error, this.responseHeaders(close));
  }

  /** No request could be read from this socket. */
  private refuseSocket(error: NodeJS.ErrnoException, socket: Socket): void {
    const code = error.code === 'HPE_HEADER_OVERFLOW' ? 'request_too_large' : 'bad_request';
    this.options.refused(code);
    if (socket.writable && error.code !== 'ECONNRESET') socket.end(rawProblem(new NodedError(code, {message: `the request is not HTTP/1.1: ${error.code ?? error.message}`}), this.headers));
    // A peer that does not read must not keep the socket open.
    socket.destroySoon();
  }

  /** Strangers cost a handshake each: only so many at a time. Each connection ends its own in exactly one of two events. */
  private limitHandshakes(): void {
    let underWay = 0;
    this.server.on('connection', (socket: Socket) => {
      underWay += 1;
      if (underWay > limits.maxHandshakes) socket.destroy();
    });
    this.server.on('secureConnection', () => (underWay -= 1));
    this.server.on('tlsClientError', (error: Error) => {
      underWay -= 1;
      this.options.log.info({}, `a TLS handshake failed: ${error.message}`);
    });
  }
}

function checkMethod(request: IncomingMessage, method: string): void {
  if (request.method !== method) throw new NodedError('method_not_allowed', {message: `this operation takes ${method}, not ${request.method}`});
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new NodedError('bad_request', {message: 'the path has a wrong % escape'});
  }
}
