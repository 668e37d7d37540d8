/** The timer of whoever judges at an instant: a deadline, the end of a wait, an answer that is overdue. */
import {monotonicMs, timerDelayMs} from './duration';
import {limits} from './limits';

/**
 * Rings once at an instant on the monotonic clock, however far: setTimeout cannot count further than 24.8 days. Timers run
 * before what came in while the process stood still (stopped, swapped out) is read. So an alarm that finds itself late
 * lets the loop turn once more: facts are heard first, and whoever hears them may clear it.
 */
export class Alarm {
  private timer: NodeJS.Timeout | undefined;
  private turn: NodeJS.Immediate | undefined;
  /** Set for an instant that has passed it is not late, but due at once. */
  private readonly onTime: number;

  constructor(
    private readonly due: number,
    private readonly ring: () => void,
  ) {
    this.onTime = Math.max(due, monotonicMs()) + limits.standstillMs;
    this.set();
  }

  clear(): void {
    clearTimeout(this.timer);
    clearImmediate(this.turn);
  }

  private set(): void {
    this.timer = setTimeout(() => this.fire(), timerDelayMs(this.due - monotonicMs()));
  }

  private fire(): void {
    const now = monotonicMs();
    if (now < this.due - 1) this.set();
    else if (now <= this.onTime) this.ring();
    else this.turn = setImmediate(this.ring);
  }
}

/**
 * Resolves when the work has come to its end, well or not; or after so many ms, and the work goes on. Never rejects.
 */
export function settledWithin(ms: number, work: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const alarm = new Alarm(monotonicMs() + ms, resolve);
    const settled = (): void => {
      alarm.clear();
      resolve();
    };
    work.then(settled, settled);
  });
}
