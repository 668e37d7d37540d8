import {expect} from 'chai';
import {states} from '../../lib/call/call-record';
import {setFakeClock} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {Chance, seedOfRun} from '../support/chance';
import {TableWalk} from './table-walk';

const steps = 10_000;
const refusals = ['too_many_calls', 'function_busy', 'too_many_waiters', 'still_running', 'request_id_reused', 'call_expired', 'draining', 'spawner_unavailable', 'spool_full'] as const;
const seed = seedOfRun(); // before the clock is fake

describe('ten thousand random events', () => {
  let clock: FakeClock;
  beforeEach(() => {
    clock = setFakeClock();
  });
  afterEach(() => clock.restore());

  it('leave nothing behind, and break no rule on the way', async () => {
    const walk = new TableWalk(new Chance(seed), clock);
    const trail: string[] = [];
    try {
      for (let step = 0; step < steps; step += 1) trail.push(await walk.step());
      await walk.finish();
      for (const {settled, dropped, waiter} of walk.waiters) {
        expect(settled, 'each waiter is settled once, or was dropped').to.equal(dropped ? 0 : 1);
        expect(waiter.open).to.equal(false);
      }
      const {table, files} = walk.fake;
      expect(table.counts).to.include({starting: 0, running: 0, stopping: 0, ended: 0, waiters: 0});
      expect(await table.index.list({state: null, fnName: null, role: null, visible: () => true}, 0, 10)).to.deep.equal([]);
      expect(table.activeCalls).to.deep.equal([]);
      expect(table.spoolBytes).to.equal(0);
      expect(clock.countTimers()).to.equal(0);
      expect(files.journals.size, 'files').to.equal(0);
      const gone = files.steps.filter((what) => what === 'bury' || what.startsWith('remove'));
      expect(gone.length / 2).to.equal(walk.accepted);
      gone.forEach((what, position) => expect(what.startsWith('remove'), 'tombstone first, then the files').to.equal(position % 2 === 1));
      // The walk is worth something only if it comes everywhere.
      expect([...walk.statesSeen].sort()).to.deep.equal([...states].sort());
      for (const code of refusals) expect(walk.refusals.get(code) ?? 0, code).to.be.above(0);
    } catch (error) {
      throw new Error(`NODED_SEED=${seed}, after ${trail.length} steps (… ${trail.slice(-5).join(', ')}): ${(error as Error).message}`, {cause: error});
    }
  }).timeout(120_000);
});
