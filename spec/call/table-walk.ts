/** A master, a spawner and a clock that do anything they may, in any order; and what must hold after each step. */
import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import type {ErrorCode} from '../../lib/base/errors';
import {limits} from '../../lib/base/limits';
import type {Ending, Outcome, StopCause} from '../../lib/base/outcome';
import type {Call, State} from '../../lib/call/call-record';
import type {TableLimits} from '../../lib/call/call-table';
import type {Waiter} from '../../lib/call/waiters';
import type {FakeClock} from '../support/clock';
import {turn} from '../support/clock';
import {exited, lost, notStarted} from '../support/fake-spawner';
import {FakeTable} from '../support/fake-table';
import type {Chance} from '../support/chance';

export const walkLimits: TableLimits = {
  maxCalls: 6,
  maxUrgentCalls: 2,
  maxWaiters: 4,
  maxResults: 15,
  maxSpoolBytes: 20 * limits.blockBytes,
  keepResultMs: 60_000,
  killAfterMs: 5_000,
};

const specs = [
  {name: 'echo', maxRunning: null},
  {name: 'jobqueue_update', maxRunning: 1, killAfterMs: 0},
  {name: 'hooks_runner', maxRunning: 3, killAfterMs: 700},
  {name: 'powercycle', maxRunning: null, urgent: true},
] as const;

/** What was seen of a call after the last step. */
interface Seen {
  readonly call: Call;
  state: State;
  outcome: Outcome | null;
  stopCause: StopCause | null;
}

interface SeenWaiter {
  readonly waiter: Waiter;
  settled: number;
  dropped: boolean;
}

const weights = {start: 22, run: 16, end: 17, wait: 14, drop: 4, wake: 3, abort: 6, forget: 4, deliver: 5, pass: 12, turn: 12, shutdown: 1, kill: 1, weather: 3};
type Step = keyof typeof weights;

export class TableWalk {
  readonly fake = new FakeTable(walkLimits);
  /** How often each refusal came: a walk that never meets one proves nothing of it. */
  readonly refusals = new Map<ErrorCode, number>();
  readonly statesSeen = new Set<State>();
  readonly waiters: SeenWaiter[] = [];
  private live: Seen[] = [];
  private open: SeenWaiter[] = [];
  accepted = 0;

  constructor(
    private readonly chance: Chance,
    private readonly clock: FakeClock,
  ) {}

  async step(): Promise<Step> {
    const step = this.chance.weighted(weights);
    await this[step]();
    this.check();
    return step;
  }

  // --- the steps ---

  private start(): void {
    const {chance, fake} = this;
    const requestId = chance.percent(40) ? `request-${this.accepted - chance.below(40)}` : null;
    const fingerprint = chance.percent(90) ? 'f' : 'e';
    const spec = chance.pick(specs)!;
    this.attempt(() => {
      if (requestId !== null && fake.table.duplicateOf('master', requestId, spec.name, fingerprint) !== null) return;
      const call = fake.start({spec, requestId, fingerprint, abortAfterMs: chance.percent(30) ? 1 + chance.below(20_000) : null});
      this.live.push({call, state: 'starting', outcome: null, stopCause: null});
      this.accepted += 1;
    });
  }

  private run(): void {
    const call = this.pick(({state, pid}) => (state === 'starting' || state === 'stopping') && pid === null);
    if (call !== undefined) this.fake.run(call, 1 + this.chance.below(30_000));
  }

  private end(): void {
    const call = this.pick(({state}) => state === 'starting' || state === 'running' || state === 'stopping');
    if (call !== undefined) this.fake.end(call, this.ending());
  }

  private wait(): void {
    const {chance, fake} = this;
    const calls = [0, 1, 2].slice(chance.below(3)).flatMap(() => this.pick(({state}) => state !== 'ended') ?? []);
    if (calls.length === 0) return;
    const until = calls.length === 1 && calls[0]!.state === 'starting' && chance.percent(50) ? 'started' : 'ended';
    this.attempt(() => {
      const seen: SeenWaiter = {
        waiter: fake.table.waiters.open(calls, until, chance.below(8_000), () => {
          seen.settled += 1;
          // Some masters ask again at once, from inside of the answer.
          if (chance.percent(20)) this.wait();
        }),
        settled: 0,
        dropped: false,
      };
      this.waiters.push(seen);
      this.open.push(seen);
    });
  }

  private drop(): void {
    const seen = this.chance.pick(this.open);
    if (seen === undefined) return;
    this.fake.table.waiters.drop(seen.waiter);
    seen.dropped = true;
  }

  private wake(): void {
    const seen = this.chance.pick(this.open);
    if (seen !== undefined) this.fake.table.waiters.wake(seen.waiter);
  }

  private abort(): void {
    const call = this.pick(() => true);
    if (call !== undefined) this.fake.table.abort(call, 'master', this.chance.pick([null, 0, 100, 60_000])!);
  }

  private forget(): void {
    const call = this.pick(() => true);
    if (call !== undefined) this.attempt(() => this.fake.table.forget(call));
  }

  private deliver(): void {
    const call = this.pick(() => true);
    if (call !== undefined) this.fake.table.markDelivered(call);
  }

  private pass(): void {
    this.clock.tick(this.chance.percent(5) ? this.chance.below(100_000) : this.chance.below(2_000));
  }

  private turn(): Promise<void> {
    return turn();
  }

  private shutdown(): void {
    this.fake.table.shutdown(this.chance.pick([0, 3_000])!);
  }

  private kill(): void {
    this.fake.table.kill();
  }

  /** The disk fills, the spawner goes, noded drains; and all of it is over again. */
  private weather(): void {
    const {chance, fake} = this;
    fake.table.draining = chance.percent(10);
    fake.spawner.unavailable = chance.percent(10) ? 'it was away' : null;
    fake.files.failure = chance.percent(10) ? new NodedError('spool_full') : null;
  }

  // --- the end ---

  /** Everything ends, is answered and expires. */
  async finish(): Promise<void> {
    const {table} = this.fake;
    let drained = false;
    table.draining = true;
    table.shutdown(0);
    table.onDrained(() => (drained = true));
    for (const call of table.activeCalls) this.fake.end(call, this.ending());
    for (let turns = 0; !drained && turns < 100; turns += 1) await turn();
    expect(drained, 'drained').to.equal(true);
    expect(table.waiters.size, 'waiters after the drain').to.equal(0);
    this.check();
    for (let turns = 0; table.counts.ended > 0 && turns < 100; turns += 1) {
      this.clock.tick(walkLimits.keepResultMs);
      await turn();
    }
    this.check();
  }

  // --- what must hold ---

  private check(): void {
    this.open = this.open.filter(({waiter}) => waiter.open);
    for (const seen of this.live) this.checkCall(seen);
    this.live = this.live.filter(({state}) => state !== 'gone');
    this.checkCounts();
  }

  /** What is written once stays; what ended has an outcome, and only that. */
  private checkCall(seen: Seen): void {
    const {call} = seen;
    const before = seen.state;
    this.statesSeen.add(call.state);
    if (seen.outcome !== null) expect(call.outcome, 'the outcome is written once').to.equal(seen.outcome);
    if (seen.stopCause !== null) expect(call.stopCause, 'the cause of the stop is written once').to.equal(seen.stopCause);
    expect(call.outcome !== null, `an outcome in ${call.state}`).to.equal(call.state === 'ended' || call.state === 'gone');
    if (call.state === 'gone') expect(call.timer, 'the timer of a call that is gone').to.equal(null);
    if (call.state === 'ended' && before !== 'ended' && call.accepted.spooled) {
      expect(this.fake.files.eventsOf(call.accepted.key).filter((event) => event === 'outcome'), 'outcomes on file').to.have.lengthOf(1);
    }
    Object.assign(seen, {state: call.state, outcome: call.outcome, stopCause: call.stopCause});
  }

  private checkCounts(): void {
    const {table} = this.fake;
    const {maxCalls, maxUrgentCalls, maxWaiters, maxResults, maxSpoolBytes} = walkLimits;
    const calls = this.live.map(({call}) => call);
    const inState = (state: State): number => calls.filter((call) => call.state === state).length;
    const {tombstones, ...counts} = table.counts;
    expect(counts).to.deep.equal({starting: inState('starting'), running: inState('running'), stopping: inState('stopping'), ended: inState('ended'), waiters: this.open.length});
    expect(tombstones, 'tombstones').to.be.at.most(this.accepted);
    const active = calls.filter(({state}) => state !== 'ended');
    const numbers = (some: readonly Call[]): number[] => some.map(({sequence}) => sequence).sort((a, b) => a - b);
    expect(numbers(table.activeCalls), 'active calls').to.deep.equal(numbers(active));
    expect(active.filter(({spec}) => spec!.urgent).length, 'urgent calls').to.be.at.most(maxUrgentCalls);
    expect(active.filter(({spec}) => !spec!.urgent).length, 'calls').to.be.at.most(maxCalls);
    for (const {name, maxRunning} of specs) expect(active.filter(({accepted}) => accepted.fnName === name).length, name).to.be.at.most(maxRunning ?? Infinity);
    expect(this.open.length, 'waiters').to.be.at.most(maxWaiters);
    expect(counts.ended, 'results').to.be.at.most(maxResults);
    const inBlocks = (size: number): number => Math.ceil(size / limits.blockBytes) * limits.blockBytes;
    const bytes = calls.reduce((sum, {ending}) => sum + (ending !== null && ending.kind !== 'not_started' && ending.inJournal !== true ? inBlocks(ending.stdoutBytes) + inBlocks(ending.stderrBytes) : 0), 0);
    expect(table.spoolBytes, 'bytes').to.equal(bytes);
    if (counts.ended > 1) expect(bytes + counts.ended * 2 * limits.keptCallBytes, 'bytes').to.be.at.most(maxSpoolBytes);
    // One for all results that are kept; none while a crowd of them goes.
    const timers = this.clock.countTimers() - calls.filter(({timer}) => timer !== null).length - this.open.filter(({waiter}) => waiter.timer !== null).length;
    expect(timers, 'timers').to.be.within(0, counts.ended > 0 ? 1 : 0);
  }

  // --- chance ---

  private pick(fits: (call: Call) => boolean): Call | undefined {
    return this.chance.pick(this.live.map(({call}) => call).filter((call) => call.state !== 'gone' && fits(call)));
  }

  private ending(): Ending {
    const {chance} = this;
    if (chance.percent(5)) return lost;
    if (chance.percent(5)) return notStarted;
    const signal = chance.percent(20) ? 'SIGTERM' : null;
    return exited({
      exitCode: signal === null ? chance.below(2) : null,
      signal,
      output: chance.pick(['json', 'empty', 'invalid', 'too_large'] as const)!,
      stdoutBytes: chance.below(100),
      stderrBytes: chance.below(30),
    });
  }

  private attempt(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof NodedError)) throw error;
      this.refusals.set(error.code, (this.refusals.get(error.code) ?? 0) + 1);
    }
  }
}
