import {expect} from 'chai';
import type {Moment} from '../../lib/base/boot-clock';
import {timesOf} from '../../lib/call/call-record';
import {acceptance} from '../support/fake-host';
import {exited} from '../support/fake-spawner';

const second = 1000;
const hour = 3600 * second;
const acceptedAtMs = 1_764_670_000_000;
const boot = (ms: number): Moment['boot'] => ({bootId: 'b', ms: 5 * hour + ms});
const at = (ms: number, stepMs = 0): Moment => ({atMs: acceptedAtMs + ms + stepMs, boot: boot(ms)});
const accepted = acceptance({acceptedAtMs, acceptedBoot: boot(0)});
const ended = ({atMs, boot}: Moment) => exited({endedAtMs: atMs, endedBoot: boot});

describe('the times of a call', () => {
  it('are null for what has not happened', () => {
    expect(timesOf({accepted, started: null, ending: null})).to.deep.equal({startedAtMs: null, endedAtMs: null});
    expect(timesOf({accepted, started: at(5), ending: null})).to.deep.equal({startedAtMs: acceptedAtMs + 5, endedAtMs: null});
  });

  it('are those of the spawner', () => {
    expect(timesOf({accepted, started: at(5), ending: ended(at(700))})).to.deep.equal({startedAtMs: acceptedAtMs + 5, endedAtMs: acceptedAtMs + 700});
  });

  it('are of a start that failed, too', () => {
    expect(timesOf({accepted, started: null, ending: ended(at(30))})).to.deep.equal({startedAtMs: null, endedAtMs: acceptedAtMs + 30});
  });

  for (const stepMs of [2 * hour, -2 * hour]) {
    const what = `a wall clock that is set ${stepMs > 0 ? 'forward' : 'back'} by two hours`;

    it(`have the right distance under ${what} while it runs`, () => {
      expect(timesOf({accepted, started: at(5), ending: ended(at(700, stepMs))})).to.deep.equal({startedAtMs: acceptedAtMs + 5, endedAtMs: acceptedAtMs + 700});
    });

    it(`stand in order under ${what} before it starts`, () => {
      const {startedAtMs, endedAtMs} = timesOf({accepted, started: at(5, stepMs), ending: ended(at(700, stepMs))});
      expect(startedAtMs).to.be.at.least(acceptedAtMs);
      expect(endedAtMs! - startedAtMs!).to.equal(695);
    });

    it(`stand in order under ${what} where a journal of an earlier version has no other clock`, () => {
      const ending = exited({endedAtMs: acceptedAtMs + 700 + stepMs, endedBoot: null});
      const {startedAtMs, endedAtMs} = timesOf({accepted, started: {...at(5), boot: null}, ending});
      expect([acceptedAtMs, startedAtMs, endedAtMs].map(Number)).to.deep.equal([acceptedAtMs, startedAtMs, endedAtMs].map(Number).sort((a, b) => a - b));
    });
  }
});
