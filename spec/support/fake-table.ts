/** The real table over a spawner and files that are fake. */
import type {StartRequest} from '../../lib/call/acceptance';
import type {Call} from '../../lib/call/call-record';
import {CallTable} from '../../lib/call/call-table';
import type {TableLimits, TableObserver} from '../../lib/call/call-table';
import type {FunctionSpec} from '../../lib/call/spawner';
import {FakeFiles} from './fake-files';
import {FakeSpawner, exited, functionSpec} from './fake-spawner';
import type {Ending} from '../../lib/base/outcome';

export const roomyLimits: TableLimits = {
  maxCalls: 100,
  maxUrgentCalls: 2,
  maxWaiters: 10_000,
  maxResults: 1_000,
  maxSpoolBytes: 1_000_000_000,
  keepResultMs: 3_600_000,
  killAfterMs: 10_000,
};

/** Writes down what metrics and the log are told: `ended ok`, `duplicate`, …. An event that cannot happen throws. */
export class FakeObserver implements TableObserver {
  readonly seen: string[] = [];
  readonly lateMs: number[] = [];
  /** For specs in which what cannot happen does: it is written down like the rest. */
  expectsBugs = false;

  ended({outcome}: Call): void {
    this.seen.push(`ended ${outcome}`);
  }
  duplicate(): void {
    this.seen.push('duplicate');
  }
  late(lateMs: number): void {
    this.lateMs.push(lateMs);
  }
  unkillable(): void {
    this.seen.push('unkillable');
  }
  bug({state}: Call, event: string): void {
    const what = `bug ${state} × ${event}`;
    if (!this.expectsBugs) throw new Error(what);
    this.seen.push(what);
  }
  unspooled(_call: Call, {message}: Error): void {
    this.seen.push(`unspooled ${message}`);
  }
}

export interface StartFacts extends Partial<Omit<StartRequest, 'spec'>> {
  readonly spec?: Partial<FunctionSpec>;
}

export class FakeTable {
  readonly spawner = new FakeSpawner();
  readonly files = new FakeFiles();
  readonly observer = new FakeObserver();
  readonly table: CallTable;

  constructor(limits: Partial<TableLimits> = {}) {
    this.table = new CallTable({...roomyLimits, ...limits}, this.spawner, this.files, this.observer);
  }

  start({spec, ...facts}: StartFacts = {}): Call {
    return this.table.start({
      spec: functionSpec(spec),
      args: Buffer.from('[]'),
      fingerprint: 'f'.repeat(64),
      role: 'master',
      requestId: null,
      abortAfterMs: null,
      reason: null,
      traceparent: null,
      ...facts,
    });
  }

  /** The spawner reports. */
  run(call: Call, pid = 4188): void {
    this.spawner.processOf(call).sink.started(pid, {atMs: Date.now(), boot: null});
  }
  end(call: Call, ending: Ending = exited()): void {
    this.spawner.processOf(call).sink.ended(ending);
  }

  /** A call that has started, run and ended. */
  ended(facts: StartFacts = {}, ending: Ending = exited()): Call {
    const call = this.start(facts);
    this.run(call);
    this.end(call, ending);
    return call;
  }
}

/** The code of the refusal that `act` throws; undefined if it throws none. */
export function codeOf(act: () => unknown): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    return (error as {code?: string}).code;
  }
}
