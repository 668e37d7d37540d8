import {expect} from 'chai';
import {momentNow} from '../../lib/base/boot-clock';
import type {Ending, Outcome} from '../../lib/base/outcome';
import {callIdOf} from '../../lib/call/call-record';
import {acceptedLine, endedLine, endingOf, startedLine, stoppingLine} from '../../lib/call/journal';
import type {JournalRecord} from '../../lib/call/journal';
import {setFakeClock, turn, wallStartMs} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {acceptance} from '../support/fake-host';
import {exited, lost} from '../support/fake-spawner';
import {tombstoneOf} from '../support/tombstones';
import {FakeTable, codeOf} from '../support/fake-table';
import {journalOf} from '../support/journals';

const key = '0123456789abcdef';
const fingerprint = 'f'.repeat(64);

describe('a call that an earlier noded left', () => {
  let clock: FakeClock;
  let fake: FakeTable;

  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable({keepResultMs: 3_600_000});
  });
  afterEach(() => clock.restore());

  function journal(...lines: readonly string[]): JournalRecord {
    const whole = [acceptedLine(acceptance({requestId: 'request-1'}), false), ...lines];
    fake.files.journals.set(key, whole);
    return journalOf(key, whole)!;
  }

  it('answers after a restart exactly as before', () => {
    const before = new FakeTable();
    const call = before.start({requestId: 'request-1'});
    clock.tick(5_000);
    before.run(call, 4188);
    const ended = exited({exitCode: 3, stderrBytes: 9, endedAtMs: Date.now()});
    const {key: its} = call.accepted;
    const started = startedLine({pid: 4188, startTime: 1, bootId: 'b', atMs: Date.now(), boot: null});
    for (const line of [started, endedLine({exitCode: 3, signal: null, atMs: Date.now(), boot: null})]) before.files.append(its, line);
    before.end(call, ended);

    clock.tick(60_000);
    const record = journalOf(its, before.files.journals.get(its)!)!;
    const restored = fake.table.restore(record, endingOf(record));
    expect(callIdOf(restored)).to.equal(callIdOf(call));
    for (const name of ['accepted', 'pid', 'started', 'stopCause', 'ending', 'outcome', 'state', 'acceptedAt', 'endedAt', 'expiresAt'] as const) {
      expect(restored[name], name).to.deep.equal(call[name]);
    }
    expect(fake.table.index.find(callIdOf(call))).to.equal(restored);
    expect(fake.table.counts).to.include({ended: 1, starting: 0});
    expect(fake.table.spoolBytes).to.equal(11);
    expect(fake.files.steps, 'the outcome is on file already').to.deep.equal([]);
  });

  it('still holds its request ID', () => {
    const call = fake.table.restore(journal(), lost);
    expect(fake.table.duplicateOf('master', 'request-1', 'echo', fingerprint)).to.equal(call);
    expect(codeOf(() => fake.table.duplicateOf('master', 'request-1', 'version', fingerprint))).to.equal('request_id_reused');
  });

  const endings: readonly (readonly [what: string, lines: readonly string[], ending: Ending, outcome: Outcome])[] = [
    ['nobody saw the end of', [], lost, 'lost'],
    ['exited 0 with a value', [endedLine({exitCode: 0, signal: null, atMs: wallStartMs, boot: null})], exited(), 'ok'],
    ['was being stopped and died of it', [stoppingLine('deadline', 'noded', wallStartMs)], exited({exitCode: null, signal: 'SIGTERM', output: 'empty'}), 'deadline'],
  ];
  for (const [what, lines, ending, outcome] of endings) {
    it(`that ${what} is ${outcome}, which is written to its journal`, () => {
      const call = fake.table.restore(journal(...lines), ending);
      expect(call).to.include({state: 'ended', outcome});
      expect(journalOf(key, fake.files.journals.get(key)!)?.outcome?.outcome).to.equal(outcome);
    });
  }

  it('is known by the ID that its master has, even where the start was never on file', () => {
    const call = fake.table.restore(journal(), lost);
    expect(callIdOf(call)).to.match(/^4121:0:/);
    const known = callIdOf(call).replace(':0:', ':4188:');
    expect(fake.table.index.find(known)).to.equal(call);
    fake.table.forget(call);
    expect(codeOf(() => fake.table.index.find(known))).to.equal('call_lost');
  });

  it('is kept for what is left of keep_result', async () => {
    const record = journal();
    clock.tick(3_000_000);
    const call = fake.table.restore(record, exited({endedAtMs: wallStartMs}));
    clock.tick(599_999);
    await turn();
    expect(call.state).to.equal('ended');
    clock.tick(1);
    await turn();
    expect(call.state).to.equal('gone');
  });

  for (const stepMs of [7_200_000, -7_200_000]) {
    it(`has what is left of keep_result, and took as long as it took, where the wall clock was set by ${stepMs / 1000} s`, () => {
      const {bootId, ms} = momentNow().boot!;
      const line = acceptedLine(acceptance({acceptedBoot: {bootId, ms: ms - 1_200_500}}), false);
      const call = fake.table.restore(journalOf(key, [line])!, exited({endedAtMs: Date.now() - stepMs, endedBoot: {bootId, ms: ms - 1_200_000}}));
      expect(call.endedAt! - call.acceptedAt).to.be.closeTo(500, 0.001);
      expect(call.expiresAt! - performance.now()).to.be.closeTo(2_400_000, 60_000);
    });
  }

  it('goes soon where nothing is left of keep_result, and leaves a tombstone', async () => {
    const record = journal();
    clock.tick(9_000_000);
    const call = fake.table.restore(record, exited({endedAtMs: wallStartMs}));
    clock.tick(1);
    await turn();
    expect(call.state).to.equal('gone');
    expect(fake.files.buried.map(tombstoneOf)[0]?.callId).to.equal(callIdOf(call));
  });

  it('is not kept for ever where the wall clock was set back', async () => {
    const call = fake.table.restore(journal(), exited({endedAtMs: wallStartMs + 1e9}));
    clock.tick(3_600_000);
    await turn();
    expect(call.state).to.equal('gone');
  });

  it('takes no slot, and its end is not counted twice', () => {
    fake = new FakeTable({maxCalls: 1});
    fake.table.restore(journal(), lost);
    expect(fake.table.activeCalls).to.deep.equal([]);
    expect(fake.observer.seen).to.deep.equal([]);
    expect(codeOf(() => fake.start())).to.equal(undefined);
  });

  it('counts against max_results like others', () => {
    fake = new FakeTable({maxResults: 1});
    const old = fake.table.restore(journal(), lost);
    fake.ended();
    expect(old.state).to.equal('gone');
  });

  it('stays as it is when it is aborted', () => {
    const call = fake.table.restore(journal(), lost);
    fake.table.abort(call, 'master', 0);
    expect(call).to.include({state: 'ended', outcome: 'lost', stopCause: null});
  });
});

describe('a tombstone that an earlier noded left', () => {
  it('still refuses the request ID and tells the outcome', () => {
    const fake = new FakeTable();
    const callId = `4121:4188:${(Date.now() / 1000).toFixed(3)}:${key}`;
    fake.table.index.addTombstone({key, callId, fnName: 'echo', role: 'master', requestId: 'request-1', outcome: 'failed', buriedAtMs: Date.now(), buriedBoot: null});
    expect(fake.table.counts.tombstones).to.equal(1);
    expect(codeOf(() => fake.table.duplicateOf('master', 'request-1', 'echo', fingerprint))).to.equal('call_expired');
    expect(() => fake.table.index.find(callId)).to.throw().with.nested.property('detail.outcome', 'failed');
  });
});
