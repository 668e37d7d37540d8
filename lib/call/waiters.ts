/**
 * The open waits of all calls. A waiter is deleted, then settled; many are settled in slices, so that
 * the end of a call that thousands wait for never stalls the loop.
 */
import {Alarm} from '../base/alarm';
import {monotonicMs} from '../base/duration';
import {NodedError} from '../base/errors';
import type {Call} from './call-record';
import {Slices} from './slices';

/** Why a wait is over: a call of it has ended or started, its time is up, or its caller had something to look at. */
export type WaitEnd = 'ended' | 'started' | 'timeout' | 'woken';

export interface Waiter {
  readonly calls: readonly Call[];
  /** What it waits for; a call that ends without having run ends both. */
  readonly until: 'started' | 'ended';
  readonly settle: (why: WaitEnd) => void;
  readonly due: number;
  /** Null once it is over and is to be settled. */
  timer: Alarm | null;
  open: boolean;
}

interface Settlement {
  readonly waiter: Waiter;
  readonly why: WaitEnd;
}

export class Waiters {
  private readonly byCall = new Map<Call, Set<Waiter>>();
  private readonly settling = new Slices<Settlement>(({waiter, why}) => this.finish(waiter, why));
  private count = 0;

  /** `onLate` is told how many ms after its deadline each timed-out wait was answered. */
  constructor(
    private readonly max: number,
    private readonly onLate: (lateMs: number) => void,
  ) {}

  get size(): number {
    return this.count;
  }

  /** Waits that are over and have not been settled yet. */
  get settlingCount(): number {
    return this.settling.size;
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
    waiter.timer = new Alarm(waiter.due, () => {
      this.onLate(Math.max(0, monotonicMs() - waiter.due));
      this.finish(waiter, 'timeout');
    });
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
    waiter.timer?.clear();
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

  /** Ends all waits early, in slices: the daemon leaves, and everybody shall have an answer. */
  wakeAll(): void {
    for (const waiters of this.byCall.values()) for (const waiter of waiters) this.settle(waiter, 'woken');
  }

  /** A call runs now: those who wait for just that are settled, in slices. */
  callStarted(call: Call): void {
    for (const waiter of this.byCall.get(call) ?? []) if (waiter.until === 'started') this.settle(waiter, 'started');
  }

  /** A call has ended: everyone who waits for it is settled, in slices. */
  callEnded(call: Call): void {
    const waiters = this.byCall.get(call) ?? [];
    this.byCall.delete(call);
    for (const waiter of waiters) this.settle(waiter, 'ended');
  }

  /** In a slice to come. Its time cannot be up any more. */
  private settle(waiter: Waiter, why: WaitEnd): void {
    waiter.timer?.clear();
    waiter.timer = null;
    this.settling.add({waiter, why});
  }

  private finish(waiter: Waiter, why: WaitEnd): void {
    if (!waiter.open) return;
    this.drop(waiter);
    waiter.settle(why);
  }
}
