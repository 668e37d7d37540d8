/** The table's observer: what happens is counted for GET /metrics and told to the log. */
import type {ErrorCode} from '../base/errors';
import type {Log} from '../base/log';
import {callIdOf} from '../call/call-record';
import type {Call} from '../call/call-record';
import type {EventName} from '../call/call';
import type {Counts, TableObserver} from '../call/call-table';
import type {HandshakeRefusal} from '../rpc/http-handshakes';
import type {Instruments} from './instruments';
import {LoopMonitor} from './loop-monitor';

/** What the gauges show, asked for on each scrape. */
export interface GaugeSource {
  readonly counts: Counts;
  readonly spoolBytes: number;
  /** End of the node certificate, seconds since the epoch; null without TLS. */
  readonly certificateNotAfter: number | null;
}

export class Metrics implements TableObserver {
  readonly loop = new LoopMonitor();
  private loaded: Instruments | undefined;

  constructor(private readonly log: Log) {}

  /** prom-client takes a third of a start to load: after the start, or with the first thing to count. */
  get instruments(): Instruments {
    this.loaded ??= new (require('./instruments') as typeof import('./instruments')).Instruments();
    return this.loaded;
  }

  ended(call: Call): void {
    this.loop.awake();
    const {accepted, outcome} = call;
    const elapsed = ((call.endedAt ?? 0) - call.acceptedAt) / 1000;
    this.instruments.calls.inc({fn_name: accepted.fnName, outcome: outcome ?? ''});
    this.instruments.seconds.observe({fn_name: accepted.fnName}, elapsed);
    const fields = {call: callIdOf(call), fn_name: accepted.fnName, request_id: accepted.requestId ?? undefined, role: accepted.role, outcome, elapsed: Math.round(elapsed * 1000) / 1000, reason: accepted.reason ?? undefined};
    if (outcome === 'ok') this.log.debug(fields, 'call ended');
    else this.log.info(fields, 'call ended');
  }

  duplicate(call: Call): void {
    this.instruments.duplicates.inc();
    this.log.debug({call: callIdOf(call), request_id: call.accepted.requestId}, 'a start was asked for again');
  }

  late(lateMs: number): void {
    this.instruments.lateness.observe(lateMs / 1000);
  }

  refused(code: ErrorCode): void {
    this.instruments.refusals.inc({code});
    this.log.debug({code}, 'a request was refused');
  }

  handshakeRefused(reason: HandshakeRefusal): void {
    this.instruments.handshakeRefusals.inc({reason});
  }

  reloaded(result: 'ok' | 'failed'): void {
    this.instruments.reloads.inc({result});
  }

  unkillable(call: Call): void {
    this.log.warn({call: callIdOf(call), fn_name: call.accepted.fnName, pid: call.pid}, 'SIGKILL was sent, and the function process is still there');
  }

  unspooled(call: Call, error: Error): void {
    this.log.warn({call: callIdOf(call), fn_name: call.accepted.fnName}, `an urgent call runs without files: ${error.message}`);
  }

  bug(call: Call, event: EventName): void {
    this.log.error({call: callIdOf(call), state: call.state, event}, 'this cannot happen; please report it');
  }

  async text(source: GaugeSource): Promise<string> {
    const {registry, running, waiters, results, spoolBytes, loopLag, notAfter} = this.instruments;
    const {counts} = source;
    running.set(counts.starting + counts.running + counts.stopping);
    waiters.set(counts.waiters);
    results.set(counts.ended);
    spoolBytes.set(source.spoolBytes);
    loopLag.set(this.loop.lag().p99);
    if (source.certificateNotAfter !== null) notAfter.set(source.certificateNotAfter);
    this.loop.reset();
    return registry.metrics();
  }
}
