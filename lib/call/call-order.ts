/**
 * Calls in order of acceptance, from any of them on: a list goes on where the page before it ended, without a look at
 * what came before.
 */
import {limits} from '../base/limits';
import type {Call} from './call-record';

export class CallOrder {
  /** By their sequence. Those that are gone stay until they are many: to take one out of the middle would move all behind it. */
  private calls: Call[] = [];
  private gone = 0;

  /** The youngest of all. */
  add(call: Call): void {
    this.calls.push(call);
  }

  /** Calls may have been added that are not the youngest. */
  sort(): void {
    this.calls.sort((one, other) => one.sequence - other.sequence);
  }

  /** A call of these is gone. */
  delete(): void {
    this.gone += 1;
    if (this.gone < limits.sliceSize || this.gone * 2 < this.calls.length) return;
    this.calls = this.calls.filter(({state}) => state !== 'gone');
    this.gone = 0;
  }

  get isEmpty(): boolean {
    return this.gone === this.calls.length;
  }

  /** Those behind this sequence that are not gone; also those that come while it goes on. */
  *after(sequence: number): Generator<Call> {
    let {calls} = this;
    for (let at = this.placeAfter(sequence); at < calls.length; at += 1) {
      const call = calls[at]!;
      if (call.state !== 'gone') yield call;
      if (calls === this.calls) continue;
      // It was cleared of those that are gone meanwhile.
      calls = this.calls;
      at = this.placeAfter(call.sequence) - 1;
    }
  }

  private placeAfter(sequence: number): number {
    let [low, high] = [0, this.calls.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.calls[middle]!.sequence > sequence) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
