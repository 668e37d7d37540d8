/**
 * One HTTP request from a master to one node: it ends with a whole answer by the time it is due, or with a
 * TransportError that says how far it got. Nothing here is repeated, except what a closed idle connection cost.
 */
import {X509Certificate} from 'node:crypto';
import * as http from 'node:http';
import * as https from 'node:https';
import type {Socket} from 'node:net';
import {Alarm} from '../base/alarm';
import {monotonicMs} from '../base/duration';
import {messageOf} from '../base/errors';
import type {Started} from '../base/errors';
import {clientOptions, goodFor, peerOf} from './tls';
import type {TlsMaterial} from './tls-files';

/**
 * What /status said after an answer was missed: `late`, it lives; `silent`, it takes connections and says nothing;
 * `down`, no connection; `restarted`, another noded answers than before.
 */
export type Health = 'late' | 'silent' | 'down' | 'restarted';

/** A TLS failure or a peer that speaks no HTTP: the same request fails again until somebody changes something. */
const lastingCodes = /^(ERR_(SSL|TLS|OSSL)_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_CA|INVALID_PURPOSE|EPROTO|HPE_|bad_answer|not_accepted)/;

/** The peer refused the handshake, so it has read no request. */
const refusedHandshake = /^(ERR_SSL_.*ALERT_(?!BAD_RECORD|CLOSE)|EPROTO)/;

/** It says that it is for the certificate: noded has no way to, but what stands before it may. */
const refusedCertificate = /^ERR_SSL_.*ALERT_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/;

/** How a connection that the node has closed answers a request; an answer that was begun is `cut_off`. */
const closedCodes: readonly string[] = ['ECONNRESET', 'EPIPE'];

interface TransportFacts {
  readonly started: Extract<Started, 'no' | 'unknown'>;
  /** Whether a connection was made at all. */
  readonly connected: boolean;
  readonly health?: Health | null;
  readonly cause?: unknown;
}

/** No answer of the node: everything that can go wrong between a master and noded, apart from refusals. */
export class TransportError extends Error {
  override readonly name = 'TransportError';
  /** `unknown` once the request may have reached the node. */
  readonly started: Extract<Started, 'no' | 'unknown'>;
  readonly connected: boolean;
  /** Null if the node was not asked, because the failure says enough. */
  readonly health: Health | null;

  /** `code`: an errno name, a code of OpenSSL or Node, or `no_answer`, `cut_off`, `bad_answer`, `not_accepted`. */
  constructor(readonly code: string, message: string, facts: TransportFacts) {
    super(message, {cause: facts.cause});
    this.started = facts.started;
    this.connected = facts.connected;
    this.health = facts.health ?? null;
  }

  /** Whether the same request would fail in the same way. */
  get lasting(): boolean {
    return lastingCodes.test(this.code);
  }

  /** Whether the node closed the connection instead of answering. */
  get closed(): boolean {
    return this.connected && closedCodes.includes(this.code);
  }

  /** The same failure with more known about it. */
  with(facts: Partial<TransportFacts>): TransportError {
    return new TransportError(this.code, this.message, {started: this.started, connected: this.connected, health: this.health, cause: this, ...facts});
  }
}

export interface Target {
  readonly host: string;
  readonly port: number;
  /** Null is plain HTTP. */
  readonly tls: TlsMaterial | null;
  /** The name that must stand in the node's certificate, where that is not `host`. */
  readonly serverName?: string;
}

export interface Exchange {
  readonly method: 'GET' | 'PUT';
  readonly path: string;
  readonly body?: string;
  /** The head of the answer is due after so long, then all of its body, and some of that again and again. */
  readonly dueMs: number;
  /** On the monotonic clock: all of the answer is due then, whatever else. */
  readonly endMs?: number;
  /** Do not use a connection that was used before. */
  readonly fresh?: boolean;
  /** May be sent a second time when an idle connection turns out to be closed. */
  readonly repeatable: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  /** Null if it is not noded that answers. */
  readonly instance: string | null;
  readonly body: Buffer;
}

/** An answer over this is not read: V8's longest string is about twice as long. */
const maxAnswerBytes = 256 * 1024 * 1024;

/** What bodies may take on their way, on top of what is due: 100 KiB/s is the slowest network that counts as up. */
const slowestBytesPerMs = 100;

/** Its connections to one node are kept alive, and each carries one request at a time. */
export class Connections {
  readonly #target: Target;
  readonly #agent: http.Agent;

  constructor(target: Target) {
    this.#target = target;
    const options: https.AgentOptions = {keepAlive: true, scheduling: 'lifo', ...this.#tlsOptions()};
    this.#agent = target.tls === null ? new http.Agent(options) : new https.Agent(options);
  }

  /** Throws a TransportError, or the signal's reason. */
  async exchange(exchange: Exchange): Promise<HttpAnswer> {
    const attempt = new Attempt(this.#open(exchange), exchange, this.#target.tls);
    try {
      return await attempt.answer;
    } catch (error) {
      // The node closed an idle connection just as the request was sent: the likeliest of all losses, and no sign of trouble.
      const foundClosed = attempt.reusedConnection && error instanceof TransportError && error.closed;
      if (foundClosed && exchange.repeatable) return this.exchange({...exchange, fresh: true});
      throw error;
    }
  }

  /** Ends idle and busy connections; a call at the other end goes on. */
  close(): void {
    this.#agent.destroy();
  }

  #tlsOptions(): https.AgentOptions {
    const {tls, serverName} = this.#target;
    return {...(tls === null ? {} : clientOptions(tls)), ...(serverName === undefined ? {} : {servername: serverName})};
  }

  #open({method, path, body, fresh}: Exchange): http.ClientRequest {
    const {host, port, tls} = this.#target;
    const headers: http.OutgoingHttpHeaders = body === undefined ? {} : {'content-type': 'application/json', 'content-length': Buffer.byteLength(body)};
    const options: https.RequestOptions = {host, port, method, path, headers, agent: fresh === true ? false : this.#agent, ...this.#tlsOptions()};
    return (tls === null ? http : https).request(options);
  }
}

class Attempt {
  readonly answer: Promise<HttpAnswer>;
  readonly #request: http.ClientRequest;
  readonly #exchange: Exchange;
  readonly #tls: TlsMaterial | null;
  #resolve!: (answer: HttpAnswer) => void;
  #reject!: (reason: unknown) => void;
  #alarm: Alarm | undefined;
  readonly #beganMs = monotonicMs();
  /** When all of the answer is due, but for what its bytes take on their way. */
  #endMs: number;
  /** A connection, and with TLS its handshake: from then on the request may have reached the node. */
  #connected = false;
  #mayHaveArrived = false;
  #answered = false;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(request: http.ClientRequest, exchange: Exchange, tls: TlsMaterial | null) {
    this.#request = request;
    this.#exchange = exchange;
    this.#tls = tls;
    this.#endMs = exchange.endMs ?? Infinity;
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#arm(exchange.dueMs + this.#paceMs);
    exchange.signal?.addEventListener('abort', this.#onAbort);
    request.on('socket', (socket) => this.#onSocket(socket));
    request.on('response', (response) => this.#onResponse(response));
    request.on('error', (error) => this.#fail(error));
    if (exchange.signal?.aborted === true) this.#onAbort();
    else request.end(exchange.body);
  }

  get reusedConnection(): boolean {
    return this.#request.reusedSocket;
  }

  readonly #onAbort = (): void => {
    this.#settle();
    this.#reject(this.#exchange.signal?.reason);
    this.#request.destroy();
  };

  #onSocket(socket: Socket): void {
    if (this.#request.reusedSocket) {
      this.#connected = true;
      this.#mayHaveArrived = true;
      return;
    }
    socket.once('connect', () => {
      this.#connected = true;
    });
    socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => {
      this.#mayHaveArrived = true;
    });
  }

  #onResponse(response: http.IncomingMessage): void {
    const {dueMs} = this.#exchange;
    this.#answered = true;
    this.#endMs = Math.min(this.#endMs, monotonicMs() + dueMs);
    this.#arm(dueMs);
    response.on('data', (chunk: Buffer) => {
      this.#bytes += chunk.length;
      this.#arm(dueMs);
      if (this.#bytes > maxAnswerBytes) this.#give('bad_answer', `an answer over ${maxAnswerBytes} bytes`);
      else this.#chunks.push(chunk);
    });
    response.on('error', (error) => this.#give('cut_off', `the answer was cut off after ${this.#bytes} bytes: ${messageOf(error)}`));
    response.on('end', () => {
      this.#settle();
      const instance = response.headers['noded-instance'];
      this.#resolve({
        status: response.statusCode ?? 0,
        contentType: response.headers['content-type'] ?? '',
        instance: typeof instance === 'string' ? instance : null,
        body: Buffer.concat(this.#chunks, this.#bytes),
      });
    });
  }

  get #paceMs(): number {
    return ((this.#exchange.body?.length ?? 0) + this.#bytes) / slowestBytesPerMs;
  }

  /** What is due next is due after so long, or when all of the answer is. */
  #arm(gapMs: number): void {
    this.#alarm?.clear();
    this.#alarm = new Alarm(Math.min(monotonicMs() + gapMs, this.#endMs + this.#paceMs), () => this.#overdue());
  }

  #overdue(): void {
    const what = this.#answered ? `only ${this.#bytes} bytes of the answer` : this.#connected ? 'no answer' : 'no connection';
    this.#give(this.#connected ? 'no_answer' : 'ETIMEDOUT', `${what} in ${Math.round((monotonicMs() - this.#beganMs) / 100) / 10} s`);
  }

  #fail(error: Error & {code?: string}): void {
    const code = error.code ?? 'cut_off';
    const started = this.#mayHaveArrived && !refusedHandshake.test(code) ? 'unknown' : 'no';
    const message = error.message || code; // that of an AggregateError of several addresses is empty
    this.#give(code, `${message}${this.#suspicion(code)}`, started, error);
  }

  /** A node that does not take our certificate closes the connection, or sends an alert if it has the time, and can say no more. */
  #suspicion(code: string): string {
    const closed = closedCodes.includes(code) && this.#mayHaveArrived && !this.#request.reusedSocket;
    if (this.#tls === null || !(closed || refusedCertificate.test(code))) return '';
    const {subject, fingerprint, ...dates} = peerOf(new X509Certificate(this.#tls.cert));
    const what = closed ? 'the node closed a new connection without an answer, as it does to a certificate that it refuses' : 'the node refuses this certificate';
    return `; ${what}: ${subject}, sha256:${fingerprint}, ${goodFor(dates)}; its log says more`;
  }

  #give(code: string, message: string, started: 'no' | 'unknown' = this.#mayHaveArrived ? 'unknown' : 'no', cause?: unknown): void {
    this.#settle();
    this.#reject(new TransportError(code, message, {started, connected: this.#connected, cause}));
    this.#request.destroy();
  }

  #settle(): void {
    this.#alarm?.clear();
    this.#exchange.signal?.removeEventListener('abort', this.#onAbort);
  }
}
