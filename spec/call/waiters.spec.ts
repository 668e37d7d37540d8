import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import type {Call} from '../../lib/call/call-record';
import type {WaitEnd, Waiter} from '../../lib/call/waiters';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {notStarted} from '../support/fake-spawner';
import {FakeTable, codeOf} from '../support/fake-table';

describe('waiters', () => {
  let clock: FakeClock;
  let fake: FakeTable;
  let ends: WaitEnd[];

  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable({maxWaiters: 5_000});
    ends = [];
  });
  afterEach(() => clock.restore());

  const open = (calls: readonly Call[], until: Waiter['until'] = 'ended', timeoutMs = 10_000): Waiter => fake.table.waiters.open(calls, until, timeoutMs, (why) => ends.push(why));

  it('are told of the end of their call, never from inside of it', async () => {
    const call = fake.start();
    open([call]);
    fake.end(call);
    expect(ends).to.deep.equal([]);
    await turn();
    expect(ends).to.deep.equal(['ended']);
    expect(fake.table.waiters.size).to.equal(0);
    expect(fake.table.waiters.waitersOf(call)).to.equal(0);
  });

  it('are told when their time is up; the call goes on', () => {
    const call = fake.start();
    open([call], 'ended', 2_000);
    clock.tick(1_999);
    expect(ends).to.deep.equal([]);
    clock.tick(1);
    expect(ends).to.deep.equal(['timeout']);
    expect(fake.observer.lateMs).to.deep.equal([0]);
    expect(call.state).to.equal('starting');
    expect(clock.countTimers()).to.equal(0);
  });

  /** Lets time pass for timers, and `lateMs` more (less, if negative) for the clock that deadlines are read from. */
  function tickLate(ms: number, lateMs: number): void {
    const {now} = performance;
    performance.now = () => now.call(performance) + lateMs;
    try {
      clock.tick(ms);
    } finally {
      performance.now = now;
    }
  }

  it('report how late a stalled loop let them be', async () => {
    open([fake.start()], 'ended', 1_000);
    tickLate(1_000, 250);
    clock.tick(250);
    await turn();
    expect(ends).to.deep.equal(['timeout']);
    expect(fake.observer.lateMs).to.deep.equal([250]);
  });

  it('whose timer fires early are not over before their time is up', () => {
    open([fake.start()], 'ended', 1_000);
    tickLate(1_000, -2);
    expect(ends).to.deep.equal([]);
    expect(clock.countTimers()).to.equal(1);
    tickLate(2, -2);
    expect(ends).to.deep.equal(['timeout']);
    expect(fake.observer.lateMs).to.deep.equal([0]);
  });

  it('are over with a timer that fires less than 1 ms early, as setTimeout does, and that is not late', () => {
    open([fake.start()], 'ended', 1_000);
    tickLate(1_000, -0.9);
    expect(ends).to.deep.equal(['timeout']);
    expect(fake.observer.lateMs).to.deep.equal([0]);
    expect(clock.countTimers()).to.equal(0);
  });

  it('are told of an end that is heard late, and not that their time is up', async () => {
    const call = fake.start();
    open([call], 'ended', 1_000);
    tickLate(1_000, 250);
    fake.end(call);
    await turn();
    expect(ends).to.deep.equal(['ended']);
  });

  it('wait longer than setTimeout can count, with no end if they must', () => {
    const call = fake.start();
    open([call], 'ended', limits.maxTimerMs + 5_000);
    open([call], 'ended', Infinity);
    clock.tick(limits.maxTimerMs + 4_999);
    expect(ends).to.deep.equal([]);
    clock.tick(1);
    expect(ends).to.deep.equal(['timeout']);
    clock.tick(3 * limits.maxTimerMs);
    expect(ends).to.deep.equal(['timeout']);
    expect(clock.countTimers()).to.equal(1);
  });

  it('end early when they are woken', () => {
    const waiter = open([fake.start()]);
    fake.table.waiters.wake(waiter);
    fake.table.waiters.wake(waiter);
    expect(ends).to.deep.equal(['woken']);
    expect(clock.countTimers()).to.equal(0);
  });

  it('all end early when noded leaves, each once, never from inside, and calls go on', async () => {
    const calls = [fake.start(), fake.start(), fake.start()];
    open(calls.slice(0, 2));
    open(calls.slice(1), 'started');
    for (const call of calls) open([call]);
    fake.table.waiters.wakeAll();
    expect(ends).to.deep.equal([]);
    await turn();
    expect(ends).to.deep.equal(Array(5).fill('woken'));
    expect(fake.table.waiters.size).to.equal(0);
    expect(calls.map(({state}) => state)).to.deep.equal(['starting', 'starting', 'starting']);
    expect(clock.countTimers()).to.equal(0);
  });

  it('that are dropped are never settled, and the call is untouched', async () => {
    const call = fake.start();
    const waiter = open([call], 'ended', 1_000);
    fake.table.waiters.drop(waiter);
    fake.table.waiters.drop(waiter);
    expect(fake.table.waiters.size).to.equal(0);
    clock.tick(2_000);
    expect(call.state).to.equal('starting');
    fake.end(call);
    await turn();
    expect(ends).to.deep.equal([]);
  });

  it('that are dropped between the end and their turn are never settled', async () => {
    const call = fake.start();
    const waiter = open([call]);
    open([call]);
    fake.end(call);
    fake.table.waiters.drop(waiter);
    expect(fake.table.waiters.size).to.equal(1);
    await turn();
    expect(ends).to.deep.equal(['ended']);
  });

  it('whose time is up between the end and their turn are told of the end', async () => {
    const call = fake.start();
    open([call], 'ended', 1_000);
    fake.end(call);
    clock.tick(1_000);
    await turn();
    expect(ends).to.deep.equal(['ended']);
  });

  it('of one call that has several are counted each', () => {
    const call = fake.start();
    open([call]);
    open([call]);
    expect(fake.table.waiters.waitersOf(call)).to.equal(2);
    expect(fake.table.counts.waiters).to.equal(2);
  });

  describe('for the start of a call', () => {
    it('are told once it runs; the others wait on', async () => {
      const call = fake.start();
      open([call], 'started');
      open([call], 'ended');
      fake.run(call);
      expect(ends).to.deep.equal([]);
      await turn();
      expect(ends).to.deep.equal(['started']);
      fake.end(call);
      await turn();
      expect(ends).to.deep.equal(['started', 'ended']);
    });

    it('are told of the end of a call that could not be started', async () => {
      const call = fake.start();
      open([call], 'started');
      fake.end(call, notStarted);
      await turn();
      expect(ends).to.deep.equal(['ended']);
    });

    it('are told of a stop that comes before the start', async () => {
      const call = fake.start();
      open([call], 'started');
      fake.table.abort(call, 'master', null);
      await turn();
      expect(ends).to.deep.equal(['started']);
    });

    it('are settled once when start and end come in one turn', async () => {
      const call = fake.start();
      open([call], 'started');
      fake.run(call);
      fake.end(call);
      await turn();
      expect(ends).to.deep.equal(['started']);
      expect(fake.table.waiters.size).to.equal(0);
    });
  });

  describe('for the first of many calls', () => {
    it('are told once, by the first that ends', async () => {
      const calls = [fake.start(), fake.start(), fake.start()];
      open(calls);
      fake.end(calls[1]!);
      fake.end(calls[2]!);
      await turn();
      expect(ends).to.deep.equal(['ended']);
      for (const call of calls) expect(fake.table.waiters.waitersOf(call)).to.equal(0);
    });

    it('count as one', () => {
      open([fake.start(), fake.start()]);
      expect(fake.table.counts.waiters).to.equal(1);
    });
  });

  it('too_many_waiters: is refused before anything is done, until one is settled', () => {
    fake = new FakeTable({maxWaiters: 2});
    const call = fake.start();
    const [first] = [open([call]), open([call])];
    expect(codeOf(() => open([call]))).to.equal('too_many_waiters');
    expect(codeOf(() => fake.table.waiters.checkRoom())).to.equal('too_many_waiters');
    expect(clock.countTimers()).to.equal(2);
    fake.table.waiters.drop(first!);
    expect(codeOf(() => open([call]))).to.equal(undefined);
  });

  it('of which a thousand wait for one call are settled in slices, in order', async () => {
    const call = fake.start();
    const told: number[] = [];
    for (let number = 0; number < 1_000; number += 1) fake.table.waiters.open([call], 'ended', 10_000, () => told.push(number));
    fake.end(call);
    for (let turns = 0; told.length < 1_000; turns += 1) {
      expect(turns, 'turns').to.be.at.most(1_000 / limits.sliceSize + 1);
      const before = told.length;
      await turn();
      expect(told.length - before).to.be.within(1, limits.sliceSize);
      expect(fake.table.waiters.settlingCount).to.equal(1_000 - told.length);
    }
    expect(told).to.deep.equal([...told].sort((a, b) => a - b));
    expect(clock.countTimers(), 'the expiry of the call').to.equal(1);
  });

  it('are deleted, then settled: one that waits again from its settling waits in its own right', async () => {
    const [first, second] = [fake.start(), fake.start()];
    fake.table.waiters.open([first], 'ended', 10_000, () => {
      expect(fake.table.waiters.size).to.equal(0);
      open([second]);
    });
    fake.end(first);
    await turn();
    expect(fake.table.waiters.size).to.equal(1);
    fake.end(second);
    await turn();
    expect(ends).to.deep.equal(['ended']);
  });

  it('that wait for the start again from their settling do not stop the loop', async () => {
    const call = fake.start();
    let times = 0;
    const again = (): void => {
      times += 1;
      if (times < 100) fake.table.waiters.open([call], 'started', 10_000, again);
    };
    fake.table.waiters.open([call], 'started', 10_000, again);
    fake.run(call);
    await turn();
    expect(times).to.equal(1);
    expect(fake.table.waiters.size).to.equal(1);
  });
});
