/**
 * A master's client of ONE node (DESIGN.md section 12). It waits in slices, so that an answer is due at known times;
 * asks what a missed answer means; and never starts a function twice, because every start has a request ID and a
 * lost answer is looked for before the start is sent again.
 */
import {randomUUID} from 'node:crypto';
import {monotonicMs} from '../base/duration';
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {checkAnswer, readCallPage, readMany, readObject, readOne} from './client-answers';
import type {Answers, CallPage, JsonObject} from './client-answers';
import {callAndFollow, followCall} from './client-follow';
import type {Steps} from './client-follow';
import {HealthWatch, Patience} from './client-health';
import type {HealthReport, PatienceOptions} from './client-health';
import {bodyOfStart, pathOfCalls} from './client-requests';
import type {AbortRequest, Bounds, CallFilter, CallRequest, FollowOptions, StartRequest, WaitRequest} from './client-requests';
import {Connections, TransportError} from './client-transport';
import type {Exchange, HttpAnswer, Target} from './client-transport';
import {writeAbortFunction, writeForgetFunction, writeWaitForFunction, writeWaitForFunctions} from './protocol';
import type {CallReference} from './protocol';
import type {Answer} from './protocol-answer';
import type {TlsMaterial} from './tls-files';

export interface NodeClientOptions {
  /** Name or address. Without `tls` only one of this machine: noded without TLS listens there only. */
  readonly host: string;
  readonly port: number;
  readonly tls?: TlsMaterial | null;
  /** The name that must stand in the node's certificate, where that is not `host`. */
  readonly serverName?: string;
  /** After so long without any sign of life a node is known to be silent or down. Default 20 s. */
  readonly deadAfterMs?: number;
  /** How much later than promised an answer may come. Default 1 s. */
  readonly graceMs?: number;
  /** How long one request is repeated while the node may be restarting, or refuses for now. Default 60 s. */
  readonly patienceMs?: number;
  /** Pauses between two tries double from the first to the longest. Default 100 ms and 5 s. */
  readonly firstPauseMs?: number;
  readonly longestPauseMs?: number;
  /** Told of every missed answer, and when another noded answers than before. */
  readonly onHealth?: (report: HealthReport) => void;
}

interface Put {
  readonly operation: string;
  readonly timeoutMs: number;
  /** How much longer it may take on a busy node. */
  readonly busyMs?: number;
  /** The body, for what is left of `timeoutMs`. */
  readonly write: (leftMs: number) => string;
}

/** What there is to find a start whose answer was lost, and to send it again. */
interface Recovery {
  readonly again: WaitRequest;
  readonly send: () => Promise<Answer>;
  readonly bounds: Bounds;
}

const defaults = {deadAfterMs: 20_000, graceMs: 1_000, patienceMs: 60_000, firstPauseMs: 100, longestPauseMs: 5_000} as const;

/**
 * All methods throw a NodedError for what the node refused, and a TransportError where it did not answer. Requests
 * that change nothing a second time are repeated for `patienceMs`; those that only look are not.
 */
export class NodeClient {
  /** `host:port`, as messages name it. */
  readonly node: string;
  /** How long one wait of a long one is: an answer is missed, and /status asked, within deadAfterMs. */
  readonly sliceMs: number;
  readonly #graceMs: number;
  readonly #patience: PatienceOptions;
  readonly #connections: Connections;
  readonly #health: HealthWatch;

  /** Throws a RangeError for options that make no sense. */
  constructor(options: NodeClientOptions) {
    const {host, port, tls = null, deadAfterMs, graceMs, patienceMs, firstPauseMs, longestPauseMs} = {...defaults, ...options};
    if (tls === null && !isLoopback(host)) throw new RangeError(`${host}: without TLS only this machine can be called`);
    if (deadAfterMs <= graceMs) throw new RangeError(`deadAfterMs must be over ${graceMs}`);
    this.node = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    this.sliceMs = (deadAfterMs - graceMs) / 2;
    // What a tenth of the slice gives to a slow network is taken from the question that follows.
    const marginMs = this.sliceMs / 10;
    this.#graceMs = graceMs + marginMs;
    this.#patience = {patienceMs, firstPauseMs, longestPauseMs};
    const target: Target = {host, port, tls, ...(options.serverName === undefined ? {} : {serverName: options.serverName})};
    this.#connections = new Connections(target);
    this.#health = new HealthWatch(this.#connections, this.node, {probeMs: this.sliceMs - marginMs, hastyMs: this.#graceMs}, options.onHealth ?? (() => undefined));
  }

  /**
   * Starts a function, at most once: an answer that gets lost is asked for by request ID, and only a node that
   * has not seen the request gets it again. A TransportError says `started: 'no'` only if that is certain.
   */
  async startFunction(start: StartRequest, signal?: AbortSignal): Promise<Answer> {
    return this.#start(start, {signal});
  }

  /** Throws unknown_call or unknown_request if the node knows no such call, call_expired or call_lost if only that it was. */
  async waitForFunction(request: WaitRequest): Promise<Answer> {
    return this.#wait(request, {signal: request.signal});
  }

  async #start(start: StartRequest, bounds: Bounds): Promise<Answer> {
    const requestId = start.requestId ?? randomUUID();
    const {timeoutMs} = start;
    // Fire and forget is answered once the function runs, which may take a while on a busy node.
    const busyMs = timeoutMs === 0 ? limits.startWaitMs : 0;
    const write = (leftMs: number): string => bodyOfStart({...start, timeoutMs: leftMs}, requestId);
    const send = async (): Promise<Answer> => readOne(await this.#put({operation: 'StartFunction', timeoutMs, busyMs, write}, bounds));
    const again: WaitRequest = {call: {requestId}, timeoutMs, ...(start.stderrFrom === undefined ? {} : {stderrFrom: start.stderrFrom})};
    try {
      return await send();
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
      const failure = await this.#health.diagnose(error, bounds);
      if (failure.started === 'no') throw failure;
      return this.#recover(failure, {again, send, bounds});
    }
  }

  async #wait(request: WaitRequest, bounds: Bounds): Promise<Answer> {
    const {call, timeoutMs, stderrFrom = null, wakeOnStderr = false} = request;
    const write = (leftMs: number): string => writeWaitForFunction({call, timeoutMs: leftMs, stderrFrom, wakeOnStderr});
    return this.#repeat(async () => readOne(await this.#put({operation: 'WaitForFunction', timeoutMs, write}, bounds)), bounds);
  }

  /** Answers when at least one of the calls has ended, or after `timeoutMs`. */
  async waitForFunctions(callIds: readonly string[], timeoutMs: number, signal?: AbortSignal): Promise<Answers> {
    const write = (leftMs: number): string => writeWaitForFunctions({callIds, timeoutMs: leftMs});
    return this.#repeat(async () => readMany(await this.#put({operation: 'WaitForFunctions', timeoutMs, write}, {signal})), {signal});
  }

  /**
   * Starts a function and waits in slices until it has ended, or for `timeoutMs`: then the answer is that of a call
   * which has not. Refusals for now (429, 503) are waited out, as long as patience lasts.
   */
  async callFunction(request: CallRequest): Promise<Answer> {
    return callAndFollow(this.#steps, request);
  }

  /** The second half of callFunction, for a call that runs already. */
  async followFunction(call: CallReference, options: FollowOptions = {}): Promise<Answer> {
    return followCall(this.#steps, call, options);
  }

  /** Stops a call. The answer of a call that had ended, or that ended well in spite of it, tells that. */
  async abortFunction({call, timeoutMs, killAfterMs, giveUpAfterMs = Infinity}: AbortRequest, signal?: AbortSignal): Promise<Answer> {
    const bounds = {signal, endMs: monotonicMs() + giveUpAfterMs};
    const write = (leftMs: number): string => writeAbortFunction({call, timeoutMs: leftMs, killAfterMs: killAfterMs ?? null});
    return this.#repeat(async () => readOne(await this.#put({operation: 'AbortFunction', timeoutMs, write}, bounds)), bounds);
  }

  /** Tells the node that the master has what it needs. Throws still_running for a call that has not ended. */
  async forgetFunction(callId: string): Promise<void> {
    let tries = 0;
    await this.#repeat(async () => {
      tries += 1;
      await this.#put({operation: 'ForgetFunction', timeoutMs: 0, write: () => writeForgetFunction({callId})}, {}).catch((error: unknown) => {
        // The answer to the first try was lost, but not the request.
        if (tries === 1 || !(error instanceof NodedError) || error.code !== 'call_expired') throw error;
      });
    }, {});
  }

  /** One page of the calls that this role may see. */
  async calls(filter: CallFilter = {}): Promise<CallPage> {
    return readCallPage((await this.#get(pathOfCalls(filter))).body);
  }

  /** The answer of a wait that does not wait. */
  async call(callId: string): Promise<Answer> {
    return readOne((await this.#get(`/calls/${encodeURIComponent(callId)}`)).body);
  }

  /** The functions that this role may call, each with its schema and limits. */
  async functions(): Promise<readonly JsonObject[]> {
    const {functions} = readObject((await this.#get('/functions')).body);
    return Array.isArray(functions) ? (functions as JsonObject[]) : [];
  }

  async status(): Promise<JsonObject> {
    return readObject((await this.#get('/status')).body);
  }

  /** In the text format of Prometheus. */
  async metrics(): Promise<string> {
    return (await this.#get('/metrics')).body.toString();
  }

  /** Ends all connections. What runs at the node goes on. */
  close(): void {
    this.#connections.close();
  }

  get #steps(): Steps {
    return {
      sliceMs: this.sliceMs,
      start: (request, bounds) => this.#start(request, bounds),
      wait: (request, bounds) => this.#wait(request, bounds),
      whileRefused: (attempt, bounds) => this.#persist(attempt, async (error) => (error instanceof NodedError ? error : null), bounds),
    };
  }

  /** What became of a start whose answer was lost. Whatever fails from here on, the function may run. */
  async #recover(lost: TransportError, {again, send, bounds}: Recovery): Promise<Answer> {
    const patience = new Patience(this.#patience, bounds);
    for (let failure = lost; ; ) {
      try {
        await patience.after(failure);
        return await this.#findOrSend({again, send, bounds});
      } catch (error) {
        if (!(error instanceof TransportError)) throw error;
        if (error === failure) throw failure.with({started: 'unknown'});
        failure = await this.#health.diagnose(error, bounds);
      }
    }
  }

  async #findOrSend({again, send, bounds}: Recovery): Promise<Answer> {
    try {
      return await this.#wait(again, bounds);
    } catch (error) {
      if (error instanceof NodedError && error.code === 'unknown_request') return send();
      throw error;
    }
  }

  /** For requests that may be sent any number of times. */
  async #repeat<T>(attempt: () => Promise<T>, bounds: Bounds): Promise<T> {
    return this.#persist(attempt, async (error) => (error instanceof TransportError ? this.#health.diagnose(error, bounds) : null), bounds);
  }

  /** Repeats an attempt after those errors that `passing` makes something of. */
  async #persist<T>(attempt: () => Promise<T>, passing: (error: unknown) => Promise<TransportError | NodedError | null>, bounds: Bounds): Promise<T> {
    const patience = new Patience(this.#patience, bounds);
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        const failure = await passing(error);
        if (failure === null) throw error;
        await patience.after(failure);
      }
    }
  }

  async #get(path: string): Promise<HttpAnswer> {
    return this.#ask({method: 'GET', path, dueMs: this.sliceMs + this.#graceMs, repeatable: true});
  }

  async #put({operation, timeoutMs, busyMs = 0, write}: Put, {signal, endMs = Infinity}: Bounds): Promise<Buffer> {
    const repeatable = operation !== 'StartFunction';
    const leftMs = Math.max(0, Math.min(timeoutMs, endMs - monotonicMs()));
    const dueMs = leftMs + busyMs + this.#graceMs;
    return (await this.#ask({method: 'PUT', path: `/${operation}`, body: write(leftMs), dueMs, endMs: Math.max(endMs, monotonicMs() + busyMs) + this.#graceMs, repeatable, signal})).body;
  }

  async #ask(exchange: Exchange): Promise<HttpAnswer> {
    const answer = await this.#connections.exchange(exchange);
    this.#health.observe(answer);
    checkAnswer(answer);
    return answer;
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
