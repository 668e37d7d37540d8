import {expect} from 'chai';
import {momentNow} from '../../lib/base/boot-clock';
import type {StopCause} from '../../lib/base/outcome';
import {callIdOf} from '../../lib/call/call-record';
import type {Acceptance, Call} from '../../lib/call/call-record';
import {acceptedLine, recordOf as journalOf, startedLine, stoppingLine} from '../../lib/call/journal';
import type {JournalRecord} from '../../lib/call/journal';
import type {FunctionSpec} from '../../lib/call/spawner';
import {setFakeClock, turn, wallStartMs} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {acceptance} from '../support/fake-host';
import {FakeProcess, exited, functionSpec} from '../support/fake-spawner';
import {FakeTable, codeOf, roomyLimits} from '../support/fake-table';

const key = '0123456789abcdef';
const pid = 4188;

interface Left {
  readonly accepted?: Partial<Acceptance>;
  readonly spec?: Partial<FunctionSpec>;
  readonly stopCause?: StopCause;
  /** Whether the start is on file. */
  readonly started?: boolean;
  /** The fork server does not say when that was. */
  readonly silent?: boolean;
}

describe('a call that goes on while the next noded starts', () => {
  const startedAt = {atMs: wallStartMs + 20, boot: null};
  let clock: FakeClock;
  let fake: FakeTable;
  let process: FakeProcess;

  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable({killAfterMs: 10_000});
    fake.files.journals.set(key, []); // what stands in it has been read
  });
  afterEach(() => clock.restore());

  function recordOf({accepted = {}, stopCause, started = true}: Left): JournalRecord {
    const lines = [
      acceptedLine(acceptance({requestId: 'request-1', acceptedAtMs: wallStartMs, ...accepted}), false),
      started ? startedLine({pid, startTime: 1, bootId: 'b', atMs: wallStartMs + 20, boot: null}) : '',
      stopCause === undefined ? '' : stoppingLine(stopCause, 'master', wallStartMs + 30),
    ];
    return journalOf(key, lines)!;
  }

  function resume(left: Left = {}): Call {
    const spec = functionSpec(left.spec);
    return fake.table.resume(recordOf(left), spec, {pid, at: left.silent === true ? null : startedAt, order: 1}, (sink) => {
      process = new FakeProcess({key, spec, requestId: null, traceparent: null, args: null, accepted: null, spooled: true}, sink);
      return process;
    });
  }

  it('is running again under its old call ID and request ID, since it was accepted', () => {
    clock.tick(60_000);
    const call = resume();
    expect(call).to.include({state: 'running', pid, outcome: null, stopCause: null});
    expect(call.started).to.deep.equal(startedAt);
    expect(callIdOf(call)).to.match(/^4121:4188:/);
    expect(fake.table.index.find(callIdOf(call))).to.equal(call);
    expect(fake.table.duplicateOf('master', 'request-1', 'echo', 'f'.repeat(64))).to.equal(call);
    expect(performance.now() - call.acceptedAt).to.equal(60_000);
    expect(fake.table.counts).to.include({running: 1, starting: 0});
    expect(process.signals).to.deep.equal([]);
  });

  it('has been running since what is on file where its fork server does not say', () => {
    expect(resume({silent: true}).started).to.deep.equal(startedAt);
    fake = new FakeTable({killAfterMs: 10_000});
    expect(resume({silent: true, started: false}).started).to.equal(null);
  });

  it('is known by what its fork server says of it where its start is not on file', () => {
    const call = resume({started: false});
    expect(call).to.include({state: 'running', pid});
    expect(call.started).to.deep.equal(startedAt);
  });

  it('is not older than now where the wall clock was set back', () => {
    expect(resume({accepted: {acceptedAtMs: wallStartMs + 1e9}}).acceptedAt).to.equal(performance.now());
  });

  for (const stepMs of [7_200_000, -7_200_000]) {
    it(`is as old as it is, and not stopped early or late, where the wall clock was set by ${stepMs / 1000} s`, () => {
      const {boot} = momentNow();
      const accepted = {acceptedAtMs: Date.now() - stepMs, abortAfterMs: 600_000};
      const old = resume({accepted: {...accepted, acceptedBoot: {...boot!, ms: boot!.ms - 300_000}}});
      expect(performance.now() - old.acceptedAt).to.be.closeTo(300_000, 60_000);
      expect(old.abortAt! - performance.now()).to.be.closeTo(300_000, 60_000);
      fake = new FakeTable();
      const overdue = resume({accepted: {...accepted, acceptedBoot: {...boot!, ms: boot!.ms - 660_000}}});
      clock.tick(0);
      expect(overdue.stopCause).to.equal('deadline');
    });
  }

  it('ends with its true outcome, and whoever waits is told', async () => {
    const call = resume();
    const ends: string[] = [];
    fake.table.waiters.open([call], 'ended', 60_000, (why) => ends.push(why));
    process.sink.ended(exited({exitCode: 3}));
    await turn();
    expect(ends).to.deep.equal(['ended']);
    expect(call).to.include({state: 'ended', outcome: 'failed'});
    expect(fake.files.eventsOf(key)).to.deep.equal(['outcome']);
    expect(fake.observer.seen).to.deep.equal(['ended failed']);
  });

  it('takes a slot, whatever the limits say now, and gives it back', () => {
    fake = new FakeTable({...roomyLimits, maxCalls: 1});
    const call = resume();
    expect(fake.table.activeCalls).to.deep.equal([call]);
    expect(codeOf(() => fake.start())).to.equal('too_many_calls');
    process.sink.ended(exited());
    expect(codeOf(() => fake.start())).to.equal(undefined);
  });

  it('can be aborted like any other', () => {
    const call = resume();
    fake.table.abort(call, 'master', 500);
    expect(call).to.include({state: 'stopping', stopCause: 'aborted'});
    clock.tick(500);
    expect(process.signals).to.deep.equal(['terminate', 'kill']);
  });

  describe('with abort_after', () => {
    it('has its deadline from its acceptance on, not from the start of noded', () => {
      clock.tick(60_000);
      const call = resume({accepted: {abortAfterMs: 90_000}});
      clock.tick(29_999);
      expect(call.state).to.equal('running');
      clock.tick(1);
      expect(call).to.include({state: 'stopping', stopCause: 'deadline'});
    });

    it('is stopped at once if its deadline passed while no noded ran, and has its grace then', () => {
      clock.tick(60_000);
      const call = resume({accepted: {abortAfterMs: 1_000}, spec: {killAfterMs: 7_000}});
      clock.tick(0);
      expect(call).to.include({state: 'stopping', stopCause: 'deadline'});
      clock.tick(6_999);
      expect(process.signals).to.deep.equal(['terminate']);
      clock.tick(1);
      expect(process.signals).to.deep.equal(['terminate', 'kill']);
    });
  });

  describe('that was being stopped', () => {
    for (const [cause, grace] of [['aborted', 10_000], ['deadline', 10_000]] as const) {
      it(`is sent SIGTERM again, and SIGKILL after the grace: ${cause}`, () => {
        const call = resume({stopCause: cause});
        expect(call).to.include({state: 'stopping', stopCause: cause});
        expect(process.signals).to.deep.equal(['terminate']);
        expect(fake.table.counts).to.include({stopping: 1, running: 0});
        clock.tick(grace - 1);
        expect(process.signals).to.deep.equal(['terminate']);
        clock.tick(1);
        expect(process.signals).to.deep.equal(['terminate', 'kill']);
      });
    }

    it('has the grace of its manifest, and never ends where that says so', () => {
      resume({stopCause: 'aborted', spec: {killAfterMs: 700}});
      clock.tick(700);
      expect(process.signals).to.deep.equal(['terminate', 'kill']);
      fake = new FakeTable();
      resume({stopCause: 'aborted', spec: {killAfterMs: 0}});
      clock.jump(1e9);
      expect(process.signals).to.deep.equal(['terminate']);
    });

    it('is not killed before its grace although its deadline has passed', () => {
      clock.tick(5_000);
      resume({stopCause: 'deadline', accepted: {abortAfterMs: 4_000}, spec: {killAfterMs: 6_000}});
      clock.tick(5_999);
      expect(process.signals).to.deep.equal(['terminate']);
      clock.tick(1);
      expect(process.signals).to.deep.equal(['terminate', 'kill']);
    });

    it('by the end of that noded is not killed, for that was in its hands, unless its manifest says so', () => {
      resume({stopCause: 'shutdown'});
      clock.jump(1e9);
      expect(process.signals).to.deep.equal(['terminate']);
      fake = new FakeTable();
      resume({stopCause: 'shutdown', spec: {killAfterMs: 700}});
      clock.tick(700);
      expect(process.signals).to.deep.equal(['terminate', 'kill']);
    });

    it('is what its stop made of it when it ends', () => {
      const call = resume({stopCause: 'deadline'});
      process.sink.ended(exited({exitCode: null, signal: 'SIGTERM', output: 'empty'}));
      expect(call.outcome).to.equal('deadline');
    });
  });
});
