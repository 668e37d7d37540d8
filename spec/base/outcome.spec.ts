import {expect} from 'chai';
import {hasResult, isOutcome, outcomeOf, outcomes, outputKinds, stopCauses, visibleStates} from '../../lib/base/outcome';
import type {Ending, Outcome, OutputKind, StopCause} from '../../lib/base/outcome';

type Row = readonly [exit: number | string, outputs: readonly OutputKind[], unstopped: Outcome, stopped: Outcome | 'the cause'];

/** Every exit × every stdout: what it is, and what it is if noded had a cause to stop the call. */
const rows: readonly Row[] = [
  [0, ['json'], 'ok', 'ok'],
  [0, ['empty'], 'ok', 'the cause'],
  [0, ['invalid'], 'invalid_output', 'the cause'],
  [0, ['too_large'], 'output_too_large', 'the cause'],
  [1, ['json', 'empty', 'invalid'], 'failed', 'the cause'],
  [1, ['too_large'], 'output_too_large', 'the cause'],
  [255, ['json', 'empty', 'invalid'], 'failed', 'the cause'],
  [255, ['too_large'], 'output_too_large', 'the cause'],
  ['SIGTERM', ['json', 'empty', 'invalid'], 'signaled', 'the cause'],
  ['SIGTERM', ['too_large'], 'output_too_large', 'the cause'],
  ['SIGXFSZ', ['json', 'empty', 'invalid'], 'signaled', 'the cause'],
  ['SIGXFSZ', ['too_large'], 'output_too_large', 'the cause'],
];
const causes: readonly (StopCause | null)[] = [null, ...stopCauses];

function exited(exit: number | string, output: OutputKind): Ending {
  return {kind: 'exited', exitCode: typeof exit === 'number' ? exit : null, signal: typeof exit === 'string' ? exit : null, output, stdoutBytes: 0, stderrBytes: 0, endedAtMs: 0, endedBoot: null};
}

describe('the outcome of a call', () => {
  for (const [exit, outputs, unstopped, stopped] of rows) {
    for (const output of outputs) {
      for (const cause of causes) {
        const outcome = cause === null ? unstopped : stopped === 'the cause' ? cause : stopped;
        it(`is ${outcome} for ${exit} with stdout ${output}, ${cause === null ? 'not stopped' : `stopped by ${cause}`}`, () => {
          expect(outcomeOf(exited(exit, output), cause)).to.equal(outcome);
        });
      }
    }
  }

  it('has a row for every stdout of every exit', () => {
    for (const exit of new Set(rows.map(([which]) => which))) {
      const covered = rows.filter(([which]) => which === exit).flatMap(([, kinds]) => kinds);
      expect(covered, String(exit)).to.have.members([...outputKinds]);
    }
  });

  for (const cause of causes) {
    it(`is ${cause ?? 'start_failed'} for a process that could not be started, ${cause === null ? 'not stopped' : `stopped by ${cause}`}`, () => {
      expect(outcomeOf({kind: 'not_started', errno: 'ENOENT', stage: 'spawn', endedAtMs: 0, endedBoot: null}, cause)).to.equal(cause ?? 'start_failed');
    });

    it(`is lost for one that nobody saw the end of, ${cause === null ? 'not stopped' : `stopped by ${cause}`}`, () => {
      expect(outcomeOf({kind: 'lost', reason: 'gone', endedAtMs: 0, endedBoot: null, stdoutBytes: 0, stderrBytes: 0}, cause)).to.equal('lost');
    });
  }

  it('comes with stdout as the result only for ok and failed, and only if stdout is JSON', () => {
    for (const outcome of outcomes) {
      for (const output of outputKinds) {
        const expected = (outcome === 'ok' || outcome === 'failed') && output === 'json';
        expect(hasResult(outcome, exited(0, output)), `${outcome}, ${output}`).to.equal(expected);
      }
      expect(hasResult(outcome, {kind: 'lost', reason: '', endedAtMs: 0, endedBoot: null, stdoutBytes: 0, stderrBytes: 0}), outcome).to.equal(false);
      expect(hasResult(outcome, {kind: 'not_started', errno: '', stage: '', endedAtMs: 0, endedBoot: null}), outcome).to.equal(false);
    }
  });

  it('is one of a closed list', () => {
    expect(outcomes).to.have.lengthOf(10);
    expect(new Set(outcomes).size).to.equal(10);
    for (const outcome of outcomes) expect(isOutcome(outcome)).to.equal(true);
    for (const other of ['', 'OK', 'Ok', 'unknown', null, undefined, 0, ['ok']]) expect(isOutcome(other), String(other)).to.equal(false);
    expect(outcomes).to.include.members([...stopCauses]);
  });

  it('goes with the states that masters see, and `gone` is none', () => {
    expect(visibleStates).to.deep.equal(['starting', 'running', 'stopping', 'ended']);
  });
});
