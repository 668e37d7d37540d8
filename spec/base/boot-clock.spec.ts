import {expect} from 'chai';
import {readFileSync} from 'node:fs';
import {ageMs, bootId, bootMs, momentNow, spanMs} from '../../lib/base/boot-clock';
import type {Moment} from '../../lib/base/boot-clock';
import {setFakeClock, wallStartMs} from '../support/clock';
import type {FakeClock} from '../support/clock';

const uptimeMs = (): number => Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 1000;
const hourMs = 3_600_000;

describe('the boot clock', () => {
  let clock: FakeClock | null = null;

  afterEach(() => {
    clock?.restore();
    clock = null;
  });

  /** So long ago by either clock. */
  const ago = (wallAgoMs: number, bootAgoMs: number, id = bootId): Moment => ({atMs: Date.now() - wallAgoMs, boot: {bootId: id, ms: bootMs() - bootAgoMs}});

  it('is the uptime of the machine, and never more than that', () => {
    const [before, between, after] = [uptimeMs(), bootMs(), uptimeMs()];
    expect(between).to.be.within(before - 20, after + 10);
  });

  it('knows the boot that it counts from', () => {
    expect(bootId).to.match(/^[0-9a-f-]{36}$/);
    expect(momentNow().boot?.bootId).to.equal(bootId);
  });

  it('is looked at again where the wall clock says that the machine slept', () => {
    clock = setFakeClock();
    const before = bootMs();
    clock.tick(900);
    expect(bootMs() - before).to.be.closeTo(900, 0.001); // since it was last looked at
    clock.setSystemTime(Date.now() + hourMs);
    expect(bootMs()).to.be.within(before - 20, uptimeMs() + 10);
  });

  describe('the age of a moment', () => {
    it('goes by it, however the wall clock was set', () => {
      for (const wallAgoMs of [hourMs * 3, 0, -hourMs * 3]) expect(ageMs(ago(wallAgoMs, 5_000))).to.be.within(4_980, 15_000);
    });

    it('is never negative', () => {
      expect(ageMs(ago(hourMs, -5_000))).to.equal(0);
      expect(ageMs({atMs: Date.now() + hourMs, boot: null})).to.equal(0);
    });

    it('goes by the wall clock where a journal has no more', () => {
      clock = setFakeClock();
      expect(ageMs({atMs: wallStartMs - 7_000, boot: null})).to.equal(7_000);
    });

    it('goes by the wall clock after another boot, and is at least that of the boot', () => {
      const dayMs = 24 * hourMs;
      const longAgoMs = uptimeMs() + dayMs;
      expect(ageMs(ago(longAgoMs, 0, 'another boot'))).to.be.within(longAgoMs - 1, longAgoMs + 10_000);
      expect(ageMs(ago(-dayMs, 0, 'another boot'))).to.be.within(uptimeMs() - 10_000, uptimeMs() + 10_000);
    });
  });

  describe('the span between two moments', () => {
    const moment = (atMs: number, ms: number, id = 'a'): Moment => ({atMs, boot: {bootId: id, ms}});

    it('goes by it within one boot, also after that', () => {
      expect(spanMs(moment(0, 1_000), moment(hourMs, 3_000))).to.equal(2_000);
      expect(spanMs(moment(hourMs, 1_000), moment(0, 3_000))).to.equal(2_000);
    });

    it('goes by the wall clock else, and is never negative', () => {
      expect(spanMs(moment(1_000, 9_000), moment(4_000, 1_000, 'b'))).to.equal(3_000);
      expect(spanMs({atMs: 1_000, boot: null}, moment(4_000, 1_000))).to.equal(3_000);
      expect(spanMs({atMs: 4_000, boot: null}, {atMs: 1_000, boot: null})).to.equal(0);
      expect(spanMs(moment(0, 3_000), moment(9_000, 1_000))).to.equal(0);
    });
  });
});
