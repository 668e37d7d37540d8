import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {callIdOf} from '../../lib/call/call-record';
import type {Call} from '../../lib/call/call-record';
import {acceptedLine, recordOf} from '../../lib/call/journal';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {acceptance} from '../support/fake-host';
import {exited, lost, notStarted} from '../support/fake-spawner';
import {FakeTable, codeOf} from '../support/fake-table';
import {tombstoneOf} from '../support/tombstones';

const hourMs = 3_600_000;
const bytes = (stdoutBytes: number, stderrBytes = 0): ReturnType<typeof exited> => exited({stdoutBytes, stderrBytes});

describe('the retention of ended calls', () => {
  let clock: FakeClock;
  beforeEach(() => {
    clock = setFakeClock();
  });
  afterEach(() => clock.restore());

  /** The numbers, in order of acceptance, of those that are still there. */
  const kept = (calls: readonly Call[]): number[] => calls.flatMap(({state}, number) => (state === 'ended' ? [number] : []));

  describe('and their files', () => {
    it('knows those of a lost call like those of another: what it wrote until then is on file', () => {
      const fake = new FakeTable();
      const call = fake.ended({}, lost);
      fake.table.forget(call);
      expect(fake.files.removed.get(call.accepted.key)).to.include({stdoutBytes: 10, stderrBytes: 6});
    });

    it('leaves nothing of output whose size the system could not tell of, nor of a call of an earlier noded', () => {
      const fake = new FakeTable();
      const unsized = fake.ended({}, exited({output: 'invalid', stdoutBytes: 0, stderrBytes: 0, unsized: true}));
      const sized = fake.ended({}, notStarted);
      const [old] = ['0123456789abcdef'];
      const record = recordOf(old, [acceptedLine(acceptance({key: old}), false)])!;
      for (const call of [unsized, sized, fake.table.restore(record, exited({stdoutBytes: 0}), 1)]) fake.table.forget(call);
      expect(fake.files.removed.get(unsized.accepted.key)).to.equal(null);
      expect(fake.files.removed.get(sized.accepted.key)).to.deep.equal({stdoutBytes: 0, stderrBytes: 0});
      expect(fake.files.removed.get(old)).to.equal(null);
    });
  });

  describe('by time', () => {
    it('keeps a result for keep_result after its end, and not longer', async () => {
      const fake = new FakeTable({keepResultMs: hourMs});
      const call = fake.ended();
      clock.tick(hourMs - 1);
      await turn();
      expect(call.state).to.equal('ended');
      clock.tick(1);
      await turn();
      expect(call.state).to.equal('gone');
      expect(clock.countTimers()).to.equal(0);
    });

    it('keeps it for at least five minutes after its first delivery', async () => {
      const fake = new FakeTable({keepResultMs: hourMs});
      const call = fake.ended();
      clock.tick(hourMs - 1_000);
      fake.table.markDelivered(call);
      clock.tick(limits.keepDeliveredMs - 1);
      await turn();
      expect(call.state).to.equal('ended');
      clock.tick(1);
      await turn();
      expect(call.state).to.equal('gone');
    });

    it('counts from the first delivery: a result that is read again is not younger', async () => {
      const fake = new FakeTable({keepResultMs: 1_000});
      const call = fake.ended();
      fake.table.markDelivered(call);
      clock.tick(limits.keepDeliveredMs - 1);
      fake.table.markDelivered(call);
      clock.tick(1);
      await turn();
      expect(call.state).to.equal('gone');
    });

    it('never lets a delivery shorten keep_result', async () => {
      const fake = new FakeTable({keepResultMs: hourMs});
      const call = fake.ended();
      fake.table.markDelivered(call);
      clock.tick(hourMs - 1);
      await turn();
      expect(call.state).to.equal('ended');
    });

    it('does not take an answer of a running call for a delivery of its result', () => {
      const fake = new FakeTable();
      const call = fake.start();
      fake.table.markDelivered(call);
      fake.table.forget(fake.ended());
      expect(call.deliveredAt).to.equal(null);
    });

    it('does not mind a delivery of what is gone', () => {
      const fake = new FakeTable();
      const call = fake.ended();
      fake.table.forget(call);
      fake.table.markDelivered(call);
      expect(call.deliveredAt).to.equal(null);
      expect(clock.countTimers()).to.equal(0);
    });

    it('removes a crowd that expires at one time in slices', async () => {
      const fake = new FakeTable({keepResultMs: 1_000});
      const calls = Array.from({length: 500}, () => fake.ended());
      clock.tick(1_000);
      expect(fake.table.counts.ended, 'nothing is removed by the timers themselves').to.equal(500);
      for (let left = 500, turns = 0; left > 0; turns += 1) {
        expect(turns).to.be.at.most(500 / limits.sliceSize + 1);
        await turn();
        expect(left - fake.table.counts.ended).to.be.within(1, limits.sliceSize);
        left = fake.table.counts.ended;
      }
      expect(kept(calls)).to.deep.equal([]);
      expect(fake.table.counts.tombstones).to.equal(500);
    });

    it('keeps one that is delivered between its expiry and its slice', async () => {
      const fake = new FakeTable({keepResultMs: 1_000});
      const call = fake.ended();
      clock.tick(1_000);
      fake.table.markDelivered(call);
      await turn();
      expect(call.state).to.equal('ended');
      clock.tick(limits.keepDeliveredMs);
      await turn();
      expect(call.state).to.equal('gone');
    });

    it('does not trip over one that is forgotten between its expiry and its slice', async () => {
      const fake = new FakeTable({keepResultMs: 1_000});
      const call = fake.ended();
      clock.tick(1_000);
      fake.table.forget(call);
      await turn();
      expect(fake.observer.seen).to.deep.equal(['ended ok']);
      expect(fake.files.buried).to.have.lengthOf(1);
    });
  });

  describe('by number', () => {
    it('lets the oldest go first', () => {
      const fake = new FakeTable({maxResults: 2});
      const calls = [fake.ended(), fake.ended(), fake.ended(), fake.ended()];
      expect(kept(calls)).to.deep.equal([2, 3]);
    });

    it('lets delivered ones go before all others', () => {
      const fake = new FakeTable({maxResults: 3});
      const calls = [fake.ended(), fake.ended(), fake.ended()];
      fake.table.markDelivered(calls[2]!);
      fake.table.markDelivered(calls[1]!);
      calls.push(fake.ended());
      expect(kept(calls)).to.deep.equal([0, 1, 3]);
      calls.push(fake.ended());
      expect(kept(calls)).to.deep.equal([0, 3, 4]);
      calls.push(fake.ended());
      expect(kept(calls)).to.deep.equal([3, 4, 5]);
    });

    it('never lets the newest go: somebody is about to read it', () => {
      const fake = new FakeTable({maxResults: 0, maxSpoolBytes: 0});
      const calls = [fake.ended({}, bytes(10)), fake.ended({}, bytes(10))];
      expect(kept(calls)).to.deep.equal([1]);
    });

    it('does not count what runs', () => {
      const fake = new FakeTable({maxResults: 1});
      const call = fake.ended();
      fake.start();
      expect(call.state).to.equal('ended');
    });
  });

  describe('by bytes', () => {
    const block = limits.blockBytes;

    it('counts stdout and stderr of ended calls in whole blocks, where they are files', () => {
      const fake = new FakeTable();
      const call = fake.ended({}, bytes(100, 20));
      fake.ended({}, bytes(block + 1));
      fake.ended({}, exited({stdoutBytes: 100, stderrBytes: 1, inJournal: true}));
      expect(fake.table.spoolBytes).to.equal(4 * block);
      fake.table.forget(call);
      expect(fake.table.spoolBytes).to.equal(2 * block);
    });

    it('lets as many go as it takes, and not one more', () => {
      const fake = new FakeTable({maxSpoolBytes: 10 * block + 3 * 2 * limits.keptCallBytes});
      const calls = [fake.ended({}, bytes(3 * block)), fake.ended({}, bytes(3 * block - 1)), fake.ended({}, bytes(4 * block))];
      expect(kept(calls), 'just full').to.deep.equal([0, 1, 2]);
      calls.push(fake.ended({}, bytes(3 * block + 1)));
      expect(kept(calls)).to.deep.equal([2, 3]);
      expect(fake.table.spoolBytes).to.equal(8 * block);
    });

    it('keeps one that is larger than all there is room for', () => {
      const fake = new FakeTable({maxSpoolBytes: 100});
      const calls = [fake.ended({}, bytes(50)), fake.ended({}, bytes(500))];
      expect(kept(calls)).to.deep.equal([1]);
    });

    it('takes delivered ones first here too, whatever they hold', () => {
      const fake = new FakeTable({maxSpoolBytes: 10 * block + 3 * 2 * limits.keptCallBytes});
      const calls = [fake.ended({}, bytes(6 * block)), fake.ended({}, bytes(1))];
      fake.table.markDelivered(calls[1]!);
      calls.push(fake.ended({}, bytes(3 * block)));
      expect(kept(calls), 'just full').to.deep.equal([0, 1, 2]);
      calls.push(fake.ended({}, bytes(1)));
      expect(kept(calls)).to.deep.equal([0, 2, 3]);
    });
  });

  describe('of a call that goes', () => {
    it('leaves a tombstone before its files are removed', () => {
      const fake = new FakeTable();
      const call = fake.ended({requestId: 'request-1'});
      fake.table.forget(call);
      expect(fake.files.steps.slice(-2)).to.deep.equal(['bury', `remove ${call.accepted.key}`]);
      expect(fake.files.buried.map(tombstoneOf)[0]).to.deep.include({callId: callIdOf(call), requestId: 'request-1', outcome: 'ok'});
    });

    it('tells its outcome to who asks later, by either ID', () => {
      const fake = new FakeTable();
      const call = fake.ended({requestId: 'request-1'}, exited({exitCode: 3}));
      const id = callIdOf(call);
      fake.table.forget(call);
      const {index} = fake.table;
      for (const ask of [() => index.find(id), () => index.findByRequest('master', 'request-1')]) {
        expect(ask).to.throw().that.deep.includes({code: 'call_expired', detail: {callId: id, outcome: 'failed'}});
      }
    });

    it('still_running: is refused while it runs, and nothing is lost', () => {
      const fake = new FakeTable();
      const call = fake.start();
      expect(codeOf(() => fake.table.forget(call))).to.equal('still_running');
      expect(fake.table.index.find(callIdOf(call))).to.equal(call);
      expect(fake.files.buried).to.deep.equal([]);
    });

    it('holds no timer and no byte', () => {
      const fake = new FakeTable();
      for (const call of [fake.ended(), fake.ended()]) fake.table.forget(call);
      expect(clock.countTimers()).to.equal(0);
      expect(fake.table.spoolBytes).to.equal(0);
      expect(fake.table.counts).to.include({ended: 0, tombstones: 2});
    });
  });
});
