import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {Notifier} from '../../lib/main/notify';
import {Stop} from '../../lib/main/stop';
import type {StopOptions} from '../../lib/main/stop';
import {ProcessTrees} from '../../lib/proc/process-tree';
import {HttpBinding} from '../../lib/rpc/http';
import {localRole} from '../../lib/rpc/tls';
import {setFakeClock, turn} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {exited} from '../support/fake-spawner';
import {FakeTable} from '../support/fake-table';

const secondMs = 1_000;
const dayMs = 24 * 3600 * secondMs;

interface Line {
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

describe('Stop, by a clock', () => {
  let clock: FakeClock;
  let fake: FakeTable;
  let lines: Line[];
  let exits: number[];
  /** What the spawner was told at the end: whether something still runs. */
  let leavings: boolean[];

  const log = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [level, (fields: object, message: string) => void lines.push({level, message, fields: fields as Line['fields']})]),
  ) as unknown as StopOptions['log'];

  function newStop(options: Partial<StopOptions> = {}): Stop {
    const {table, files} = fake;
    const http = new HttpBinding({
      context: {table, functions: {get: () => undefined, list: () => []}, files: files as never, maxWaitMs: 1000},
      operations: new Map(), queries: new Map(), tls: null, authorize: () => localRole, maxRequestBytes: 1000, maxConnections: 10, instance: 'spec', log, arrived: () => {}, refused: () => {},
    });
    return new Stop({
      table, http, log, trees: new ProcessTrees({log}), notifier: new Notifier(log), onStop: 'terminate', secondSignal: 'kill', stopKillAfterMs: 0, drainTimeoutMs: 300 * secondMs, endSpawner: (leavesRunning) => Promise.resolve(void leavings.push(leavesRunning)),
      exit: (code) => exits.push(code), ...options,
    });
  }
  const reports = (): Line[] => lines.filter(({message}) => message.startsWith('still waiting'));
  /** What promises and setImmediate still do. */
  const settle = async (): Promise<void> => {
    for (let round = 0; round < 5; round += 1) await turn();
  };

  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable();
    lines = [];
    exits = [];
    leavings = [];
  });
  afterEach(() => clock.restore());

  it('says every 10 s who is still awaited, and stops saying it when nobody is', async () => {
    const call = fake.start({spec: {name: 'slow'}});
    fake.run(call, 77);
    newStop().terminate('SIGTERM');
    clock.tick(limits.stopReportMs - 1);
    expect(reports()).to.have.length(0);
    clock.tick(1);
    expect(reports()).to.have.length(1);
    const {awaited, calls} = reports()[0]!.fields as {awaited: number; calls: string[]};
    expect(awaited).to.equal(1);
    expect(calls[0]).to.match(/^slow \d+:77:/);
    clock.tick(3 * limits.stopReportMs);
    expect(reports()).to.have.length(4);
    fake.end(call);
    await settle();
    clock.tick(3 * limits.stopReportMs);
    expect(reports()).to.have.length(4);
  });

  it('names ten of many', () => {
    for (let index = 0; index < 25; index += 1) fake.run(fake.start());
    newStop().terminate('SIGTERM');
    clock.tick(limits.stopReportMs);
    expect(reports()[0]!.fields.awaited).to.equal(25);
    expect(reports()[0]!.fields.calls).to.have.length(10);
  });

  it('goes on reporting once, not twice, when SIGTERM overtakes a drain', () => {
    fake.run(fake.start());
    const stop = newStop();
    stop.drain();
    stop.terminate('SIGTERM');
    clock.tick(limits.stopReportMs);
    expect(reports()).to.have.length(1);
  });

  it('exits 0 when the last function process has ended, and once', async () => {
    const calls = [fake.start(), fake.start()];
    for (const call of calls) fake.run(call);
    const stop = newStop();
    stop.drain();
    stop.terminate('SIGTERM');
    fake.end(calls[0]!, exited({signal: 'SIGTERM', exitCode: null, output: 'empty'}));
    await settle();
    expect(exits).to.deep.equal([]);
    fake.end(calls[1]!);
    await settle();
    expect(exits).to.deep.equal([0]);
    expect(leavings, 'nothing runs any more: the fork server ends too').to.deep.equal([false]);
  });

  it('signals no function while it drains, all of them when it terminates, and kills on the second signal', () => {
    const call = fake.start();
    fake.run(call);
    const {signals} = fake.spawner.processOf(call);
    const seen = (): readonly string[] => fake.spawner.processOf(call).signals;
    const stop = newStop();
    stop.drain();
    expect(signals).to.deep.equal([]);
    stop.terminate('SIGTERM');
    expect(seen()).to.deep.equal(['terminate']);
    clock.jump(dayMs);
    expect(seen()).to.deep.equal(['terminate']);
    stop.drain();
    stop.terminate('SIGINT');
    expect(seen()).to.deep.equal(['terminate', 'kill']);
  });

  it('takes a third signal for nothing new', () => {
    const call = fake.start();
    fake.run(call);
    const stop = newStop();
    for (const signal of ['SIGTERM', 'SIGTERM', 'SIGTERM', 'SIGINT']) stop.terminate(signal);
    expect(fake.spawner.processOf(call).signals).to.deep.equal(['terminate', 'kill']);
    expect(exits).to.deep.equal([]);
  });

  it('kills after stop_kill_after, unless the manifest says otherwise', () => {
    const calls = [fake.start(), fake.start({spec: {name: 'own', killAfterMs: 5 * secondMs}}), fake.start({spec: {name: 'never', killAfterMs: 0}})];
    for (const call of calls) fake.run(call);
    const killed = (): boolean[] => calls.map((call) => fake.spawner.processOf(call).signals.includes('kill'));
    newStop({stopKillAfterMs: 20 * secondMs}).terminate('SIGTERM');
    clock.tick(5 * secondMs);
    expect(killed()).to.deep.equal([false, true, false]);
    clock.tick(15 * secondMs);
    expect(killed()).to.deep.equal([true, true, false]);
    clock.jump(dayMs);
    expect(killed()).to.deep.equal([true, true, false]);
  });

  for (const [title, drainTimeoutMs] of [['seconds', 25 * secondMs], ['more days than a timer can count', 60 * dayMs]] as const) {
    it(`leaves after a drain_timeout of ${title}, and not before`, async () => {
      fake.run(fake.start());
      newStop({onStop: 'drain', drainTimeoutMs}).terminate('SIGTERM');
      clock.jump(drainTimeoutMs - secondMs);
      await settle();
      expect(exits).to.deep.equal([]);
      clock.tick(secondMs);
      await settle();
      expect(exits).to.deep.equal([0]);
    });
  }

  it('leaves after drain_timeout although a second signal has killed and somebody cannot be killed', async () => {
    const call = fake.start();
    fake.run(call);
    const stop = newStop({onStop: 'drain', drainTimeoutMs: 25 * secondMs});
    stop.terminate('SIGTERM');
    stop.terminate('SIGTERM');
    expect(fake.spawner.processOf(call).signals).to.deep.equal(['terminate', 'kill']);
    clock.tick(25 * secondMs);
    await settle();
    expect(exits).to.deep.equal([0]);
  });

  it('leaves at the second signal where that is meant, and signals nobody', async () => {
    const call = fake.start();
    fake.run(call);
    const stop = newStop({onStop: 'drain', secondSignal: 'leave', drainTimeoutMs: 25 * secondMs});
    stop.terminate('SIGTERM');
    await settle();
    expect(exits).to.deep.equal([]);
    stop.terminate('SIGTERM');
    await settle();
    expect(exits).to.deep.equal([0]);
    expect(fake.spawner.processOf(call).signals).to.deep.equal([]);
    expect(leavings).to.deep.equal([true]);
  });

  it('leaves at once with on_stop = "leave", and signals nobody', async () => {
    const call = fake.start();
    fake.run(call);
    newStop({onStop: 'leave'}).terminate('SIGTERM');
    await settle();
    expect(exits).to.deep.equal([0]);
    expect(fake.spawner.processOf(call).signals).to.deep.equal([]);
    expect(lines.at(-1)).to.deep.include({message: 'noded ends', fields: {left_running: 1}});
    expect(leavings).to.deep.equal([true]);
  });

  it('answers everybody who waits before it leaves their calls running', async () => {
    const call = fake.start();
    fake.run(call);
    const ends: string[] = [];
    fake.table.waiters.open([call], 'ended', dayMs, (why) => ends.push(why));
    newStop({onStop: 'leave', endSpawner: () => Promise.resolve(void ends.push('left'))}).terminate('SIGTERM');
    await settle();
    expect(ends).to.deep.equal(['woken', 'left']);
    expect(call.state).to.equal('running');
  });

  it('leaves at once with on_stop = "leave" while it drains', async () => {
    fake.run(fake.start());
    const stop = newStop({onStop: 'leave'});
    stop.drain();
    await settle();
    expect(exits).to.deep.equal([]);
    stop.terminate('SIGTERM');
    await settle();
    expect(exits).to.deep.equal([0]);
  });
});
