import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {Slices, inSlices} from '../../lib/call/slices';

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('slices', () => {
  it('do at most a slice of the work in one turn, in order, and all of it in the end', async () => {
    const done: number[] = [];
    const slices = new Slices<number>((item) => done.push(item));
    const items = Array.from({length: 2 * limits.sliceSize + 1}, (_, index) => index);
    for (const item of items) slices.add(item);
    expect(done).to.deep.equal([]);
    for (let turn = 1; turn <= 3; turn += 1) {
      await nextTurn();
      expect(done.length).to.equal(Math.min(turn * limits.sliceSize, items.length));
    }
    expect(done).to.deep.equal(items);
    expect(slices.size).to.equal(0);
  });

  it('do all that is left at once when they are flushed, and nothing of it a second time', async () => {
    const done: number[] = [];
    const slices = new Slices<number>((item) => done.push(item));
    for (const item of [1, 2, 3]) slices.add(item);
    slices.flush();
    expect(done).to.deep.equal([1, 2, 3]);
    await nextTurn();
    expect(done).to.deep.equal([1, 2, 3]);
  });
});

/** Work that takes long enough to use up a slice. */
function keepBusy(): void {
  for (const until = performance.now() + limits.sliceMs; performance.now() < until; );
}

/** How many turns the loop takes until `work` is done. */
async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let over = false;
  void work.then(() => (over = true));
  let turns = 0;
  for (; !over; turns += 1) await nextTurn();
  return turns;
}

describe('going through many items in slices', () => {
  const many = Array.from({length: limits.sliceFreeItems + 10}, (_, index) => index);

  it('does few at once', () => {
    const done: number[] = [];
    void inSlices(many.slice(0, limits.sliceFreeItems), (item) => void done.push(item));
    expect(done).to.deep.equal(many.slice(0, limits.sliceFreeItems));
  });

  it('does many in order, and lets the loop turn when a slice is used up', async () => {
    const done: number[] = [];
    const turns = await turnsDuring(inSlices(many, (item) => {
      done.push(item);
      keepBusy();
    }));
    expect(done).to.deep.equal(many);
    expect(turns).to.be.at.least(10);
  });

  it('stops where it is told to', async () => {
    const done: number[] = [];
    await inSlices(many, (item) => {
      done.push(item);
      return item < limits.sliceFreeItems + 2;
    });
    expect(done).to.deep.equal(many.slice(0, limits.sliceFreeItems + 3));
  });

  it('lets one of those that are under way go on in each turn', async () => {
    const perTurn: number[] = [];
    const three = Promise.all([1, 2, 3].map(() => inSlices(many, () => {
      perTurn[perTurn.length - 1]! += 1;
      keepBusy();
    })));
    let over = false;
    void three.then(() => (over = true));
    while (!over) {
      perTurn.push(0);
      await nextTurn();
    }
    // At the begin each does what it may do at once.
    expect(Math.max(...perTurn.slice(1))).to.equal(1);
  });
});
