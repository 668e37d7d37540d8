import {expect} from 'chai';
import {defaults, limits} from '../../lib/base/limits';

describe('the limits', () => {
  it('are whole numbers above 0', () => {
    for (const [name, value] of Object.entries({...defaults, ...limits})) expect(Number.isSafeInteger(value) && value > 0, `${name} = ${value}`).to.equal(true);
  });

  it('say in their names what they count where it has a unit', () => {
    const durations = Object.keys({...defaults, ...limits}).filter((name) => /(Timeout|After|Grace|Poll|Wait|keep[A-Z]|Pause)/.test(name) && !/^max(WaitForCalls|Waiters)$|Factor$/.test(name));
    expect(durations).to.have.length.above(10);
    for (const name of durations) expect(name).to.match(/Ms$/);
  });

  it('fit each other', () => {
    expect(limits.maxInlineResultBytes).to.be.below(defaults.maxOutputBytes);
    expect(limits.maxUnspooledBytes).to.be.below(limits.maxInlineResultBytes);
    expect(limits.defaultPageSize).to.be.at.most(limits.maxPageSize);
    expect(limits.maxLineBytes).to.be.below(4_096);
    expect(defaults.maxSpoolBytes).to.be.above(2 * defaults.maxOutputBytes);
    expect(limits.maxTimerMs).to.equal(2 ** 31 - 1);
  });

  it('are those of the agreement', () => {
    expect(defaults).to.include({maxRequestBytes: 16 * 2 ** 20, maxWaitMs: 300_000, keepResultMs: 3_600_000, maxResults: 100_000, maxSpoolBytes: 2 ** 30});
    expect(limits).to.include({maxDepth: 128, keepDeliveredMs: 300_000, keepTombstoneMs: 86_400_000, maxStderrTailBytes: 65_536, maxInlineResultBytes: 2 ** 20});
  });
});
