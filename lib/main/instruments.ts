/** The instruments of GET /metrics (DESIGN.md section 8), in prom-client's registry. */
import {Counter, Gauge, Histogram, Registry} from 'prom-client';

/** From a trivial function to a day. */
const callBuckets = [0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 3600, 86400];
const latenessBuckets = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1, 5];

export class Instruments {
  readonly registry = new Registry();
  readonly calls = this.counter('noded_calls_total', 'Ended calls', ['fn_name', 'outcome']);
  readonly seconds = new Histogram({name: 'noded_call_seconds', help: 'From acceptance to end', labelNames: ['fn_name'], buckets: callBuckets, registers: [this.registry]});
  readonly lateness = new Histogram({name: 'noded_wait_lateness_seconds', help: 'How late waits that timed out were answered', buckets: latenessBuckets, registers: [this.registry]});
  readonly refusals = this.counter('noded_refused_total', 'Refused requests', ['code']);
  readonly handshakeRefusals = this.counter('noded_handshakes_refused_total', 'TLS handshakes that came to nothing', ['reason']);
  readonly duplicates = this.counter('noded_duplicates_total', 'Starts that were answered by an earlier call with their request ID', []);
  readonly reloads = this.counter('noded_reloads_total', 'SIGHUP', ['result']);
  readonly running = this.gauge('noded_calls_running', 'Calls that are starting, running or stopping');
  readonly waiters = this.gauge('noded_waiters', 'Open waits');
  readonly results = this.gauge('noded_results', 'Ended calls whose results are kept');
  readonly spoolBytes = this.gauge('noded_spool_bytes', 'Bytes that the files of ended calls and the log occupy');
  readonly loopLag = this.gauge('noded_event_loop_lag_seconds', '99th percentile since the last look');
  readonly notAfter = this.gauge('noded_certificate_not_after_seconds', 'End of the node certificate, seconds since the epoch');

  private counter<L extends string>(name: string, help: string, labelNames: L[]): Counter<L> {
    return new Counter({name, help, labelNames, registers: [this.registry]});
  }

  private gauge(name: string, help: string): Gauge {
    return new Gauge({name, help, registers: [this.registry]});
  }
}
