import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {Slices} from '../../lib/call/slices';

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
