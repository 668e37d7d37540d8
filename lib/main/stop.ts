/**
 * How noded ends (DESIGN.md section 10). Signal handlers only set it off; each way is idempotent, and a
 * later signal only makes it harder: drain, then terminate, then kill, or leave.
 */
import {monotonicMs, timerDelayMs} from '../base/duration';
import {limits} from '../base/limits';
import type {Log} from '../base/log';
import {callIdOf} from '../call/call-record';
import type {CallTable} from '../call/call-table';
import type {ProcessTrees} from '../proc/process-tree';
import type {HttpBinding} from '../rpc/http';
import type {OnStop} from './config';
import type {Notifier} from './notify';

export interface StopOptions {
  readonly table: CallTable;
  readonly trees: ProcessTrees;
  readonly http: HttpBinding;
  readonly notifier: Notifier;
  readonly log: Log;
  readonly onStop: OnStop;
  /** What a second signal means: end all function processes, or go at once and leave them. */
  readonly secondSignal: 'kill' | 'leave';
  readonly stopKillAfterMs: number;
  readonly drainTimeoutMs: number;
  /** Ends the fork server, or leaves it alone with what still runs. */
  readonly endSpawner: (leavesRunning: boolean) => Promise<void>;
  /** Gives everything back and ends the process. */
  readonly exit: (code: number) => void;
}

type Phase = 'running' | 'draining' | 'stopping' | 'killing' | 'leaving';

export class Stop {
  private phase: Phase = 'running';

  constructor(private readonly options: StopOptions) {}

  /** SIGUSR2: no new calls; what runs may finish, and can be waited for; then exit 0. */
  drain(): void {
    if (this.phase !== 'running') return;
    this.begin('draining', 'draining: no new calls, the running ones finish');
    this.options.table.onDrained(() => this.leave());
  }

  /** SIGTERM, SIGINT: as `on_stop` says; the second one makes it harder. */
  terminate(signal: string): void {
    const {table, http, onStop, secondSignal, stopKillAfterMs, drainTimeoutMs} = this.options;
    if (this.phase === 'stopping') return secondSignal === 'kill' ? this.kill(signal) : this.leave();
    if (this.phase !== 'running' && this.phase !== 'draining') return;
    const wasDraining = this.phase === 'draining';
    this.begin('stopping', `${signal}: stopping (on_stop = ${onStop})`);
    if (onStop === 'leave') return this.leave();
    if (onStop === 'terminate') {
      table.shutdown(stopKillAfterMs);
    } else {
      http.stopListening();
      this.leaveAt(monotonicMs() + drainTimeoutMs);
    }
    if (!wasDraining) table.onDrained(() => this.leave());
  }

  private kill(signal: string): void {
    const {table, log} = this.options;
    this.phase = 'killing';
    log.warn({calls: table.activeCalls.length}, `${signal} again: killing all function processes`);
    table.kill();
    // With on_stop = "drain" the limit of time still counts, and nobody waits for a process that cannot be killed.
  }

  private begin(phase: Phase, status: string): void {
    const {table, notifier, log} = this.options;
    const first = this.phase === 'running';
    this.phase = phase;
    table.draining = true;
    log.info({calls: table.activeCalls.length, waiters: table.waiters.size}, status);
    notifier.stopping(status);
    if (first) setInterval(() => this.report(), limits.stopReportMs).unref();
  }

  /** A limit of more than 24.8 days takes several timers: setTimeout cannot count further. */
  private leaveAt(due: number): void {
    setTimeout(() => (monotonicMs() < due - 1 ? this.leaveAt(due) : this.leave()), timerDelayMs(due - monotonicMs())).unref();
  }

  private report(): void {
    const awaited = this.options.table.activeCalls;
    if (awaited.length === 0) return;
    const calls = awaited.slice(0, 10).map((call) => `${call.accepted.fnName} ${callIdOf(call)}`);
    this.options.log.info({awaited: awaited.length, calls}, 'still waiting for function processes to end');
  }

  private leave(): void {
    if (this.phase === 'leaving') return;
    this.phase = 'leaving';
    void this.finish();
  }

  /** Waits of the local socket have no connection that `http` would wait for. */
  private settled(): Promise<void> {
    const {waiters} = this.options.table;
    return new Promise((resolve) => {
      const look = (): void => void (waiters.settlingCount > 0 ? setImmediate(look) : resolve());
      look();
    });
  }

  private async finish(): Promise<void> {
    const {http, trees, table, log, endSpawner, exit} = this.options;
    // Answers first: nobody who waits shall be told by a broken connection. Who waits for a call that goes on gets its ID.
    table.waiters.wakeAll();
    await this.settled();
    await http.close(limits.closeGraceMs);
    await trees.idle();
    await endSpawner(table.activeCalls.length > 0);
    log.info({left_running: table.activeCalls.length}, 'noded ends');
    exit(0);
  }
}
