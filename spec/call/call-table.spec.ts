import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import {callIdOf} from '../../lib/call/call-record';
import {setFakeClock, wallStartMs} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {exited, lost, notStarted} from '../support/fake-spawner';
import {FakeTable, codeOf} from '../support/fake-table';

describe('the table of calls', () => {
  let clock: FakeClock;
  beforeEach(() => {
    clock = setFakeClock();
  });
  afterEach(() => clock.restore());

  describe('when a call is started', () => {
    it('has the call, on file and by its ID, before its process is started', () => {
      const fake = new FakeTable();
      const seen: string[] = [];
      fake.spawner.onSpawn = ({key}) => {
        const [call] = fake.table.activeCalls;
        seen.push(...fake.files.eventsOf(key), call!.state);
        expect(fake.table.index.find(callIdOf(call!))).to.equal(call);
      };
      fake.start();
      expect(seen).to.deep.equal(['accepted', 'starting']);
    });

    it('tells the spawner what to start, and nothing of the arguments, which are on file', () => {
      const fake = new FakeTable();
      const call = fake.start({requestId: 'request-1', traceparent: '00-aa-bb-01'});
      const {key, requestId, traceparent, args, spooled, spec} = fake.spawner.processOf(call).request;
      expect({key, requestId, traceparent, args, spooled}).to.deep.equal({key: call.accepted.key, requestId: 'request-1', traceparent: '00-aa-bb-01', args: null, spooled: true});
      expect(spec).to.equal(call.spec);
    });

    it('gives the spawner arguments that fit into its request, and makes no file for them', () => {
      const fake = new FakeTable();
      fake.spawner.inlineArgsBytes = 5;
      for (const [text, isInline] of [['[1,2]', true], ['[1,23]', false]] as const) {
        const call = fake.start({args: Buffer.from(text)});
        const {args, spooled} = fake.spawner.processOf(call).request;
        const onFile = fake.files.args.get(call.accepted.key);
        expect([args, onFile].map((bytes) => bytes && Buffer.from(bytes).toString())).to.deep.equal(isInline ? [text, null] : [null, text]);
        expect(spooled).to.equal(true);
      }
    });

    it('gives the spawner the arguments of an urgent call that has no files, however long they are', () => {
      const fake = new FakeTable();
      fake.spawner.inlineArgsBytes = 5;
      fake.files.failure = new NodedError('spool_full');
      for (const text of ['[1,2]', '[1,23]']) {
        const {args, spooled} = fake.spawner.processOf(fake.start({args: Buffer.from(text), spec: {urgent: true}})).request;
        expect([Buffer.from(args ?? []).toString(), spooled]).to.deep.equal([text, false]);
      }
    });

    it('keeps what it was accepted with', () => {
      const {accepted} = new FakeTable().start({requestId: 'request-1', abortAfterMs: 5_000, reason: 'a test', args: Buffer.from('[1,2]')});
      expect(accepted).to.deep.include({ppid: process.pid, acceptedAtMs: wallStartMs, fnName: 'echo', role: 'master', argsBytes: 5, abortAfterMs: 5_000, reason: 'a test', spooled: true});
      expect(accepted.key).to.match(/^[0-9a-f]{16}$/);
    });

    it('counts it in the state that it is in, and nowhere else', () => {
      const fake = new FakeTable();
      const call = fake.start();
      const none = {starting: 0, running: 0, stopping: 0, ended: 0, waiters: 0, tombstones: 0};
      expect(fake.table.counts).to.deep.equal({...none, starting: 1});
      fake.run(call);
      expect(fake.table.counts).to.deep.equal({...none, running: 1});
      fake.table.abort(call, 'master', null);
      expect(fake.table.counts).to.deep.equal({...none, stopping: 1});
      fake.end(call);
      expect(fake.table.counts).to.deep.equal({...none, ended: 1});
      fake.table.forget(call);
      expect(fake.table.counts).to.deep.equal({...none, tombstones: 1});
    });

    it('writes the whole life to its journal, in order', () => {
      const fake = new FakeTable();
      const call = fake.start();
      fake.run(call);
      fake.table.abort(call, 'master', null);
      fake.end(call, exited({exitCode: 1, output: 'empty'}));
      expect(fake.files.eventsOf(call.accepted.key)).to.deep.equal(['accepted', 'stopping', 'outcome']);
    });

    it('tells the observer of its end, once', () => {
      const fake = new FakeTable();
      fake.ended();
      fake.ended({}, notStarted);
      expect(fake.observer.seen).to.deep.equal(['ended ok', 'ended start_failed']);
    });

    it('reports what a spawner may not do, and changes nothing', () => {
      const fake = new FakeTable();
      const call = fake.ended();
      fake.observer.expectsBugs = true;
      fake.end(call);
      fake.run(call);
      expect(fake.observer.seen).to.deep.equal(['ended ok', 'bug ended × ended', 'bug ended × started']);
      expect(fake.table.counts.ended).to.equal(1);
    });

    it('arms its deadline', () => {
      const fake = new FakeTable();
      const call = fake.start({abortAfterMs: 2_000});
      clock.tick(2_000);
      expect(call).to.include({state: 'stopping', stopCause: 'deadline'});
    });
  });

  describe('a request ID', () => {
    const fingerprint = 'f'.repeat(64);

    it('that was never seen makes no duplicate', () => {
      expect(new FakeTable().table.duplicateOf('master', 'request-1', 'echo', fingerprint)).to.equal(null);
    });

    it('finds the same call while it runs and after its end, and each time is counted', () => {
      const fake = new FakeTable();
      const call = fake.start({requestId: 'request-1'});
      expect(fake.table.duplicateOf('master', 'request-1', 'echo', fingerprint)).to.equal(call);
      fake.run(call);
      fake.end(call);
      expect(fake.table.duplicateOf('master', 'request-1', 'echo', fingerprint)).to.equal(call);
      expect(fake.observer.seen.filter((what) => what === 'duplicate')).to.have.lengthOf(2);
    });

    it('is each role\'s own', () => {
      const fake = new FakeTable();
      fake.start({requestId: 'request-1'});
      expect(fake.table.duplicateOf('operator', 'request-1', 'echo', fingerprint)).to.equal(null);
    });

    it('is refused for another function or other arguments, and the call is named', () => {
      const fake = new FakeTable();
      const call = fake.start({requestId: 'request-1'});
      for (const [name, print] of [['version', fingerprint], ['echo', 'e'.repeat(64)]] as const) {
        expect(() => fake.table.duplicateOf('master', 'request-1', name, print))
          .to.throw(NodedError)
          .that.deep.includes({code: 'request_id_reused', detail: {callId: callIdOf(call)}});
      }
      expect(fake.observer.seen).to.deep.equal([]);
    });

    it('of a call that is gone is refused too, so that it never runs twice', () => {
      const fake = new FakeTable();
      fake.table.forget(fake.ended({requestId: 'request-1'}));
      expect(codeOf(() => fake.table.duplicateOf('master', 'request-1', 'echo', fingerprint))).to.equal('call_expired');
    });

    it('of a lost call that is gone says that nobody can know', () => {
      const fake = new FakeTable();
      fake.table.forget(fake.ended({requestId: 'request-1'}, lost));
      expect(() => fake.table.duplicateOf('master', 'request-1', 'echo', fingerprint))
        .to.throw(NodedError)
        .that.deep.includes({code: 'call_lost', started: 'unknown'});
    });
  });

  describe('many calls at once', () => {
    it('are all told of a shutdown, with the grace that is given', () => {
      const fake = new FakeTable();
      const calls = [fake.start(), fake.start(), fake.start({spec: {name: 'other', killAfterMs: 500}})];
      const [kept] = [fake.ended()];
      fake.run(calls[1]!);
      fake.table.shutdown(3_000);
      expect(calls.map(({stopCause, timerDue}) => [stopCause, timerDue])).to.deep.equal([['shutdown', 3_000], ['shutdown', 3_000], ['shutdown', 500]]);
      for (const call of calls) expect(fake.spawner.processOf(call).signals).to.deep.equal(['terminate']);
      expect(kept!.state).to.equal('ended');
    });

    it('are all killed at once by a second signal', () => {
      const fake = new FakeTable();
      const calls = [fake.start(), fake.start()];
      fake.table.shutdown(0);
      fake.table.kill();
      for (const call of calls) expect(fake.spawner.processOf(call).signals).to.deep.equal(['terminate', 'kill']);
    });

    it('that cannot be killed are told to the observer', () => {
      const fake = new FakeTable();
      fake.start();
      fake.table.kill();
      clock.tick(fake.table.unkillableMs);
      expect(fake.observer.seen).to.deep.equal(['unkillable']);
    });
  });
});
