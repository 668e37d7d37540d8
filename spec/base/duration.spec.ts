import {expect} from 'chai';
import * as fc from 'fast-check';
import {monotonicMs, msToSeconds, secondsToMs, timerDelayMs, wallMs} from '../../lib/base/duration';
import {limits} from '../../lib/base/limits';
import {setFakeClock, wallStartMs} from '../support/clock';

describe('durations', () => {
  it('come in seconds, fractions allowed, and are ms from then on', () => {
    expect([0, 0.001, 1, 2.5, 300].map((seconds) => secondsToMs(seconds))).to.deep.equal([0, 1, 1_000, 2_500, 300_000]);
  });

  it('are clamped to what the caller allows, and to a hundred years without it', () => {
    expect(secondsToMs(300, 1_000)).to.equal(1_000);
    expect(secondsToMs(1, 1_000)).to.equal(1_000);
    expect(secondsToMs(1.001, 1_000)).to.equal(1_000);
    expect(secondsToMs(1e300)).to.equal(limits.maxDurationMs);
    expect(secondsToMs(Number.MAX_VALUE)).to.equal(limits.maxDurationMs);
    expect(Number.isSafeInteger(limits.maxDurationMs)).to.equal(true);
  });

  it('go out in seconds with ms precision', () => {
    expect([0, 1, 1_000, 1_234.5678, 0.4].map(msToSeconds)).to.deep.equal([0, 0.001, 1, 1.235, 0]);
  });

  it('of whole ms come back as they went', () => {
    fc.assert(fc.property(fc.integer({min: 0, max: limits.maxDurationMs}), (ms) => Math.round(secondsToMs(msToSeconds(ms))) === ms));
  });
});

describe('the delay given to setTimeout', () => {
  it('is never negative, and never over 2^31 - 1, where it would fire at once', () => {
    const cases: readonly (readonly [ms: number, delay: number])[] = [
      [-Infinity, 0],
      [-1, 0],
      [0, 0],
      [0.001, 1],
      [1, 1],
      [1.5, 2],
      [2 ** 31 - 2, 2 ** 31 - 2],
      [2 ** 31 - 1, 2 ** 31 - 1],
      [2 ** 31, 2 ** 31 - 1],
      [Infinity, 2 ** 31 - 1],
    ];
    for (const [ms, delay] of cases) expect(timerDelayMs(ms), String(ms)).to.equal(delay);
  });

  it('is never shorter than what is asked for, so that nothing fires early', () => {
    fc.assert(
      fc.property(fc.double({min: 0, max: limits.maxTimerMs, noNaN: true}), (ms) => {
        const delay = timerDelayMs(ms);
        return Number.isInteger(delay) && delay >= ms && delay <= ms + 1;
      }),
    );
  });
});

describe('the clocks', () => {
  it('are two: a wall clock that is set back does not move deadlines', () => {
    const clock = setFakeClock();
    try {
      clock.tick(500);
      expect([monotonicMs(), wallMs()]).to.deep.equal([500, wallStartMs + 500]);
      clock.setSystemTime(0);
      clock.tick(10);
      expect([monotonicMs(), wallMs()]).to.deep.equal([510, 10]);
    } finally {
      clock.restore();
    }
  });

  it('are the real ones where nobody fakes them', () => {
    const before = monotonicMs();
    expect(monotonicMs()).to.be.at.least(before);
    expect(Math.abs(wallMs() - (performance.timeOrigin + monotonicMs()))).to.be.below(86_400_000);
  });
});
