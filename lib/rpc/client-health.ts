/**
 * What a master knows of a node's life (DESIGN.md section 12): whether the noded that answers is still the same,
 * what it means that an answer was missed, and for how long that is worth another try.
 */
import {monotonicMs, timerDelayMs} from '../base/duration';
import {NodedError} from '../base/errors';
import type {Bounds} from './client-requests';
import {TransportError} from './client-transport';
import type {Connections, Health, HttpAnswer} from './client-transport';

/** What `onHealth` is told. */
export interface HealthReport {
  /** `host:port`. */
  readonly node: string;
  readonly health: Health;
  readonly message: string;
}

/** How long /status may take before the node counts as silent; `hastyMs` when there is no time left. */
export interface ProbeDue {
  readonly probeMs: number;
  readonly hastyMs: number;
}

export class HealthWatch {
  readonly #connections: Connections;
  readonly #node: string;
  readonly #due: ProbeDue;
  readonly #onHealth: (report: HealthReport) => void;
  #instance: string | null = null;

  constructor(connections: Connections, node: string, due: ProbeDue, onHealth: (report: HealthReport) => void) {
    this.#connections = connections;
    this.#node = node;
    this.#due = due;
    this.#onHealth = onHealth;
  }

  /** Every answer passes here. Says whether another noded gave it than the last one. */
  observe({instance}: HttpAnswer): boolean {
    const restarted = this.#instance !== null && instance !== null && instance !== this.#instance;
    this.#instance = instance ?? this.#instance;
    if (restarted) this.#report('restarted', 'another noded answers than before');
    return restarted;
  }

  /** Asks /status on a connection of its own what a missed answer means. A lasting failure needs no question. */
  async diagnose(missed: TransportError, bounds: Bounds): Promise<TransportError> {
    if (missed.lasting || missed.health !== null) return missed;
    const probe = await this.#ask(bounds);
    const health = probe instanceof TransportError ? (probe.connected ? 'silent' : 'down') : this.observe(probe) ? 'restarted' : 'late';
    if (health !== 'restarted') this.#report(health, missed.message);
    const neverAnswered = this.#instance === null && [missed, probe].every((one) => one instanceof TransportError && one.closed);
    return neverAnswered ? notAccepted(missed) : missed.with({health});
  }

  async #ask({signal, endMs = Infinity}: Bounds): Promise<HttpAnswer | TransportError> {
    const {probeMs, hastyMs} = this.#due;
    const dueMs = Math.min(probeMs, Math.max(hastyMs, endMs - monotonicMs()));
    try {
      return await this.#connections.exchange({method: 'GET', path: '/status', dueMs, fresh: true, repeatable: false, signal});
    } catch (error) {
      if (error instanceof TransportError) return error;
      throw error;
    }
  }

  #report(health: Health, message: string): void {
    this.#onHealth({node: this.#node, health, message});
  }
}

/**
 * With TLS 1.3 a certificate is refused only after the handshake, and by closing the connection. So does who speaks TLS
 * to a peer that does not.
 */
function notAccepted(missed: TransportError): TransportError {
  const {started, connected} = missed;
  const message = `the node closes every connection without an answer: it may not accept this certificate, or only one side speaks TLS (${missed.message})`;
  return new TransportError('not_accepted', message, {started, connected, health: 'silent', cause: missed});
}

export interface PatienceOptions {
  /** How long in all one request is repeated; 0: never. */
  readonly patienceMs: number;
  /** The first pause between two tries; each is twice as long as the one before. */
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
}

/** How long it is worth to go on with one request. It starts at the first failure, and is over when the request's time is. */
export class Patience {
  readonly #options: PatienceOptions;
  readonly #bounds: Bounds;
  #endMs: number | null = null;
  #pauseMs: number;

  constructor(options: PatienceOptions, bounds: Bounds) {
    this.#options = options;
    this.#bounds = bounds;
    this.#pauseMs = options.firstPauseMs;
  }

  /** Pauses before the next try. Throws `failure` if there should be none, and the signal's reason. */
  async after(failure: TransportError | NodedError): Promise<void> {
    const {signal, endMs = Infinity} = this.#bounds;
    this.#endMs ??= Math.min(monotonicMs() + this.#options.patienceMs, endMs);
    const pauseMs = Math.max(this.#pauseMs, askedForMs(failure));
    this.#pauseMs = Math.min(this.#pauseMs * 2, this.#options.longestPauseMs);
    const leftMs = this.#endMs - monotonicMs();
    if (!isPassing(failure) || leftMs <= 0 || pauseMs > leftMs) throw failure;
    await pause(pauseMs, signal);
  }
}

/** Whether the same request may succeed later: nobody answered, or a limit was met (429, 503) and nothing begun. */
function isPassing(failure: TransportError | NodedError): boolean {
  if (failure instanceof TransportError) return !failure.lasting;
  return failure.started === 'no' && failure.retryAfter !== undefined;
}

function askedForMs(failure: TransportError | NodedError): number {
  return failure instanceof NodedError ? (failure.retryAfter ?? 0) * 1000 : 0;
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, timerDelayMs(ms));
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, {once: true});
  });
}
