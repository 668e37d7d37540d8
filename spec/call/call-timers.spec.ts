import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {armDeadline, dispatch} from '../../lib/call/call';
import type {Call} from '../../lib/call/call-record';
import type {FunctionSpec} from '../../lib/call/spawner';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {FakeHost, callIn, hostKillAfterMs, hostUnkillableMs, newCall, someEvent} from '../support/fake-host';
import type {FakeProcess} from '../support/fake-spawner';
import {exited, functionSpec} from '../support/fake-spawner';

const dayMs = 86_400_000;

describe('the one timer of a call', () => {
  let clock: FakeClock;
  let host: FakeHost;

  beforeEach(() => {
    clock = setFakeClock();
    host = new FakeHost();
  });
  afterEach(() => clock.restore());

  function running(abortAfterMs: number | null, spec: FunctionSpec | null = functionSpec()): Call & {process: FakeProcess} {
    const call = newCall({abortAfterMs}, spec);
    armDeadline(call, host);
    dispatch(call, 'started', someEvent.started, host);
    return call;
  }

  const abort = (call: Call, killAfterMs: number | null): void => dispatch(call, 'abort', {by: 'master', killAfterMs}, host);
  const killedAt = (call: Call & {process: FakeProcess}, boundMs: number): number | null => {
    for (let spent = 0; spent < boundMs; spent += 100) {
      if (call.killed) return performance.now();
      clock.tick(100);
    }
    return null;
  };

  it('is not there for a call without a deadline', () => {
    expect(running(null)).to.include({timer: null, timerDue: null, abortAt: null});
    expect(clock.countTimers()).to.equal(0);
  });

  it('is one at every point of a life that has a deadline and a kill, and none after its end', () => {
    const call = running(60_000);
    expect(clock.countTimers()).to.equal(1);
    clock.tick(60_000);
    expect(call).to.include({state: 'stopping', timerDue: 60_000 + hostKillAfterMs});
    expect(clock.countTimers()).to.equal(1);
    clock.tick(hostKillAfterMs);
    expect(call).to.include({killed: true, timerDue: 60_000 + hostKillAfterMs + hostUnkillableMs});
    expect(clock.countTimers()).to.equal(1);
    dispatch(call, 'ended', {ending: exited({exitCode: null, signal: 'SIGKILL', output: 'empty'})}, host);
    expect(call).to.include({outcome: 'deadline', timer: null});
    expect(clock.countTimers()).to.equal(0);
  });

  it('counts the deadline from the acceptance, not from the start', () => {
    const call = newCall({abortAfterMs: 1_000});
    armDeadline(call, host);
    clock.tick(900);
    dispatch(call, 'started', someEvent.started, host);
    clock.tick(99);
    expect(call.state).to.equal('running');
    clock.tick(1);
    expect(call.state).to.equal('stopping');
  });

  it('is set again and again for a deadline that setTimeout cannot count to', () => {
    const abortAfterMs = 3 * limits.maxTimerMs;
    const call = running(abortAfterMs);
    clock.tick(limits.maxTimerMs);
    expect(call.state).to.equal('running');
    expect(clock.countTimers()).to.equal(1);
    clock.tick(abortAfterMs - limits.maxTimerMs - 1);
    expect(call.state).to.equal('running');
    clock.tick(1);
    expect(call).to.include({state: 'stopping', stopCause: 'deadline'});
  });

  it('goes by the monotonic clock: a wall clock that jumps ends nothing', () => {
    const call = running(60_000);
    clock.setSystemTime(Date.now() + 365 * dayMs);
    clock.tick(59_999);
    expect(call.state).to.equal('running');
    clock.tick(1);
    expect(call.state).to.equal('stopping');
  });

  it('stops nothing that has ended by itself, as is heard after a standstill', async () => {
    const call = running(5_000);
    const {now} = performance;
    performance.now = () => now.call(performance) + 30_000;
    clock.tick(5_000);
    expect(call.state).to.equal('running');
    dispatch(call, 'ended', {ending: exited({exitCode: 3})}, host);
    await turn();
    expect(call).to.include({state: 'ended', outcome: 'failed', stopCause: null});
  });

  it('stops after a standstill what has not ended', async () => {
    const call = running(5_000);
    const {now} = performance;
    performance.now = () => now.call(performance) + 30_000;
    clock.tick(5_000);
    await turn();
    expect(call).to.include({state: 'stopping', stopCause: 'deadline'});
  });

  describe('of a call whose process has ended while its output is looked at', () => {
    for (const event of ['timer', 'abort', 'shutdown', 'kill'] as const) {
      it(`stops nothing: ${event}`, () => {
        const call = running(5_000);
        call.process.hasEnded = true;
        dispatch(call, event, someEvent[event], host);
        expect(call).to.include({state: 'running', stopCause: null, killed: false});
        dispatch(call, 'ended', {ending: exited({exitCode: 3})}, host);
        expect(call.outcome).to.equal('failed');
        expect(call.process?.signals ?? []).to.deep.equal([]);
      });
    }

    it('says of none that SIGKILL does not end it', () => {
      const call = callIn('running', host);
      abort(call, 1_000);
      clock.tick(1_000);
      call.process.hasEnded = true;
      clock.tick(hostUnkillableMs);
      expect(host.steps).to.not.include('unkillable');
      expect(call.process.signals).to.deep.equal(['terminate', 'kill']);
    });
  });

  describe('when a call is stopped', () => {
    it('is SIGKILL after what the master says, else the manifest, else the configuration', () => {
      const manifest = functionSpec({killAfterMs: 7_000});
      const plain = callIn('running', host);
      const withManifest = callIn('running', host, manifest);
      const withBoth = callIn('running', host, manifest);
      abort(plain, null);
      abort(withManifest, null);
      abort(withBoth, 2_000);
      expect([plain, withManifest, withBoth].map(({timerDue}) => timerDue)).to.deep.equal([hostKillAfterMs, 7_000, 2_000]);
    });

    it('is never SIGKILL where the grace is 0', () => {
      for (const call of [callIn('running', host, functionSpec({killAfterMs: 0})), callIn('running', host)]) {
        abort(call, call.spec?.killAfterMs ?? 0);
        expect(call.timer).to.equal(null);
      }
      clock.tick(dayMs);
      expect(clock.countTimers()).to.equal(0);
    });

    it('goes by the configuration for a function that is no longer known', () => {
      const call = running(1_000, null);
      clock.tick(1_000);
      expect(call.timerDue).to.equal(1_000 + hostKillAfterMs);
    });

    it('goes by the manifest at a shutdown, else by the grace of the shutdown', () => {
      const withManifest = callIn('running', host, functionSpec({killAfterMs: 7_000}));
      const plain = callIn('running', host);
      for (const call of [withManifest, plain]) dispatch(call, 'shutdown', {killAfterMs: 25_000}, host);
      expect([withManifest.timerDue, plain.timerDue]).to.deep.equal([7_000, 25_000]);
    });

    it('is hastened by a later reason, and never delayed by one', () => {
      const call = callIn('running', host);
      abort(call, 5_000);
      abort(call, 60_000);
      dispatch(call, 'shutdown', {killAfterMs: 60_000}, host);
      abort(call, 0);
      expect(call.timerDue).to.equal(5_000);
      abort(call, 1_000);
      expect(call.timerDue).to.equal(1_000);
      dispatch(call, 'shutdown', {killAfterMs: 500}, host);
      expect(call.timerDue).to.equal(500);
      expect(call.process.signals).to.deep.equal(['terminate']);
      expect(call.stopCause).to.equal('aborted');
    });

    it('is still SIGKILL after the deadline and its grace, if it was stopped without one before', () => {
      for (const stop of ['abort', 'shutdown'] as const) {
        const call = running(60_000);
        const begin = performance.now();
        if (stop === 'abort') abort(call, 0);
        else dispatch(call, 'shutdown', {killAfterMs: 0}, host);
        expect(killedAt(call, 100_000), stop).to.equal(begin + 60_000 + hostKillAfterMs);
      }
    });

    it('keeps a sooner SIGKILL than that of the deadline', () => {
      const call = running(60_000);
      abort(call, 2_000);
      expect(call.timerDue).to.equal(2_000);
    });

    it('is never SIGKILL where the manifest forbids it, deadline or not', () => {
      const call = running(60_000, functionSpec({killAfterMs: 0}));
      abort(call, null);
      expect(killedAt(call, 100_000)).to.equal(null);
      const late = running(60_000, functionSpec({killAfterMs: 0}));
      clock.tick(60_000);
      expect(late).to.include({state: 'stopping', timer: null});
    });
  });

  describe('after SIGKILL', () => {
    it('says again and again that it is unkillable, and kills again', () => {
      const call = callIn('running', host);
      abort(call, 1_000);
      clock.tick(1_000);
      expect(host.steps).to.not.include('unkillable');
      for (let times = 1; times <= 3; times += 1) {
        clock.tick(hostUnkillableMs);
        expect(host.steps.filter((step) => step === 'unkillable')).to.have.lengthOf(times);
      }
      expect(call.process.signals).to.deep.equal(['terminate', 'kill', 'kill', 'kill', 'kill']);
      expect(call.state).to.equal('stopping');
    });

    it('is not moved by a further abort or shutdown', () => {
      const call = callIn('stopping', host);
      dispatch(call, 'kill', {}, host);
      const {timerDue} = call;
      abort(call, 1);
      dispatch(call, 'shutdown', {killAfterMs: 1}, host);
      expect(call.timerDue).to.equal(timerDue);
    });
  });
});
