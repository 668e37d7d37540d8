/** The metrics of GET /metrics (DESIGN.md section 8), and the table's observer that counts. */
import {Counter, Gauge, Histogram, Registry} from 'prom-client';
import {monitorEventLoopDelay} from 'node:perf_hooks';
import type {IntervalHistogram} from 'node:perf_hooks';
import type {ErrorCode} from '../base/errors';
import type {Log} from '../base/log';
import {callIdOf} from '../call/call';
import type {Call, EventName} from '../call/call';
import type {Counts, TableObserver} from '../call/call-table';

const nanosecondsPerSecond = 1e9;
/** From a trivial function to a day. */
const callBuckets = [0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 3600, 86400];
const latenessBuckets = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1, 5];

export interface LoopLag {
  /** Seconds that the event loop came late, since the last look. */
  readonly mean: number;
  readonly p99: number;
  readonly max: number;
}

/** What the gauges show, asked for on each scrape. */
export interface GaugeSource {
  readonly counts: Counts;
  readonly spoolBytes: number;
  /** End of the node certificate, seconds since the epoch; null without TLS. */
  readonly certificateNotAfter: number | null;
}

export class Metrics implements TableObserver {
  private readonly registry = new Registry();
  private readonly lag: IntervalHistogram = monitorEventLoopDelay({resolution: 10});
  private readonly calls = this.counter('noded_calls_total', 'Ended calls', ['fn_name', 'outcome']);
  private readonly seconds = new Histogram({name: 'noded_call_seconds', help: 'From acceptance to end', labelNames: ['fn_name'], buckets: callBuckets, registers: [this.registry]});
  private readonly lateness = new Histogram({name: 'noded_wait_lateness_seconds', help: 'How late waits that timed out were answered', buckets: latenessBuckets, registers: [this.registry]});
  private readonly refusals = this.counter('noded_refused_total', 'Refused requests', ['code']);
  private readonly duplicates = this.counter('noded_duplicates_total', 'Starts that were answered by an earlier call with their request ID', []);
  private readonly reloads = this.counter('noded_reloads_total', 'SIGHUP', ['result']);
  private readonly gauges = {
    running: this.gauge('noded_calls_running', 'Calls that are starting, running or stopping'),
    waiters: this.gauge('noded_waiters', 'Open waits'),
    results: this.gauge('noded_results', 'Ended calls whose results are kept'),
    spoolBytes: this.gauge('noded_spool_bytes', 'Bytes of the files of ended calls'),
    lag: this.gauge('noded_event_loop_lag_seconds', '99th percentile since the last look'),
    notAfter: this.gauge('noded_certificate_not_after_seconds', 'End of the node certificate, seconds since the epoch'),
  };

  constructor(private readonly log: Log) {
    this.lag.enable();
  }

  ended(call: Call): void {
    const {accepted, outcome} = call;
    const elapsed = ((call.endedAt ?? 0) - call.acceptedAt) / 1000;
    this.calls.inc({fn_name: accepted.fnName, outcome: outcome ?? ''});
    this.seconds.observe({fn_name: accepted.fnName}, elapsed);
    const fields = {call: callIdOf(call), fn_name: accepted.fnName, request_id: accepted.requestId ?? undefined, role: accepted.role, outcome, elapsed: Math.round(elapsed * 1000) / 1000, reason: accepted.reason ?? undefined};
    if (outcome === 'ok') this.log.debug(fields, 'a call has ended');
    else this.log.info(fields, 'a call has ended, and not well');
  }

  duplicate(call: Call): void {
    this.duplicates.inc();
    this.log.debug({call: callIdOf(call), request_id: call.accepted.requestId}, 'a start was asked for again');
  }

  late(lateMs: number): void {
    this.lateness.observe(lateMs / 1000);
  }

  refused(code: ErrorCode): void {
    this.refusals.inc({code});
    this.log.debug({code}, 'a request was refused');
  }

  reloaded(result: 'ok' | 'failed'): void {
    this.reloads.inc({result});
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

  loopLag(): LoopLag {
    const seconds = (nanoseconds: number): number => (Number.isFinite(nanoseconds) ? Math.max(0, nanoseconds) / nanosecondsPerSecond : 0);
    return {mean: seconds(this.lag.mean), p99: seconds(this.lag.percentile(99)), max: seconds(this.lag.max)};
  }

  async text(source: GaugeSource): Promise<string> {
    const {counts} = source;
    this.gauges.running.set(counts.starting + counts.running + counts.stopping);
    this.gauges.waiters.set(counts.waiters);
    this.gauges.results.set(counts.ended);
    this.gauges.spoolBytes.set(source.spoolBytes);
    this.gauges.lag.set(this.loopLag().p99);
    if (source.certificateNotAfter !== null) this.gauges.notAfter.set(source.certificateNotAfter);
    this.lag.reset();
    return this.registry.metrics();
  }

  private counter<L extends string>(name: string, help: string, labelNames: L[]): Counter<L> {
    return new Counter({name, help, labelNames, registers: [this.registry]});
  }

  private gauge(name: string, help: string): Gauge {
    return new Gauge({name, help, registers: [this.registry]});
  }
}
