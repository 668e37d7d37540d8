import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {LoopMonitor} from '../../lib/main/loop-monitor';
import {setFakeClock} from '../support/clock';
import type {FakeClock} from '../support/clock';

describe('the monitor of the event loop', () => {
  let clock: FakeClock;

  beforeEach(() => {
    clock = setFakeClock();
  });
  afterEach(() => clock.restore());

  it('knows nothing at first, and sets no timer', () => {
    const monitor = new LoopMonitor();
    expect(monitor.lag()).to.deep.equal({mean: 0, p99: 0, max: 0});
    expect(clock.countTimers()).to.equal(0);
  });

  it('looks while something happens, and stops when nothing has happened for a while', () => {
    const monitor = new LoopMonitor();
    monitor.awake();
    clock.tick(limits.lagQuietMs - limits.lagPollMs);
    expect(clock.countTimers()).to.equal(1);
    monitor.awake();
    clock.tick(limits.lagQuietMs - limits.lagPollMs);
    expect(clock.countTimers(), 'one more second after it').to.equal(1);
    clock.tick(2 * limits.lagPollMs);
    expect(clock.countTimers()).to.equal(0);
  });

  it('tells how long the loop stood still after something had come, until it is reset', async () => {
    clock.restore();
    const monitor = new LoopMonitor();
    monitor.awake();
    const stallMs = 20 * limits.lagPollMs;
    for (const until = performance.now() + stallMs; performance.now() < until; );
    await new Promise((resolve) => setTimeout(resolve, 1));
    const {mean, p99, max} = monitor.lag();
    expect(max * 1000).to.be.at.least(stallMs - limits.lagPollMs - 1);
    expect(mean).to.be.above(0);
    expect(p99).to.be.at.most(max * 1.01);
    monitor.reset();
    expect(monitor.lag().max).to.equal(0);
  });
});
