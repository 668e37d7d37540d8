import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {momentNow} from '../../lib/base/boot-clock';
import type {Ending, Outcome} from '../../lib/base/outcome';
import {callIdOf} from '../../lib/call/call-record';
import {acceptedLine, endedLine, endingOf, recordOf, startedLine, stoppingLine} from '../../lib/call/journal';
import type {JournalRecord} from '../../lib/call/journal';
import {setFakeClock, turn, wallStartMs} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {acceptance} from '../support/fake-host';
import {exited, lost} from '../support/fake-spawner';
import {tombstoneOf} from '../support/tombstones';
import {FakeTable, codeOf} from '../support/fake-table';

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
    return recordOf(key, whole)!;
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
    const record = recordOf(its, before.files.journals.get(its)!)!;
    const restored = fake.table.restore(record, endingOf(record), 1);
    expect(callIdOf(restored)).to.equal(callIdOf(call));
    for (const name of ['accepted', 'pid', 'started', 'stopCause', 'ending', 'outcome', 'state', 'acceptedAt', 'endedAt', 'expiresAt'] as const) {
      expect(restored[name], name).to.deep.equal(call[name]);
    }
    expect(fake.table.index.find(callIdOf(call))).to.equal(restored);
    expect(fake.table.counts).to.include({ended: 1, starting: 0});
    expect(fake.table.spoolBytes).to.equal(2 * limits.blockBytes);
    expect(fake.files.steps, 'the outcome is on file already').to.deep.equal([]);
  });

  it('still holds its request ID', () => {
    const call = fake.table.restore(journal(), lost, 1);
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
      const call = fake.table.restore(journal(...lines), ending, 1);
      expect(call).to.include({state: 'ended', outcome});
      expect(recordOf(key, fake.files.journals.get(key)!)?.outcome?.outcome).to.equal(outcome);
    });
  }

  it('is known by the ID that its master has, even where the start was never on file', () => {
    const call = fake.table.restore(journal(), lost, 1);
    expect(callIdOf(call)).to.match(/^4121:0:/);
    const known = callIdOf(call).replace(':0:', ':4188:');
    expect(fake.table.index.find(known)).to.equal(call);
    fake.table.forget(call);
    expect(codeOf(() => fake.table.index.find(known))).to.equal('call_lost');
  });

  it('is kept for what is left of keep_result', async () => {
    const record = journal();
    clock.tick(3_000_000);
    const call = fake.table.restore(record, exited({endedAtMs: wallStartMs}), 1);
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
      const call = fake.table.restore(recordOf(key, [line])!, exited({endedAtMs: Date.now() - stepMs, endedBoot: {bootId, ms: ms - 1_200_000}}), 1);
      expect(call.endedAt! - call.acceptedAt).to.be.closeTo(500, 0.001);
      expect(call.expiresAt! - performance.now()).to.be.closeTo(2_400_000, 60_000);
    });
  }

  it('goes soon where nothing is left of keep_result, and leaves a tombstone', async () => {
    const record = journal();
    clock.tick(9_000_000);
    const call = fake.table.restore(record, exited({endedAtMs: wallStartMs}), 1);
    clock.tick(1);
    await turn();
    expect(call.state).to.equal('gone');
    expect(fake.files.buried.map(tombstoneOf)[0]?.callId).to.equal(callIdOf(call));
  });

  it('is not kept for ever where the wall clock was set back', async () => {
    const call = fake.table.restore(journal(), exited({endedAtMs: wallStartMs + 1e9}), 1);
    clock.tick(3_600_000);
    await turn();
    expect(call.state).to.equal('gone');
  });

  it('takes no slot, and its end is not counted twice', () => {
    fake = new FakeTable({maxCalls: 1});
    fake.table.restore(journal(), lost, 1);
    expect(fake.table.activeCalls).to.deep.equal([]);
    expect(fake.observer.seen).to.deep.equal([]);
    expect(codeOf(() => fake.start())).to.equal(undefined);
  });

  it('counts against max_results like others', () => {
    fake = new FakeTable({maxResults: 1});
    const old = fake.table.restore(journal(), lost, 1);
    fake.ended();
    expect(old.state).to.equal('gone');
  });

  it('stays as it is when it is aborted', () => {
    const call = fake.table.restore(journal(), lost, 1);
    fake.table.abort(call, 'master', 0);
    expect(call).to.include({state: 'ended', outcome: 'lost', stopCause: null});
  });
});

describe('a tombstone that an earlier noded left', () => {
  it('still refuses the request ID and tells the outcome', () => {
    const fake = new FakeTable();
    const callId = `4121:4188:${(Date.now() / 1000).toFixed(3)}:${key}`;
    fake.table.index.restoreTombstone({key, callId, fnName: 'echo', role: 'master', requestId: 'request-1', outcome: 'failed', buriedAtMs: Date.now(), buriedBoot: null});
    expect(fake.table.counts.tombstones).to.equal(1);
    expect(codeOf(() => fake.table.duplicateOf('master', 'request-1', 'echo', fingerprint))).to.equal('call_expired');
    expect(() => fake.table.index.find(callId)).to.throw().with.nested.property('detail.outcome', 'failed');
  });
});

describe('calls that an earlier noded left, while they are read', () => {
  const count = 5;
  const keyOf = (number: number): string => number.toString(16).padStart(16, '0');
  let clock: FakeClock;
  let fake: FakeTable;
  let finish: () => void;
  let reading: Promise<void>;
  /** Which are still to be read: calls with odd numbers, tombstones with even ones. */
  let left: Set<number>;

  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable({maxResults: 4, keepResultMs: 3_600_000});
    left = new Set(Array.from({length: 2 * count}, (_none, number) => number));
    const is = (kind: number) => (number: number) => number % 2 === kind;
    const read = (number: number): void => {
      if (!left.delete(number)) return;
      const key = keyOf(number);
      const accepted = acceptance({key, requestId: `request-${number}`});
      if (is(1)(number)) fake.table.restore(recordOf(key, [acceptedLine(accepted, false)])!, exited(), number + 1);
      else fake.table.index.restoreTombstone({key, callId: `4121:0:${(accepted.acceptedAtMs / 1000).toFixed(3)}:${key}`, fnName: 'echo', role: 'master', requestId: `request-${number}`, outcome: 'failed', buriedAtMs: Date.now() - 1_000 + number, buriedBoot: null});
    };
    const done = new Promise<void>((resolve) => {
      finish = () => {
        for (const number of left) read(number);
        resolve();
      };
    });
    reading = fake.table.takeIn({
      last: 2 * count,
      get calls() {
        return [...left].filter(is(1)).length;
      },
      get tombstones() {
        return [...left].filter(is(0)).length;
      },
      read: (key) => read(Number.parseInt(key, 16)),
      pass: done,
      readRequest: (_role, requestId) => read(Number(requestId.split('-')[1])),
      done,
    });
  });
  afterEach(() => clock.restore());

  it('are counted', () => {
    expect(fake.table.counts).to.include({ended: count, tombstones: count});
    fake.table.index.findByRequest('master', 'request-3');
    expect(fake.table.counts).to.include({ended: count, tombstones: count});
  });

  it('are found by either ID, and their request IDs hold; so are tombstones', () => {
    const call = fake.table.duplicateOf('master', 'request-7', 'echo', fingerprint);
    expect(call?.accepted.key).to.equal(keyOf(7));
    expect(fake.table.index.find(callIdOf(call!))).to.equal(call);
    expect(codeOf(() => fake.table.index.find(callIdOf(call!).replace(keyOf(7), keyOf(8))))).to.equal('call_expired');
    expect(codeOf(() => fake.table.index.findByRequest('master', 'request-0'))).to.equal('call_expired');
    expect(fake.table.index.findByRequest('master', 'request-99')).to.equal(null);
  });

  it('come first in every list, which waits for them; a list of those that run does not', async () => {
    const all = {state: null, fnName: null, role: null, visible: () => true};
    fake.table.index.findByRequest('master', 'request-9');
    const running = fake.start();
    expect(await fake.table.index.list({...all, state: 'starting'}, 0, 100)).to.deep.equal([running]);
    let listed = false;
    const listing = fake.table.index.list(all, 0, 100).finally(() => (listed = true));
    await turn();
    expect(listed).to.equal(false);
    finish();
    expect((await listing).map(({sequence}) => sequence)).to.deep.equal([2, 4, 6, 8, 10, 11]);
  });

  it('go first where there are too many, once all are known', async () => {
    const young = [fake.ended(), fake.ended()];
    fake.table.markDelivered(young[1]!);
    const goes = fake.ended();
    fake.table.forget(goes);
    expect(young.map(({state}) => state)).to.deep.equal(['ended', 'ended']);
    finish();
    await reading;
    expect(fake.table.counts).to.include({ended: 4});
    expect(young.map(({state}) => state), 'the delivered one goes first').to.deep.equal(['ended', 'gone']);
    expect(fake.table.index.findByRequest('master', 'request-9')?.state).to.equal('ended');
    expect(codeOf(() => fake.table.index.findByRequest('master', 'request-1'))).to.equal('call_expired');
  });

  it('leave tombstones that are older than those of calls that went meanwhile', async () => {
    fake.table.forget(fake.ended({requestId: 'request-young'}));
    finish();
    await reading;
    clock.tick(86_400_000 - 500);
    expect(codeOf(() => fake.table.index.findByRequest('master', 'request-young'))).to.equal('call_expired');
    expect(fake.table.index.findByRequest('master', 'request-0')).to.equal(null);
  });
});
