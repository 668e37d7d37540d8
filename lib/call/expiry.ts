/** When kept results go: one timer for all of them, for the one that is due first (a binary heap that knows each call's place). */
import {Alarm} from '../base/alarm';
import {monotonicMs} from '../base/duration';
import {limits} from '../base/limits';
import type {Call} from './call-record';

export class Expiry {
  private readonly heap: Call[] = [];
  private alarm: Alarm | null = null;
  /** When the alarm rings; -Infinity while a crowd goes, a slice in each turn of the loop. */
  private due = Infinity;

  /** `expired` is told of each call whose time is up, in slices; then it is no longer in here. */
  constructor(private readonly expired: (call: Call) => void) {}

  get size(): number {
    return this.heap.length;
  }

  /** The result of an ended call goes at its `expiresAt`, which may have changed. */
  set(call: Call): void {
    if (call.expiryPlace === -1) call.expiryPlace = this.heap.push(call) - 1;
    this.rise(call);
    this.sink(call);
    this.arm();
  }

  delete(call: Call): void {
    const place = call.expiryPlace;
    if (place === -1) return;
    call.expiryPlace = -1;
    const last = this.heap.pop()!;
    if (last !== call) {
      this.put(last, place);
      this.rise(last);
      this.sink(last);
    }
    this.arm();
  }

  private arm(): void {
    const due = this.heap[0]?.expiresAt ?? Infinity;
    if (due === this.due || this.due === -Infinity) return;
    this.alarm?.clear();
    this.due = due;
    this.alarm = due === Infinity ? null : new Alarm(due, () => this.ring());
  }

  private ring(): void {
    this.due = -Infinity;
    setImmediate(() => this.next());
  }

  private next(): void {
    for (let count = 0; count < limits.sliceSize; count += 1) {
      const [first] = this.heap;
      if (first === undefined || first.expiresAt! > monotonicMs() + 1) {
        this.due = Infinity;
        return this.arm();
      }
      this.delete(first);
      this.expired(first);
    }
    setImmediate(() => this.next());
  }

  private put(call: Call, place: number): void {
    this.heap[place] = call;
    call.expiryPlace = place;
  }

  private swap(call: Call, other: Call): void {
    const place = call.expiryPlace;
    this.put(call, other.expiryPlace);
    this.put(other, place);
  }

  private rise(call: Call): void {
    while (call.expiryPlace > 0) {
      const parent = this.heap[(call.expiryPlace - 1) >> 1]!;
      if (parent.expiresAt! <= call.expiresAt!) return;
      this.swap(call, parent);
    }
  }

  private sink(call: Call): void {
    for (;;) {
      const left = this.heap[2 * call.expiryPlace + 1];
      const right = this.heap[2 * call.expiryPlace + 2];
      const first = right !== undefined && right.expiresAt! < left!.expiresAt! ? right : left;
      if (first === undefined || first.expiresAt! >= call.expiresAt!) return;
      this.swap(call, first);
    }
  }
}
