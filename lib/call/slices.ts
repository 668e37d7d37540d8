/** Work that comes in crowds, done a slice per turn of the loop, so that no crowd stalls it. */
import {monotonicMs} from '../base/duration';
import {limits} from '../base/limits';

/** Whoever goes through many items and waits for a turn of the loop. */
const waiting: (() => void)[] = [];

/** One of them goes on in each turn: a hundred that come at once hold up everybody else no longer than one does. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(letOneGoOn);
  });
}

function letOneGoOn(): void {
  waiting.shift()!();
  if (waiting.length > 0) setImmediate(letOneGoOn);
}

/**
 * Does `work` for each item in order, until it says `false`. Few items are done at once, more of them for
 * limits.sliceMs in each turn of the loop: what was true of an item at the begin may not be so when its turn comes.
 */
export async function inSlices<T>(items: Iterable<T>, work: (item: T) => boolean | void): Promise<void> {
  let count = 0;
  let sliceEndsAt = -Infinity;
  for (const item of items) {
    if (work(item) === false) return;
    count += 1;
    if (count < limits.sliceFreeItems || monotonicMs() < sliceEndsAt) continue;
    await nextTurn();
    sliceEndsAt = monotonicMs() + limits.sliceMs;
  }
}

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
