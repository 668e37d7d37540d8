import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import {states} from '../../lib/call/call-record';
import {armDeadline, dispatch, eventNames} from '../../lib/call/call';
import type {Call, State} from '../../lib/call/call-record';
import type {EventName} from '../../lib/call/call';
import {setFakeClock, wallStartMs} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {FakeHost, acceptance, callIn, hostKeepResultMs, someEvent} from '../support/fake-host';
import type {FakeProcess} from '../support/fake-spawner';
import {exited, lost, notStarted} from '../support/fake-spawner';

/** Everything of a call that an event could change. */
function recordOf(call: Call): object {
  const {process, timer, ...rest} = call;
  return {...structuredClone(rest), process, timer};
}

/** Cells whose event cannot happen in that state. */
const bugCells: Readonly<Record<State, readonly EventName[]>> = {
  starting: ['evict'],
  running: ['started', 'refused', 'evict'],
  stopping: ['evict'],
  ended: ['started', 'ended', 'refused', 'timer'],
  gone: eventNames,
};
const refusingCells: Readonly<Partial<Record<State, Partial<Record<EventName, string>>>>> = {
  starting: {forget: 'still_running'},
  running: {forget: 'still_running'},
  stopping: {forget: 'still_running'},
};
const idleCells: Readonly<Partial<Record<State, readonly EventName[]>>> = {ended: ['abort', 'shutdown', 'kill']};

describe('the life of one call', () => {
  let clock: FakeClock;
  let host: FakeHost;

  beforeEach(() => {
    clock = setFakeClock();
    host = new FakeHost();
  });
  afterEach(() => clock.restore());

  /** A call in `state` after an event; the host's steps are those of the event alone. */
  function after<E extends EventName>(state: State, name: E, event: Parameters<typeof dispatch<E>>[2]): Call & {process: FakeProcess} {
    const call = callIn(state, host);
    const {process} = call;
    host.steps.length = 0;
    dispatch(call, name, event, host);
    return Object.assign(call, {process: call.process ?? process});
  }

  describe('starting', () => {
    it('× started: it runs, with its pid and the time', () => {
      const at = {atMs: wallStartMs + 7, boot: null};
      const call = after('starting', 'started', {pid: 4188, at});
      expect(call).to.include({state: 'running', pid: 4188, started: at, timer: null});
      expect(host.steps).to.deep.equal(['starting → running']);
    });

    it('× ended: it has ended without having run, and the result is kept', () => {
      const call = after('starting', 'ended', {ending: notStarted});
      expect(call).to.include({state: 'ended', outcome: 'start_failed', ending: notStarted, pid: null, started: null, expiresAt: hostKeepResultMs});
      expect(host.steps).to.deep.equal(['outcome start_failed', `kept until ${hostKeepResultMs}`, 'starting → ended']);
    });

    it('× refused: it is gone, has no outcome, and its deadline is forgotten', () => {
      const call = callIn('starting', host);
      Object.assign(call, {accepted: acceptance({abortAfterMs: 1000})});
      armDeadline(call, host);
      dispatch(call, 'refused', someEvent.refused, host);
      expect(call).to.include({state: 'gone', outcome: null, ending: null, process: null, timer: null, refusal: someEvent.refused.refusal});
      expect(host.steps).to.deep.equal(['starting → gone']);
      expect(clock.countTimers()).to.equal(0);
    });

    it('× timer: its deadline has passed, and SIGTERM is sent', () => {
      const call = after('starting', 'timer', {});
      expect(call).to.include({state: 'stopping', stopCause: 'deadline'});
      expect(call.process.signals).to.deep.equal(['terminate']);
      expect(host.steps).to.deep.equal(['stopping deadline by noded', 'starting → stopping']);
    });

    it('× abort: the cause is on file before the signal is sent', () => {
      const call = callIn('starting', host);
      call.process.signal.callsFake(() => host.steps.push('signal'));
      dispatch(call, 'abort', {by: 'master', killAfterMs: null}, host);
      expect(call).to.include({state: 'stopping', stopCause: 'aborted'});
      expect(host.steps).to.deep.equal(['stopping aborted by master', 'signal', 'starting → stopping']);
    });

    it('× shutdown: SIGTERM is sent because noded ends', () => {
      const call = after('starting', 'shutdown', {killAfterMs: 0});
      expect(call).to.include({state: 'stopping', stopCause: 'shutdown', timer: null});
      expect(call.process.signals).to.deep.equal(['terminate']);
    });

    it('× kill: SIGTERM and at once SIGKILL are sent', () => {
      const call = after('starting', 'kill', {});
      expect(call).to.include({state: 'stopping', stopCause: 'shutdown', killed: true});
      expect(call.process.signals).to.deep.equal(['terminate', 'kill']);
      expect(host.steps).to.deep.equal(['stopping shutdown by noded', 'starting → stopping']);
    });
  });

  describe('running', () => {
    it('× ended: it has ended, and the result is kept', () => {
      clock.tick(50);
      const call = after('running', 'ended', {ending: exited()});
      expect(call).to.include({state: 'ended', outcome: 'ok', endedAt: 50, expiresAt: 50 + hostKeepResultMs, timer: null, timerDue: null});
      expect(host.steps).to.deep.equal(['outcome ok', `kept until ${50 + hostKeepResultMs}`, 'running → ended']);
    });

    it('× ended: nothing is left that could be signalled', () => {
      const call = callIn('running', host);
      dispatch(call, 'ended', {ending: lost}, host);
      expect(call).to.include({process: null, outcome: 'lost'});
    });

    it('× timer: its deadline has passed, and SIGTERM is sent', () => {
      const call = after('running', 'timer', {});
      expect(call).to.include({state: 'stopping', stopCause: 'deadline'});
      expect(call.process.signals).to.deep.equal(['terminate']);
    });

    it('× abort: SIGTERM is sent, and who wanted it is on file', () => {
      const call = after('running', 'abort', {by: 'operator', killAfterMs: null});
      expect(call).to.include({state: 'stopping', stopCause: 'aborted', pid: 4188});
      expect(call.process.signals).to.deep.equal(['terminate']);
      expect(host.steps).to.deep.equal(['stopping aborted by operator', 'running → stopping']);
    });

    it('× shutdown: SIGTERM is sent because noded ends', () => {
      const call = after('running', 'shutdown', {killAfterMs: 20_000});
      expect(call).to.include({state: 'stopping', stopCause: 'shutdown', timerDue: 20_000});
      expect(call.process.signals).to.deep.equal(['terminate']);
    });

    it('× kill: SIGTERM and at once SIGKILL are sent', () => {
      const call = after('running', 'kill', {});
      expect(call).to.include({state: 'stopping', stopCause: 'shutdown', killed: true});
      expect(call.process.signals).to.deep.equal(['terminate', 'kill']);
    });
  });

  describe('stopping', () => {
    it('× started: it has its pid, and is still being stopped', () => {
      const call = callIn('starting', host);
      dispatch(call, 'abort', {by: 'master', killAfterMs: 0}, host);
      host.steps.length = 0;
      const at = {atMs: wallStartMs + 7, boot: null};
      dispatch(call, 'started', {pid: 77, at}, host);
      expect(call).to.include({state: 'stopping', pid: 77, started: at});
      expect(host.steps).to.deep.equal([]);
    });

    it('× ended: the cause of the stop is the outcome', () => {
      const call = after('stopping', 'ended', {ending: exited({exitCode: null, signal: 'SIGTERM', output: 'empty', stdoutBytes: 0})});
      expect(call).to.include({state: 'ended', outcome: 'aborted', stopCause: 'aborted'});
      expect(host.steps).to.deep.equal(['outcome aborted', `kept until ${hostKeepResultMs}`, 'stopping → ended']);
    });

    it('× ended: facts beat intentions, and exit 0 with a value is ok', () => {
      expect(after('stopping', 'ended', {ending: exited()}).outcome).to.equal('ok');
    });

    it('× timer: its grace is over, and SIGKILL is sent', () => {
      const call = after('stopping', 'timer', {});
      expect(call).to.include({state: 'stopping', killed: true});
      expect(call.process.signals).to.deep.equal(['terminate', 'kill']);
      expect(host.steps).to.deep.equal([]);
    });

    it('× abort: no second signal is sent, and the first reason stays', () => {
      const call = callIn('running', host);
      dispatch(call, 'shutdown', {killAfterMs: 0}, host);
      dispatch(call, 'abort', {by: 'master', killAfterMs: 3_000}, host);
      expect(call).to.include({state: 'stopping', stopCause: 'shutdown', timerDue: 3_000});
      expect(call.process.signals).to.deep.equal(['terminate']);
    });

    it('× shutdown: no second signal is sent, and the first reason stays', () => {
      const call = after('stopping', 'shutdown', {killAfterMs: 4_000});
      expect(call).to.include({state: 'stopping', stopCause: 'aborted', timerDue: 4_000});
      expect(call.process.signals).to.deep.equal(['terminate']);
      expect(host.steps).to.deep.equal([]);
    });

    it('× kill: SIGKILL is sent at once, and again at each such event', () => {
      const call = after('stopping', 'kill', {});
      dispatch(call, 'kill', {}, host);
      expect(call.process.signals).to.deep.equal(['terminate', 'kill', 'kill']);
      expect(host.steps, 'not unkillable: no time has passed').to.deep.equal([]);
    });
  });

  describe('ended', () => {
    for (const name of ['forget', 'evict'] as const) {
      it(`× ${name}: it is gone, and has no timer`, () => {
        const call = after('ended', name, {});
        expect(call).to.include({state: 'gone', timer: null, timerDue: null, outcome: 'ok'});
        expect(host.steps).to.deep.equal(['ended → gone']);
        expect(clock.countTimers()).to.equal(0);
      });
    }
  });

  describe('every state × event', () => {
    for (const state of states) {
      for (const name of eventNames) {
        const refusal = refusingCells[state]?.[name];
        const isBug = bugCells[state].includes(name);
        const isIdle = idleCells[state]?.includes(name) ?? false;
        const what = refusal ?? (isBug ? 'reported, and nothing changes' : isIdle ? 'nothing changes' : 'something changes, and no bug is reported');
        it(`${state} × ${name}: ${what}`, () => {
          const call = callIn(state, host);
          host.steps.length = 0;
          const before = recordOf(call);
          const timersBefore = clock.countTimers();
          const signalsBefore = call.process?.signals.length;
          const send = (): void => dispatch(call, name, someEvent[name] as never, host);
          if (refusal === undefined) send();
          else expect(send).to.throw(NodedError).with.property('code', refusal);
          if (refusal === undefined && !isBug && !isIdle) {
            expect(host.steps).to.not.include(`bug ${name}`);
            expect(recordOf(call)).to.not.deep.equal(before);
            return;
          }
          expect(recordOf(call)).to.deep.equal(before);
          expect(call.process?.signals.length).to.equal(signalsBefore);
          expect(clock.countTimers()).to.equal(timersBefore);
          expect(host.steps).to.deep.equal(isBug ? [`bug ${name}`] : []);
        });
      }
    }

    it('a refused forget names the call', () => {
      const call = callIn('running', host);
      expect(() => dispatch(call, 'forget', {}, host))
        .to.throw(NodedError)
        .with.nested.property('detail.callId', `4121:4188:${(wallStartMs / 1000).toFixed(3)}:0123456789abcdef`);
    });
  });
});
