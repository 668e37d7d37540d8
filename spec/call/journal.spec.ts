import {expect} from 'chai';
import * as fc from 'fast-check';
import type {BootTime} from '../../lib/base/boot-clock';
import {limits} from '../../lib/base/limits';
import {outcomes, stopCauses} from '../../lib/base/outcome';
import type {Ending, Outcome} from '../../lib/base/outcome';
import type {Acceptance} from '../../lib/call/call-record';
import {acceptedLine, endedLine, endingOf, outcomeLine, recordOf, startedLine, stoppingLine} from '../../lib/call/journal';
import type {JournalRecord} from '../../lib/call/journal';
import {wallStartMs} from '../support/clock';
import {acceptance as makeAcceptance, newCall} from '../support/fake-host';
import {exited, lost, notStarted} from '../support/fake-spawner';

const key = '0123456789abcdef';
const atMs = wallStartMs;
const acceptance = (facts: Partial<Acceptance> = {}): Acceptance => makeAcceptance({acceptedAtMs: wallStartMs, ...facts});
const accepted = acceptedLine(acceptance(), false);
const started = startedLine({pid: 4188, startTime: 77, bootId: 'boot', atMs, boot: null});
const outcomeLineOf = (ending: Ending, outcome: Outcome): string => outcomeLine({...newCall(), ending, outcome})!;

function read(...lines: readonly string[]): JournalRecord {
  const record = recordOf(key, lines);
  if (record === null) throw new Error('the journal could not be read');
  return record;
}

describe('the journal of a call', () => {
  describe('its lines', () => {
    const arbitraryAcceptance = fc.record({
      key: fc.constant(key),
      ppid: fc.nat(),
      acceptedAtMs: fc.integer({min: 0, max: 4_102_444_800_000}),
      acceptedBoot: fc.option(fc.record({bootId: fc.uuid(), ms: fc.integer({min: 0, max: 4_102_444_800_000})})),
      fnName: fc.string({minLength: 1, maxLength: 64}),
      requestId: fc.option(fc.string({minLength: 8, maxLength: 128})),
      role: fc.string({minLength: 1, maxLength: 64}),
      fingerprint: fc.string({minLength: 64, maxLength: 64}),
      argsBytes: fc.nat(),
      abortAfterMs: fc.option(fc.nat()),
      reason: fc.option(fc.string({maxLength: limits.maxReasonChars})),
      spooled: fc.constant(true),
    });

    it('are one each, and are read back as they were written', () => {
      fc.assert(
        fc.property(arbitraryAcceptance, fc.boolean(), (made, leaveRunning) => {
          const line = acceptedLine(made, leaveRunning);
          expect(line).to.not.include('\n');
          expect(read(line)).to.deep.include({accepted: made, leaveRunning, started: null, stopCause: null, ended: null, outcome: null});
        }),
      );
    });

    it('fit into one append whatever the reason says; a reason that is too long for that is left out', () => {
      const short = acceptance({reason: 'r'.repeat(limits.maxReasonChars)});
      expect(read(acceptedLine(short, false)).accepted).to.deep.equal(short);
      const escaped = acceptance({reason: '\u0001'.repeat(limits.maxReasonChars), requestId: 'r'.repeat(128), role: '\u0001'.repeat(128)});
      const line = acceptedLine(escaped, false);
      expect(Buffer.byteLength(line)).to.be.at.most(limits.maxLineBytes);
      expect(read(line).accepted).to.deep.equal({...escaped, reason: null});
    });

    it('tell of a start', () => {
      expect(read(accepted, started).started).to.deep.equal({pid: 4188, startTime: 77, bootId: 'boot', atMs, boot: null});
    });

    for (const cause of stopCauses) {
      it(`tell of a stop: ${cause}`, () => {
        expect(read(accepted, stoppingLine(cause, 'master', atMs)).stopCause).to.equal(cause);
      });
    }

    it('tell of an exit, a signal, and a start that failed', () => {
      for (const ended of [
        {exitCode: 3, signal: null, atMs, boot: null},
        {exitCode: null, signal: 'SIGSEGV', atMs, boot: null},
        {errno: 'ENOENT', stage: 'exec', atMs, boot: null},
        {exitCode: 0, signal: null, noted: {stdout: '[1]', stderr: ''}, atMs, boot: null},
        {exitCode: 0, signal: null, stdoutLost: true, atMs, boot: null} as const,
      ]) {
        expect(read(accepted, endedLine(ended)).ended).to.deep.equal(ended);
      }
    });

    it('say with an errno how it ended, in whatever order: a start that failed in exec is an exit first', () => {
      const lines = [endedLine({exitCode: 127, signal: null, atMs, boot: null}), endedLine({errno: 'ENOEXEC', stage: 'exec', atMs, boot: null})];
      for (const inOrder of [lines, lines.toReversed()]) expect(read(accepted, started, ...inOrder).ended).to.deep.equal({errno: 'ENOEXEC', stage: 'exec', atMs, boot: null});
    });

    for (const outcome of outcomes) {
      it(`tell of the outcome ${outcome}`, () => {
        const line = outcomeLineOf(exited({exitCode: 3, output: 'invalid', outputReason: 'it is not JSON', stdoutBytes: 5, stderrBytes: 6}), outcome);
        expect(read(accepted, line).outcome).to.deep.equal({outcome, exitCode: 3, signal: null, output: 'invalid', outputReason: 'it is not JSON', stdoutBytes: 5, stderrBytes: 6, atMs: atMs + 1000, boot: null});
      });
    }

    it('tell of acceptance and end by the boot clock too, where that is known', () => {
      const boot = (ms: number): BootTime => ({bootId: 'boot', ms});
      const first = acceptedLine(acceptance({acceptedBoot: boot(5_250)}), false);
      const ending = exited({endedAtMs: atMs, endedBoot: boot(9_125)});
      for (const ended of [{exitCode: 0, signal: null, atMs, boot: boot(9_125)}, {errno: 'ENOENT', stage: 'exec', atMs, boot: boot(9_125)}]) {
        const record = read(first, endedLine(ended), outcomeLineOf(ending, 'ok'));
        expect(record.accepted.acceptedBoot).to.deep.equal(boot(5_250));
        expect(record.ended).to.deep.equal(ended);
        expect(record.outcome?.boot).to.deep.equal(boot(9_125));
        expect(endingOf(record).endedBoot).to.deep.equal(boot(9_125));
      }
      // The first line is of an earlier version.
      expect(read(accepted, endedLine({exitCode: 0, signal: null, atMs, boot: boot(9_125)})).ended?.boot).to.equal(null);
    });
  });

  describe('read back after a crash', () => {
    const whole = [accepted, started, stoppingLine('deadline', 'noded', atMs), endedLine({exitCode: 0, signal: null, atMs, boot: null}), outcomeLineOf(exited(), 'ok')];
    const factsOf = (record: JournalRecord | null): unknown[] => (record === null ? [] : [record.accepted, record.started, record.stopCause, record.ended, record.outcome]);

    it('tells what each of its lines tells, and nothing of those that are missing', () => {
      for (let missing = 1; missing < whole.length; missing += 1) {
        const facts = factsOf(recordOf(key, whole.toSpliced(missing, 1)));
        expect(facts.map((fact) => fact !== null)).to.deep.equal(whole.map((_line, number) => number !== missing));
      }
    });

    it('tells the same in whatever order its lines come, and however often: a log is compacted by copying them', () => {
      const record = recordOf(key, whole);
      fc.assert(fc.property(fc.shuffledSubarray([...whole, ...whole], {minLength: 2 * whole.length}), (lines) => void expect(recordOf(key, lines)).to.deep.equal(record)));
    });

    it('is nothing without a whole `accepted` line: then nothing was started', () => {
      const line = JSON.parse(accepted) as Record<string, unknown>;
      for (const text of ['', 'null', '"accepted"', '[1]', accepted.slice(0, -1), started]) expect(recordOf(key, [text]), text).to.equal(null);
      for (const name of ['fn_name', 'role', 'fingerprint']) expect(recordOf(key, [JSON.stringify({...line, [name]: 5})]), name).to.equal(null);
    });

    it('takes what is missing or wrong in a line for unknown, and never throws', () => {
      const event = (facts: object): string => JSON.stringify(facts);
      const record = read(
        event({event: 'accepted', fn_name: 'echo', role: 'master', fingerprint: 'f', ppid: '1', time: null, leave_running: 'yes', abort_after: 'x'}),
        event({event: 'started', pid: null, boot_id: 7}),
        event({event: 'stopping', cause: 'boredom'}),
        event({event: 'ended', exit_code: '0', signal: 9}),
        event({event: 'outcome', outcome: 'ok', exit_code: '0', signal: 9, output: 'pretty', stdout_bytes: 'many'}),
        event({event: 'hibernating'}),
      );
      expect(record).to.deep.equal({
        accepted: {key, ppid: 0, acceptedAtMs: 0, acceptedBoot: null, fnName: 'echo', requestId: null, role: 'master', fingerprint: 'f', argsBytes: 0, abortAfterMs: null, reason: null, spooled: true},
        leaveRunning: false,
        started: {pid: 0, startTime: 0, bootId: '', boot: null, atMs: 0},
        stopCause: null,
        ended: {exitCode: null, signal: null, atMs: 0, boot: null},
        outcome: {outcome: 'ok', exitCode: null, signal: null, output: 'empty', outputReason: null, stdoutBytes: 0, stderrBytes: 0, atMs: 0, boot: null},
      });
      expect(read(accepted, event({event: 'ended', errno: 'EIO'})).ended).to.deep.equal({errno: 'EIO', stage: '', atMs: 0, boot: null});
      expect(read(accepted, event({event: 'outcome', outcome: 'perhaps'})).outcome).to.equal(null);
    });

    it('never throws, whatever is in it', () => {
      fc.assert(fc.property(fc.string(), (text) => recordOf(key, [text]) === null));
      fc.assert(fc.property(fc.json(), (text) => recordOf(key, [accepted, text])?.accepted.key === key));
    });
  });

  describe('gives the ending back', () => {
    it('of an exit, with what stdout was', () => {
      const ending = exited({endedAtMs: atMs});
      expect(endingOf(read(accepted, endedLine({exitCode: 0, signal: null, atMs, boot: null}), outcomeLineOf(ending, 'ok')))).to.deep.equal(ending);
    });

    it('with the reason why stdout is no JSON', () => {
      const ending = exited({output: 'invalid', outputReason: 'it is torn', endedAtMs: atMs});
      expect(endingOf(read(accepted, endedLine({exitCode: 0, signal: null, atMs, boot: null}), outcomeLineOf(ending, 'invalid_output')))).to.deep.equal(ending);
    });

    it('of an exit whose output stands in the journal, where it says more than that', () => {
      const ending = exited({inJournal: true, endedAtMs: atMs});
      const ended = endedLine({exitCode: 0, signal: null, noted: {stdout: '[]', stderr: ''}, atMs, boot: null});
      const outcome = outcomeLine({...newCall(), ending, outcome: 'ok', stopCause: 'aborted'});
      expect(endingOf(read(accepted, stoppingLine('aborted', 'master', atMs), ended, outcome!))).to.deep.equal(ending);
    });

    it('of a start that failed', () => {
      const ending = {...notStarted, endedAtMs: atMs};
      expect(endingOf(read(accepted, endedLine({errno: 'ENOMEM', stage: 'spawn', atMs, boot: null}), outcomeLineOf(ending, 'start_failed')))).to.deep.equal(ending);
    });

    it('of an exit or a signal whose own line is missing, because the disk was full', () => {
      for (const ending of [exited({exitCode: 3, endedAtMs: atMs}), exited({exitCode: null, signal: 'SIGSEGV', output: 'empty', endedAtMs: atMs})]) {
        expect(endingOf(read(accepted, outcomeLineOf(ending, 'failed')))).to.deep.equal(ending);
      }
    });

    it('of a start that failed whose own line is missing: why, nobody knows any more', () => {
      expect(endingOf(read(accepted, outcomeLineOf(notStarted, 'start_failed')))).to.deep.include({kind: 'lost'});
    });

    it('of a call that nobody saw the end of', () => {
      expect(endingOf(read(accepted, outcomeLineOf(lost, 'lost')))).to.deep.equal(lost);
    });

    it('only where the journal has an outcome', () => {
      expect(() => endingOf(read(accepted))).to.throw('no outcome');
    });
  });
});
