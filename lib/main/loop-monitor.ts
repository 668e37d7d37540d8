/**
 * How late the event loop comes. Looked at each limits.lagPollMs while something happens, and not at all in quiet:
 * Node's own monitor would wake an idle machine a hundred times a second.
 */
import {createHistogram} from 'node:perf_hooks';
import {monotonicMs} from '../base/duration';
import {limits} from '../base/limits';

const nanosecondsPerMs = 1e6;
const nanosecondsPerSecond = 1e9;

export interface LoopLag {
  /** Seconds that the event loop came late, since the last look. */
  readonly mean: number;
  readonly p99: number;
  readonly max: number;
}

export class LoopMonitor {
  private readonly late = createHistogram();
  private timer: NodeJS.Timeout | undefined;
  private due = 0;
  private lastActivity = 0;

  /** Something begins that may take the loop: to be called before it does. */
  awake(): void {
    this.lastActivity = monotonicMs();
    if (this.timer === undefined) this.arm();
  }

  lag(): LoopLag {
    const seconds = (nanoseconds: number): number => nanoseconds / nanosecondsPerSecond;
    if (this.late.count === 0) return {mean: 0, p99: 0, max: 0};
    return {mean: seconds(this.late.mean), p99: seconds(this.late.percentile(99)), max: seconds(this.late.max)};
  }

  reset(): void {
    this.late.reset();
  }

  private arm(): void {
    this.due = monotonicMs() + limits.lagPollMs;
    this.timer = setTimeout(() => this.look(), limits.lagPollMs).unref();
  }

  private look(): void {
    const now = monotonicMs();
    // A histogram has no zero.
    this.late.record(Math.max(1, Math.round((now - this.due) * nanosecondsPerMs)));
    this.timer = undefined;
    if (now - this.lastActivity < limits.lagQuietMs) this.arm();
  }
}
