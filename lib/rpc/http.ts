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
import type {Log} from '../base/log';
import {LogLimit} from '../base/log-limit';
import {watchHandshakes} from './http-handshakes';
import type {HandshakeWatch} from './http-handshakes';
import {checkBodyHeaders, checkMediaType, checkMethod, checkRequest, hasBody, queryMembers, readBody, splitTarget} from './http-request';
import {rawProblem, sendRefusal, sendReply} from './http-reply';
import type {RefusalWriter} from './http-reply';
import type {Caller, Operation, OperationContext} from './operations';
import {protocolVersion} from './protocol';
import type {Reply} from './reply';
import {UntrustedError, localRole, nameOf, peerOfSocket} from './tls';
import type {Peer, Role} from './tls';

/** What a request asks for, once it has been read. */
export type Task = (caller: Caller) => Promise<Reply>;

/** One request of another protocol on the same port: how it is read, answered and noted (rpc/ganeti.ts). */
export interface HttpGuest {
  /** Of its answers, with those that all answers have. */
  readonly headers: Readonly<Record<string, string>>;
  readonly writeRefusal: RefusalWriter;
  /** `proceed` is to be called before the body is read. A refusal is a thrown NodedError. */
  read(response: ServerResponse, proceed: () => void): Promise<Task>;
  /** An answer with this status has been sent, or its caller has gone meanwhile. */
  answered(status: number, refusal: NodedError | null): void;
}

export interface HttpOptions {
  readonly context: OperationContext;
  readonly operations: ReadonlyMap<string, Operation>;
  readonly queries: ReadonlyMap<string, Operation>;
  /** Null without TLS: then every caller is `local`. */
  readonly tls: (HandshakeWatch & {readonly server: TlsOptions}) | null;
  /** The role of a peer now; asked on every request. Throws a NodedError for one that has none. */
  readonly authorize: (peer: Peer | null) => Role;
  /** Has the requests whose path is neither an operation nor a query; without it they are refused. */
  readonly guest?: (request: IncomingMessage) => HttpGuest;
  readonly maxRequestBytes: number;
  readonly maxConnections: number;
  /** `<boot id>:<pid>:<start>`: tells a master that this is another incarnation. */
  readonly instance: string;
  readonly log: Log;
  /** Told of each request before anything is done for it. */
  readonly arrived: () => void;
  readonly refused: (code: ErrorCode) => void;
}

/** What is known of a connection. */
interface Connection {
  /** One request at a time: Node parses pipelined ones without limit. */
  state: 'idle' | 'reading' | 'serving';
  /**
   * Responses of which Node has not said yet that they left. Over TLS it says so a turn of the loop later, and
   * the next request of a master who has the whole answer may come first: that one is not pipelined.
   */
  unsent: number;
  /** It ends with the refusal that was sent or is about to be: nothing after that is looked at. */
  refused: boolean;
  /** What came could not be parsed, and that was the answer: also for a request that was still being read. */
  broken: boolean;
  peer: Peer | null | undefined;
  /** The CAs that its handshake was checked against. */
  against: unknown;
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
  // Answered by checkRequest, as a problem like all others.
  requireHostHeader: false,
} as const;

/** GET /<word>, and the query that it is. */
const queryNames: Readonly<Record<string, string>> = {calls: 'ListCalls', functions: 'ListFunctions', status: 'GetStatus', metrics: 'GetMetrics'};

export class HttpBinding {
  readonly server: Server;
  private readonly connections = new WeakMap<Socket, Connection>();
  private readonly headers: Record<string, string>;
  private readonly refusalLines = new LogLimit();
  private closing = false;
  private answering = 0;

  constructor(private readonly options: HttpOptions) {
    this.headers = {'Noded-Protocol': String(protocolVersion), 'Noded-Instance': options.instance};
    const handler = (request: IncomingMessage, response: ServerResponse): void => void this.handle(request, response, false);
    this.server = options.tls === null ? http.createServer(serverOptions, handler) : https.createServer({...serverOptions, ...options.tls.server}, handler);
    // maxHeaderSize bounds them, and checkRequest counts them: what Node does at a limit of its own differs from version to version.
    this.server.maxHeadersCount = 0;
    this.server.maxConnections = options.maxConnections;
    this.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => void this.handle(request, response, true));
    this.server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => void this.handle(request, response, false));
    this.server.on('connect', (_request: IncomingMessage, socket: Socket) => {
      socket.on('error', () => socket.destroy()); // Node has let go of the socket, and of its errors
      this.refuseSocket('CONNECT', 'bad_request', socket);
    });
    this.server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => this.clientError(error, socket));
    this.server.on('drop', () => options.log.info({max: options.maxConnections}, 'a connection was refused: too many are open'));
    if (options.tls === null) return;
    watchHandshakes(this.server, {...options.tls, log: options.log, proven: (socket, against) => void (this.connectionOf(socket).against = against)});
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
      connection = {state: 'idle', unsent: 0, refused: false, broken: false, peer: undefined, against: undefined};
      this.connections.set(socket, connection);
    }
    return connection;
  }

  private async handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): Promise<void> {
    this.options.arrived();
    const connection = this.connectionOf(request.socket);
    if (connection.refused) return; // the refusal before this one closes the connection
    if (connection.state !== 'idle' || connection.unsent > 1) {
      connection.refused = true;
      this.refuse(response, new NodedError('too_many_in_flight'), true);
      // Whoever goes on sending waits in the kernel, not in memory. Later: Node's parser resumes at the end of each request.
      setImmediate(() => request.socket.pause());
      return;
    }
    connection.state = 'reading';
    this.count(connection, response);
    const guest = this.guestOf(request);
    const proceed = (): void => void (expectsContinue && response.writeContinue());
    let refusal: NodedError | null = null;
    try {
      const role = this.roleOf(request.socket, connection);
      checkRequest(request);
      const task = await (guest?.read(response, proceed) ?? this.read(request, response, proceed));
      if (connection.broken) return;
      connection.state = 'serving';
      await sendReply(response, await task(this.caller(request, response, role)), this.responseHeaders(false, guest));
    } catch (error) {
      refusal = this.refusalOf(error);
      // What was not read of the body cannot be told from a next request, nor what a smuggler sends after his first.
      const close = (hasBody(request) && !request.complete) || refusal.code === 'bad_request' || refusal instanceof UntrustedError;
      connection.refused ||= close;
      this.refuse(response, refusal, close, guest);
    }
    guest?.answered(response.statusCode, refusal);
    connection.state = 'idle';
  }

  private count(connection: Connection, response: ServerResponse): void {
    connection.unsent += 1;
    this.answering += 1;
    response.once('close', () => {
      connection.unsent -= 1;
      this.answering -= 1;
    });
  }

  /** Null for a request that is for the operations, also if they will refuse it. */
  private guestOf(request: IncomingMessage): HttpGuest | null {
    const {guest, operations} = this.options;
    if (guest === undefined) return null;
    const [, name = ''] = (request.url ?? '').split(/[/?]/);
    return operations.has(name) || Object.hasOwn(queryNames, name) ? null : guest(request);
  }

  private roleOf(socket: Socket, connection: Connection): Role {
    if (this.options.tls === null) return localRole;
    // TLS 1.3 has no renegotiation: a connection's certificate stays, only what it may do changes.
    connection.peer ??= peerOfSocket(socket as TLSSocket, connection.against);
    try {
      return this.options.authorize(connection.peer);
    } catch (error) {
      if (error instanceof NodedError) this.tellRefusal(error, socket, connection.peer);
      throw error;
    }
  }

  private tellRefusal({code, message}: NodedError, {remoteAddress: address}: Socket, peer: Peer | null): void {
    const unsaid = this.refusalLines.take(`${code} ${peer?.fingerprint}`);
    if (unsaid !== null) this.options.log.warn({code, ...nameOf(peer), address, ...unsaid}, `a request is refused: ${message}`);
  }

  private caller(request: IncomingMessage, response: ServerResponse, role: Role): Caller {
    const traceparent = request.headers.traceparent;
    return {
      role,
      traceparent: typeof traceparent === 'string' && /^[\x21-\x7e]{1,128}$/.test(traceparent) ? traceparent : null,
      // 'close' of the request comes when its body was read; of the response, when the connection is gone too.
      onGone: (callback) => void (response.destroyed ? callback() : response.once('close', () => void (response.writableFinished || callback()))),
    };
  }

  private async read(request: IncomingMessage, response: ServerResponse, proceed: () => void): Promise<Task> {
    const {context, operations, maxRequestBytes} = this.options;
    const {path, query: search} = splitTarget(request.url ?? '');
    const [, name = '', id, ...rest] = path.split('/');
    const operation = operations.get(name);
    if (operation !== undefined && id === undefined) {
      checkMethod(request, response, 'PUT');
      if (search !== null) throw new NodedError('unknown_field', {message: 'this operation takes no query'});
      checkMediaType(request);
      checkBodyHeaders(request, maxRequestBytes);
      proceed();
      const members = await readBody(request, maxRequestBytes);
      return (caller) => operation(context, caller, members);
    }
    const query = rest.length > 0 ? undefined : this.queryOf(name, id);
    if (query === undefined) throw new NodedError('unknown_operation', {message: `there is no operation ${path}`});
    checkMethod(request, response, 'GET');
    if (hasBody(request)) throw new NodedError('bad_request', {message: 'a GET has no body here'});
    const members = queryMembers(new URLSearchParams(search ?? ''));
    if (id !== undefined) members.set('fnc_id', Buffer.from(JSON.stringify(decode(id))));
    return (caller) => query(context, caller, members);
  }

  private queryOf(name: string, id: string | undefined): Operation | undefined {
    const {queries} = this.options;
    if (id !== undefined) return name === 'calls' ? queries.get('GetCall') : undefined;
    return Object.hasOwn(queryNames, name) ? queries.get(queryNames[name]!) : undefined;
  }

  private responseHeaders(close: boolean, guest: HttpGuest | null): Record<string, string> {
    const headers = guest === null ? this.headers : {...this.headers, ...guest.headers};
    return close || this.closing ? {...headers, Connection: 'close'} : headers;
  }

  private refusalOf(error: unknown): NodedError {
    if (error instanceof NodedError) return error;
    this.options.log.error({err: error}, `a request failed: ${messageOf(error)}`);
    return new NodedError('internal');
  }

  private refuse(response: ServerResponse, error: NodedError, close: boolean, guest: HttpGuest | null = null): void {
    if (response.destroyed) return; // the caller is gone, and so is its request
    this.options.refused(error.code);
    if (response.headersSent) response.destroy();
    else sendRefusal(response, error, this.responseHeaders(close, guest), guest?.writeRefusal);
  }

  /** What came over this socket is no request, or does not end. */
  private clientError(error: NodeJS.ErrnoException, socket: Socket): void {
    // A failed handshake comes here too, and there is no way to tell anybody.
    if (this.options.tls !== null && !this.connections.has(socket)) return void socket.destroy();
    const code = error.code === 'HPE_HEADER_OVERFLOW' ? 'request_too_large' : 'bad_request';
    this.refuseSocket(`the request is not HTTP/1.1: ${error.code ?? error.message}`, code, socket);
  }

  private refuseSocket(message: string, code: ErrorCode, socket: Socket): void {
    const connection = this.connectionOf(socket);
    // While a request is served, or its answer is on the way, this would be taken for that answer, or for a part of it.
    const before = connection.unsent - (connection.state === 'reading' ? 1 : 0);
    if (connection.state === 'serving' || before > 1) return void socket.destroy();
    if (connection.refused) return void (socket.readableEnded && socket.destroySoon());
    connection.refused = connection.broken = true;
    if (!socket.writable) return void socket.destroy();
    this.options.refused(code);
    socket.end(rawProblem(new NodedError(code, {message}), this.headers));
    // To close while the peer still sends would reset the connection, and the reset can overtake the answer.
    const timer = setTimeout(() => socket.destroy(), limits.closeGraceMs);
    socket.once('close', () => clearTimeout(timer));
    socket.resume();
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new NodedError('bad_request', {message: 'the path has a wrong % escape'});
  }
}
