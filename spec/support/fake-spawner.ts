/** A spawner that starts nothing: specs report what its processes do. */
import * as sinon from 'sinon';
import type {Ending} from '../../lib/base/outcome';
import type {Call} from '../../lib/call/call-record';
import type {FunctionProcess, FunctionSpec, SpawnRequest, SpawnSink, Spawner} from '../../lib/call/spawner';
import {wallStartMs} from './clock';

type Exited = Extract<Ending, {kind: 'exited'}>;

/** Exit 0 with two bytes of JSON, unless said otherwise. */
export function exited(facts: Partial<Exited> = {}): Exited {
  return {kind: 'exited', exitCode: 0, signal: null, output: 'json', stdoutBytes: 2, stderrBytes: 0, endedAtMs: wallStartMs + 1000, endedBoot: null, ...facts};
}

export const lost: Ending = {kind: 'lost', reason: 'it was gone', endedAtMs: wallStartMs + 1000, endedBoot: null, stdoutBytes: 10, stderrBytes: 6};
export const notStarted: Ending = {kind: 'not_started', errno: 'ENOMEM', stage: 'spawn', endedAtMs: wallStartMs + 1000, endedBoot: null};

export function functionSpec(facts: Partial<FunctionSpec> = {}): FunctionSpec {
  return {
    name: 'echo',
    program: '/usr/local/lib/noded/functions/echo',
    maxRunning: null,
    maxOutputBytes: 1024,
    killAfterMs: null,
    urgent: false,
    leaveRunning: false,
    user: null,
    nice: null,
    config: null,
    ...facts,
  };
}

export class FakeProcess implements FunctionProcess {
  hasEnded = false;
  readonly signal = sinon.stub<['terminate' | 'kill'], void>();

  constructor(
    readonly request: SpawnRequest,
    readonly sink: SpawnSink,
  ) {}

  /** What it was sent, in order. */
  get signals(): readonly string[] {
    return this.signal.args.map(([what]) => what);
  }
}

export class FakeSpawner implements Spawner {
  readonly name = 'child';
  unavailable: string | null = null;
  makesJournals = false;
  inlineArgsBytes = 0;
  /** Told of every start, from inside of it. */
  onSpawn: (request: SpawnRequest) => void = () => {};
  readonly processes: FakeProcess[] = [];
  private readonly byKey = new Map<string, FakeProcess>();

  spawn(request: SpawnRequest, sink: SpawnSink): FunctionProcess {
    const process = new FakeProcess(request, sink);
    this.processes.push(process);
    this.byKey.set(request.key, process);
    this.onSpawn(request);
    return process;
  }

  /** The process of a call; throws if none was started for it. */
  processOf({accepted}: Call): FakeProcess {
    const process = this.byKey.get(accepted.key);
    if (process === undefined) throw new Error(`no process was started for ${accepted.key}`);
    return process;
  }
}
