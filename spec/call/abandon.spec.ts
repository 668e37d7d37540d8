import {expect} from 'chai';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {exited} from '../support/fake-spawner';
import {FakeTable} from '../support/fake-table';

describe('a call whose starter will not ask for it', () => {
  let clock: FakeClock;
  let fake: FakeTable;
  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable();
  });
  afterEach(() => clock.restore());

  it('goes with its end, and takes no room', () => {
    const call = fake.start();
    fake.run(call);
    fake.table.retention.abandon(call);
    expect(call.state).to.equal('running');
    fake.end(call, exited({stdoutBytes: 1000}));
    expect(call.state).to.equal('gone');
    expect(fake.table.spoolBytes).to.equal(0);
    expect(fake.table.counts).to.include({ended: 0, running: 0, tombstones: 1});
    expect(clock.countTimers()).to.equal(0);
  });

  it('goes alone: those that ended before it stay', () => {
    const before = fake.ended();
    const call = fake.start();
    fake.table.retention.abandon(call);
    const after = fake.ended();
    fake.run(call);
    fake.end(call);
    expect([before, call, after].map(({state}) => state)).to.deep.equal(['ended', 'gone', 'ended']);
  });

  it('stays if somebody else waits for its end, who then reads its result', async () => {
    const call = fake.start();
    fake.run(call);
    const ends: string[] = [];
    fake.table.waiters.open([call], 'ended', 1000, (why) => ends.push(`${why} ${call.state}`));
    fake.table.retention.abandon(call);
    fake.end(call);
    await turn();
    expect(ends).to.deep.equal(['ended ended']);
    expect(fake.table.counts.ended).to.equal(1);
  });

  it('is drained like any other', () => {
    const call = fake.start();
    fake.run(call);
    fake.table.retention.abandon(call);
    let drained = 0;
    fake.table.onDrained(() => (drained += 1));
    expect(drained).to.equal(0);
    fake.end(call);
    expect(drained).to.equal(1);
  });
});
