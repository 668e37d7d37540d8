/** Work that comes in crowds, done a slice per turn of the loop, so that no crowd stalls it. */
import {limits} from '../base/limits';

export class Slices<T> {
  private readonly items: T[] = [];

  /** `work` is done once for each item, in order, never from inside `add`. */
  constructor(private readonly work: (item: T) => void) {}

  /** Items whose work is still to be done. */
  get size(): number {
    return this.items.length;
  }

  add(item: T): void {
    if (this.items.push(item) === 1) setImmediate(() => this.next());
  }

  /** Does now what is still to be done. */
  flush(): void {
    for (const item of this.items.splice(0)) this.work(item);
  }

  private next(): void {
    // They stay in the queue while they are worked on: what their work adds comes in a later slice.
    const slice = this.items.slice(0, limits.sliceSize);
    for (const item of slice) this.work(item);
    // One move of the rest per slice; a copy of it would be quadratic.
    this.items.splice(0, slice.length);
    if (this.items.length > 0) setImmediate(() => this.next());
  }
}
