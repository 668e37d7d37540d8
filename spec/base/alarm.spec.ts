import {expect} from 'chai';
import {Alarm, settledWithin} from '../../lib/base/alarm';
import {limits} from '../../lib/base/limits';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';

const dayMs = 86_400_000;

describe('an alarm', () => {
  let clock: FakeClock;
  let rung: number[];

  beforeEach(() => {
    clock = setFakeClock();
    rung = [];
  });
  afterEach(() => clock.restore());

  const ring = (): void => void rung.push(performance.now());

  /** Lets time pass in which no timer fires; those that are due fire then, before anything is read. */
  function standStill(ms: number): void {
    const {now} = performance;
    performance.now = () => now.call(performance) + ms;
    clock.runToLast();
  }

  it('rings once, when it is due', () => {
    new Alarm(1_000, ring);
    clock.tick(999);
    expect(rung).to.deep.equal([]);
    clock.tick(dayMs);
    expect(rung).to.deep.equal([1_000]);
  });

  it('rings at once for an instant that has passed', () => {
    clock.tick(5_000);
    new Alarm(1_000, ring);
    clock.tick(0);
    expect(rung).to.deep.equal([5_000]);
  });

  it('counts further than setTimeout can', () => {
    new Alarm(3 * limits.maxTimerMs, ring);
    clock.tick(3 * limits.maxTimerMs - 1);
    expect(rung).to.deep.equal([]);
    clock.tick(1);
    expect(rung).to.have.lengthOf(1);
  });

  it('never rings when it was cleared', async () => {
    new Alarm(1_000, ring).clear();
    clock.tick(dayMs);
    await turn();
    expect(rung).to.deep.equal([]);
  });

  it('lets the loop turn first when the process stood still past its instant', async () => {
    new Alarm(1_000, ring);
    standStill(30_000);
    expect(rung).to.deep.equal([]);
    await turn();
    expect(rung).to.have.lengthOf(1);
  });

  it('can be cleared by what is heard in that turn', async () => {
    const alarm = new Alarm(1_000, ring);
    standStill(30_000);
    alarm.clear();
    await turn();
    expect(rung).to.deep.equal([]);
  });
});

describe('work that is waited for', () => {
  let clock: FakeClock;
  beforeEach(() => (clock = setFakeClock()));
  afterEach(() => clock.restore());

  const settled = (work: Promise<unknown>): {is: boolean} => {
    const state = {is: false};
    void settledWithin(1_000, work).then(() => (state.is = true));
    return state;
  };

  for (const [how, end] of [['well', () => Promise.resolve(1)], ['not well', () => Promise.reject(new Error('no'))]] as const) {
    it(`has come to its end, ${how}: no timer is left`, async () => {
      const state = settled(end());
      await turn();
      expect([state.is, clock.countTimers()]).to.deep.equal([true, 0]);
    });
  }

  it('takes longer than that', async () => {
    const state = settled(new Promise(() => {}));
    clock.tick(999);
    await turn();
    expect(state.is).to.equal(false);
    clock.tick(1);
    await turn();
    expect(state.is).to.equal(true);
  });
});
