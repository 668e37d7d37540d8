/**
 * The open waits of all calls. A waiter is deleted, then settled; many are settled in slices, so that
 * the end of a call that thousands wait for never stalls the loop.
 */
import {monotonicMs, timerDelayMs} from '../base/duration';
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import type {Call} from './call';

/** Why a wait is over: a call of it has ended or started, its time is up, or its caller had something to look at. */
export type WaitEnd = 'ended' | 'started' | 'timeout' | 'woken';

export interface Waiter {
  readonly calls: readonly Call[];
  /** What it waits for; a call that ends without having run ends both. */
  readonly until: 'started' | 'ended';
  readonly settle: (why: WaitEnd) => void;
  readonly due: number;
  timer: NodeJS.Timeout | null;
  open: boolean;
}

export class Waiters {
  private readonly byCall = new Map<Call, Set<Waiter>>();
  private settling: Waiter[] = [];
  private scheduled = false;
  private count = 0;

  /** `onLate` is told how many ms after its deadline each timed-out wait was answered. */
  constructor(
    private readonly max: number,
    private readonly onLate: (lateMs: number) => void,
  ) {}

  get size(): number {
    return this.count;
  }

  /** Waiters whose call has ended and who have not been told yet. */
  get settlingCount(): number {
    return this.settling.length;
  }

  waitersOf(call: Call): number {
    return this.byCall.get(call)?.size ?? 0;
  }

  /** Refuses with too_many_waiters before anything is done that a refusal would have to undo. */
  checkRoom(): void {
    if (this.count >= this.max) throw new NodedError('too_many_waiters');
  }

  /** Opens one wait for the first among `calls`, none of which has ended. `settle` is called once, never from inside. */
  open(calls: readonly Call[], until: Waiter['until'], timeoutMs: number, settle: (why: WaitEnd) => void): Waiter {
    this.checkRoom();
    const waiter: Waiter = {calls, until, settle, due: monotonicMs() + timeoutMs, timer: null, open: true};
    waiter.timer = setTimeout(() => {
      this.onLate(Math.max(0, monotonicMs() - waiter.due));
      this.finish(waiter, 'timeout');
    }, timerDelayMs(timeoutMs));
    for (const call of calls) {
      const set = this.byCall.get(call);
      if (set === undefined) this.byCall.set(call, new Set([waiter]));
      else set.add(waiter);
    }
    this.count += 1;
    return waiter;
  }

  /** The caller is gone: nobody is settled. The call is untouched. */
  drop(waiter: Waiter): void {
    if (!waiter.open) return;
    waiter.open = false;
    this.count -= 1;
    if (waiter.timer !== null) clearTimeout(waiter.timer);
    for (const call of waiter.calls) {
      const set = this.byCall.get(call);
      set?.delete(waiter);
      if (set?.size === 0) this.byCall.delete(call);
    }
  }

  /** Ends one wait early, for instance because stderr has grown. */
  wake(waiter: Waiter): void {
    this.finish(waiter, 'woken');
  }

  /** A call runs now: those who waited for just that are settled. */
  callStarted(call: Call): void {
    for (const waiter of this.byCall.get(call) ?? []) if (waiter.until === 'started') this.finish(waiter, 'started');
  }

  /** A call has ended: everyone who waits for it is settled, in slices. */
  callEnded(call: Call): void {
    const waiters = this.byCall.get(call);
    if (waiters === undefined) return;
    this.byCall.delete(call);
    for (const waiter of waiters) this.settling.push(waiter);
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      // A copy of the rest per slice would be quadratic; splice of the front is one move.
      for (const waiter of this.settling.splice(0, limits.sliceSize)) this.finish(waiter, 'ended');
      if (this.settling.length > 0) this.schedule();
    });
  }

  private finish(waiter: Waiter, why: WaitEnd): void {
    if (!waiter.open) return;
    this.drop(waiter);
    waiter.settle(why);
  }
}
