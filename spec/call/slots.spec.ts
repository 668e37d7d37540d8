import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import {setFakeClock} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {exited} from '../support/fake-spawner';
import {FakeTable, codeOf} from '../support/fake-table';

describe('the limits of what is started', () => {
  let clock: FakeClock;
  beforeEach(() => {
    clock = setFakeClock();
  });
  afterEach(() => clock.restore());

  /** Nothing may be left of a start that was refused. */
  function refusal(fake: FakeTable, ...args: Parameters<FakeTable['start']>): string | undefined {
    const before = {processes: fake.spawner.processes.length, steps: fake.files.steps.length, counts: fake.table.counts};
    const code = codeOf(() => fake.start(...args));
    expect({processes: fake.spawner.processes.length, steps: fake.files.steps.length, counts: fake.table.counts}).to.deep.equal(before);
    return code;
  }

  it('draining: no new call is taken, whatever room there is', () => {
    const fake = new FakeTable();
    fake.table.draining = true;
    expect(refusal(fake)).to.equal('draining');
    expect(refusal(fake, {spec: {urgent: true}})).to.equal('draining');
  });

  it('spawner_unavailable: says why', () => {
    const fake = new FakeTable();
    fake.spawner.unavailable = 'the fork server is being started';
    expect(refusal(fake)).to.equal('spawner_unavailable');
    expect(() => fake.start()).to.throw(NodedError, 'the fork server is being started');
    fake.spawner.unavailable = null;
    expect(refusal(new FakeTable({maxCalls: 0}))).to.equal('too_many_calls');
    expect(fake.start().state).to.equal('starting');
  });

  it('too_many_calls: a slot is free again once a call has ended, not before', () => {
    const fake = new FakeTable({maxCalls: 2});
    const [first] = [fake.start(), fake.start()];
    fake.run(first!);
    fake.table.abort(first!, 'master', null);
    expect(refusal(fake)).to.equal('too_many_calls');
    fake.end(first!);
    fake.start();
    expect(refusal(fake)).to.equal('too_many_calls');
    expect(fake.table.activeCalls).to.have.lengthOf(2);
  });

  it('function_busy: counts one function\'s calls, and names it', () => {
    const fake = new FakeTable();
    const spec = {name: 'jobqueue_update', maxRunning: 1};
    const call = fake.start({spec});
    expect(refusal(fake, {spec})).to.equal('function_busy');
    expect(() => fake.start({spec})).to.throw(NodedError, 'jobqueue_update');
    fake.start({spec: {name: 'other', maxRunning: 1}});
    fake.end(call);
    fake.start({spec});
    expect(refusal(fake, {spec})).to.equal('function_busy');
  });

  it('function_busy: a function that may not run at all is always busy', () => {
    expect(refusal(new FakeTable(), {spec: {maxRunning: 0}})).to.equal('function_busy');
  });

  it('urgent functions have slots of their own: a full node starts them still', () => {
    const fake = new FakeTable({maxCalls: 1, maxUrgentCalls: 2});
    const spec = {name: 'powercycle', urgent: true};
    fake.start();
    const first = fake.start({spec});
    fake.start({spec});
    expect(refusal(fake, {spec})).to.equal('too_many_calls');
    expect(refusal(fake)).to.equal('too_many_calls');
    fake.end(first);
    expect(refusal(fake), 'an urgent slot is no other\'s').to.equal('too_many_calls');
    fake.start({spec});
  });

  it('spool_full: the call is not taken, and its slot is free', () => {
    const fake = new FakeTable({maxCalls: 1});
    fake.files.failure = new NodedError('spool_full');
    expect(refusal(fake)).to.equal('spool_full');
    fake.files.failure = null;
    expect(fake.start().state).to.equal('starting');
  });

  it('what else the files throw comes out as it is', () => {
    const fake = new FakeTable();
    fake.files.failure = Object.assign(new Error('I/O error'), {code: 'EIO'});
    expect(refusal(fake)).to.equal('EIO');
  });

  describe('an urgent call that the spool cannot take', () => {
    function unspooled(): FakeTable {
      const fake = new FakeTable();
      fake.files.failure = new NodedError('spool_full');
      return fake;
    }

    it('runs all the same, with its arguments in memory, and the observer knows', () => {
      const fake = unspooled();
      const call = fake.start({spec: {urgent: true}, args: Buffer.from('["now"]')});
      expect(call.accepted.spooled).to.equal(false);
      const {args, spooled} = fake.spawner.processOf(call).request;
      expect({args: args?.toString(), spooled}).to.deep.equal({args: '["now"]', spooled: false});
      expect(fake.observer.seen).to.deep.equal(['unspooled there is no room left for the files of a call']);
    });

    it('writes nothing to a journal that is not there', () => {
      const fake = unspooled();
      const call = fake.start({spec: {urgent: true}});
      fake.table.abort(call, 'master', null);
      fake.end(call, exited({exitCode: 1}));
      expect(fake.files.steps).to.deep.equal([]);
    });

    it('is buried and removed like others, for its output may be in memory', () => {
      const fake = unspooled();
      const call = fake.start({spec: {urgent: true}});
      fake.end(call);
      fake.table.forget(call);
      expect(fake.files.steps).to.deep.equal(['bury', `remove ${call.accepted.key}`]);
    });
  });
});
