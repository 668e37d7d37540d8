import {expect} from 'chai';
import * as fc from 'fast-check';
import {limits} from '../../lib/base/limits';
import {Expiry} from '../../lib/call/expiry';
import type {Call} from '../../lib/call/call-record';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {newCall} from '../support/fake-host';

describe('the expiry of kept results', () => {
  let clock: FakeClock;
  let expiry: Expiry;
  let gone: Call[];

  beforeEach(() => {
    clock = setFakeClock();
    gone = [];
    expiry = new Expiry((call) => gone.push(call));
  });
  afterEach(() => clock.restore());

  const kept = (expiresAt: number): Call => {
    const call = Object.assign(newCall(), {expiresAt});
    expiry.set(call);
    return call;
  };
  const pass = async (ms: number): Promise<void> => {
    clock.tick(ms);
    await turn();
  };

  it('is of each at its own time, with one timer for all', async () => {
    const [late, early] = [kept(2_000), kept(1_000)];
    expect(clock.countTimers()).to.equal(1);
    await pass(999);
    expect(gone).to.deep.equal([]);
    await pass(1);
    expect(gone).to.deep.equal([early]);
    expect(clock.countTimers()).to.equal(1);
    await pass(1_000);
    expect(gone).to.deep.equal([early, late]);
    expect(clock.countTimers()).to.equal(0);
    expect(expiry.size).to.equal(0);
  });

  it('is put off, or comes sooner, for one whose time has changed', async () => {
    const [one, other] = [kept(1_000), kept(2_000)];
    expiry.set(Object.assign(one, {expiresAt: 3_000}));
    expiry.set(Object.assign(other, {expiresAt: 500}));
    await pass(500);
    expect(gone).to.deep.equal([other]);
    await pass(2_500);
    expect(gone).to.deep.equal([other, one]);
  });

  it('is none of one that has gone before', async () => {
    const [one, other] = [kept(1_000), kept(1_000)];
    expiry.delete(one);
    expiry.delete(one);
    await pass(1_000);
    expect(gone).to.deep.equal([other]);
  });

  it('of a crowd comes in slices, and one that is put off meanwhile stays', async () => {
    const calls = Array.from({length: 3 * limits.sliceSize}, (_none, number) => kept(1_000 + number / 1_000));
    clock.tick(1_001);
    expect(gone, 'not in the timer itself').to.deep.equal([]);
    await turn();
    expect(gone).to.have.lengthOf(limits.sliceSize);
    const last = calls.at(-1)!;
    expiry.set(Object.assign(last, {expiresAt: 9_000}));
    for (let turns = 0; turns < 3; turns += 1) await turn();
    expect(gone).to.deep.equal(calls.slice(0, -1));
    expect(clock.countTimers()).to.equal(1);
    await pass(8_000);
    expect(gone).to.deep.equal(calls);
  });

  it('is in order of time, whatever is set, set anew and deleted', async () => {
    const step = fc.record({number: fc.nat(19), inMs: fc.option(fc.integer({min: 10, max: 1_000}))});
    await fc.assert(
      fc.asyncProperty(fc.array(step, {maxLength: 100}), async (steps) => {
        const calls = Array.from({length: 20}, () => newCall());
        const expected = new Set<Call>();
        gone = [];
        for (const {number, inMs} of steps) {
          const call = calls[number]!;
          if (inMs === null) expiry.delete(call);
          else expiry.set(Object.assign(call, {expiresAt: performance.now() + inMs}));
          if (inMs === null) expected.delete(call);
          else expected.add(call);
        }
        await pass(1_000);
        const times = gone.map(({expiresAt}) => expiresAt!);
        expect(gone).to.have.members([...expected]);
        expect(times).to.deep.equal(times.toSorted((one, other) => one - other));
      }),
    );
  });
});
