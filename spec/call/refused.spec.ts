import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import {callIdOf} from '../../lib/call/call-record';
import type {Call} from '../../lib/call/call-record';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {exited} from '../support/fake-spawner';
import {FakeTable, codeOf} from '../support/fake-table';

describe('a spawner that makes the journals', () => {
  let clock: FakeClock;
  let fake: FakeTable;

  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable();
    fake.spawner.makesJournals = true;
  });
  afterEach(() => clock.restore());

  const refuse = (call: Call): void => fake.spawner.processOf(call).sink.refused(new NodedError('spool_full'), 'ENOSPC');

  it('is given the first line, and nothing is on file before it has it', () => {
    const call = fake.start();
    expect(fake.files.eventsOf(call.accepted.key)).to.deep.equal([]);
    expect(JSON.parse(fake.spawner.processOf(call).request.accepted ?? '')).to.include({event: 'accepted', fn_name: 'echo'});
  });

  it('makes none for an urgent call, which must know before its start whether it can have one', () => {
    const call = fake.start({spec: {urgent: true}});
    expect(fake.files.eventsOf(call.accepted.key)).to.deep.equal(['accepted']);
    expect(fake.spawner.processOf(call).request.accepted).to.equal(null);
    fake.table.naming(call);
    expect(fake.files.steps).to.deep.equal([`create ${call.accepted.key}`]);
  });

  it('is preceded by the table when the ID of a call is handed out that it has said nothing of', () => {
    const call = fake.start();
    fake.table.naming(call);
    expect(fake.files.eventsOf(call.accepted.key)).to.deep.equal(['accepted']);
    const other = fake.start();
    fake.run(other);
    fake.table.naming(other);
    expect(fake.files.eventsOf(other.accepted.key)).to.deep.equal([]);
  });

  it('has the cause of a stop on file, and the ID of every call that is talked of', () => {
    const stopped = fake.start();
    fake.table.abort(stopped, 'master', null);
    expect(fake.files.eventsOf(stopped.accepted.key)).to.deep.equal(['stopping']);
    const reused = fake.start({requestId: 'request-1'});
    expect(codeOf(() => fake.table.duplicateOf('master', 'request-1', 'echo', 'another'))).to.equal('request_id_reused');
    const kept = fake.start();
    expect(codeOf(() => fake.table.forget(kept))).to.equal('still_running');
    for (const call of [reused, kept]) expect(fake.files.eventsOf(call.accepted.key)).to.deep.equal(['accepted']);
  });

  it('cannot take back a call whose ID has been handed out: it has failed', () => {
    const call = fake.start({requestId: 'request-1'});
    fake.table.naming(call);
    refuse(call);
    expect(call).to.include({state: 'ended', outcome: 'start_failed'});
    expect(call.ending).to.include({kind: 'not_started', errno: 'ENOSPC', stage: 'journal'});
    expect(fake.table.index.find(callIdOf(call))).to.equal(call);
    expect(fake.files.eventsOf(call.accepted.key)).to.deep.equal(['accepted', 'outcome']);
  });

  it('refuses a start: its waiters hear of it, its slot and its request ID are free, and nothing is left of it', async () => {
    const call = fake.start({requestId: 'request-1', spec: {maxRunning: 1}, abortAfterMs: 1_000});
    const ends: string[] = [];
    fake.table.waiters.open([call], 'ended', 60_000, (why) => ends.push(why));
    fake.table.waiters.open([call], 'started', 60_000, (why) => ends.push(why));
    refuse(call);
    await turn();
    expect(ends).to.deep.equal(['ended', 'ended']);
    expect(call).to.include({state: 'gone', outcome: null});
    expect(fake.table.counts).to.deep.equal({starting: 0, running: 0, stopping: 0, ended: 0, waiters: 0, tombstones: 0});
    expect(codeOf(() => fake.table.index.find(callIdOf(call)))).to.equal('unknown_call');
    expect(fake.files.buried).to.deep.equal([]);
    expect(fake.observer.seen).to.deep.equal([]);
    expect(clock.countTimers()).to.equal(0);
    const again = fake.start({requestId: 'request-1', spec: {maxRunning: 1}});
    expect(again.accepted.key).to.not.equal(call.accepted.key);
  });

  it('has nothing that a drain would wait for after a refusal', () => {
    const call = fake.start();
    let drained = 0;
    fake.table.onDrained(() => (drained += 1));
    refuse(call);
    expect(drained).to.equal(1);
  });

  it('is believed where its journal says all: no outcome is written of an undisturbed call', () => {
    for (const [ending, stop, expected] of [
      [{inJournal: true}, false, []],
      [{inJournal: true, output: 'too_large'}, false, ['outcome']],
      [{inJournal: true}, true, ['stopping', 'outcome']],
      [{}, false, ['outcome']],
    ] as const) {
      const call = fake.start();
      fake.run(call);
      if (stop) fake.table.abort(call, 'master', null);
      fake.end(call, exited(ending));
      expect(fake.files.eventsOf(call.accepted.key)).to.deep.equal(expected);
    }
  });
});
