import {expect} from 'chai';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {FakeTable} from '../support/fake-table';

describe('draining', () => {
  let clock: FakeClock;
  let fake: FakeTable;
  let drained: number;

  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable();
    drained = 0;
  });
  afterEach(() => clock.restore());

  const watch = (): void => fake.table.onDrained(() => (drained += 1));

  it('is over at once when nothing is active, whatever has ended before', () => {
    fake.ended();
    watch();
    expect(drained).to.equal(1);
  });

  it('is over with the last active call, and says so once', async () => {
    const calls = [fake.start(), fake.start()];
    watch();
    fake.end(calls[0]!);
    await turn();
    expect(drained).to.equal(0);
    fake.end(calls[1]!);
    await turn();
    expect(drained).to.equal(1);
    fake.ended();
    expect(drained).to.equal(1);
  });

  it('is over for everyone who asked', () => {
    const call = fake.start();
    watch();
    watch();
    fake.end(call);
    expect(drained).to.equal(2);
  });

  it('is over only when every waiter has been settled', async () => {
    const call = fake.start();
    let settled = 0;
    for (let number = 0; number < 1_000; number += 1) fake.table.waiters.open([call], 'ended', 60_000, () => (settled += 1));
    let settledWhenDrained = 0;
    fake.table.onDrained(() => (settledWhenDrained = settled));
    fake.end(call);
    for (let turns = 0; settledWhenDrained === 0 && turns < 100; turns += 1) await turn();
    expect(settledWhenDrained).to.equal(1_000);
  });

  it('counts a call that is being stopped as active', async () => {
    const call = fake.start();
    watch();
    fake.table.shutdown(0);
    await turn();
    expect(drained).to.equal(0);
    fake.end(call);
    await turn();
    expect(drained).to.equal(1);
  });
});
