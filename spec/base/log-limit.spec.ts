import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {LogLimit} from '../../lib/base/log-limit';
import {setFakeClock} from '../support/clock';
import type {FakeClock} from '../support/clock';

describe('lines that strangers cause', () => {
  let clock: FakeClock;
  beforeEach(() => (clock = setFakeClock()));
  afterEach(() => clock.restore());

  it('are one for each of them in a time, and the next one says how many were left out', () => {
    const limit = new LogLimit();
    expect([limit.take('one'), limit.take('one'), limit.take('one'), limit.take('other')]).to.deep.equal([{}, null, null, {unsaid: 2}]);
    clock.tick(limits.strangerLogMs - 1);
    expect(limit.take('one')).to.equal(null);
    clock.tick(1);
    expect([limit.take('one'), limit.take('one')]).to.deep.equal([{unsaid: 1}, null]);
  });

  it('are few for all of them together', () => {
    const limit = new LogLimit();
    const said = Array.from({length: 1_000}, (_, index) => limit.take(`stranger ${index}`)).filter((fields) => fields !== null);
    expect(said).to.have.length(limits.strangerLogLines);
    clock.tick(limits.strangerLogMs);
    expect(limit.take('late')).to.deep.equal({unsaid: 1_000 - limits.strangerLogLines});
  });
});
