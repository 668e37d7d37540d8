/** Calls per second of a trivial function, against webhook(1), a loop of posix_spawn in C, and node:child_process alone. */
import type {Benchmark, Run} from './benchmark';
import {compare, digits, median} from './figures';
import type {Figure, Target} from './figures';
import {startNoded} from './installed-noded';
import type {RunningNoded} from './installed-noded';
import {startPeer} from './peer-process';
import type {Peer} from './peer-process';
import type {BareSpawnHandlers} from './peers/bare-spawn';
import type {LoadHandlers, LoadResult} from './peers/load-generator';
import {requestText} from './peers/raw-http';
import {cpuMs, residentKiB} from './peers/serve';
import {compileFloor, functionPath} from './programs';
import {startSpawnFloor} from './spawn-floor';
import type {SpawnFloor} from './spawn-floor';
import {startWebhook} from './webhook';
import type {Load} from './webhook';

const levels = [1, 8, 32] as const;
const floorAtOnce = 8;

interface Result extends LoadResult {
  /** CPU time of the answering process for each call, without the processes that it starts. */
  readonly cpuMsPerCall: number;
}

const startBody = {fn_name: 'trivial', fn_args: null, timeout: 60};

/** The load of trivial calls on a daemon. */
export const trivialCalls = ({pid, port}: RunningNoded, tls: Load['tls'] = null): Load => ({pid, port, request: requestText('PUT', '/StartFunction', startBody), expect: '"outcome":"ok"', tls});

/** From the first round on an old result is removed for every new one, as in a daemon that has run for long. */
export const fewResults = '[limits]\nmax_results = 1000\n';

interface Rounds {
  readonly noded: Result[];
  readonly webhook: Result[];
}

interface Contestants {
  readonly noded: Load;
  readonly webhook: Load | null;
  readonly generator: Peer<LoadHandlers>;
}

/** One round of everything. Who goes first changes from round to round. */
async function round({noded, webhook, generator}: Contestants, byLevel: ReadonlyMap<number, Rounds>, durationMs: number, webhookFirst: boolean): Promise<void> {
  const run = async ({pid, ...load}: Load, connections: number, into: Result[]): Promise<void> => {
    const before = cpuMs(pid);
    const result = await generator.ask('load', {...load, connections, durationMs});
    into.push({...result, cpuMsPerCall: (cpuMs(pid) - before) / (result.callsPerSecond * durationMs / 1000)});
  };
  for (const [connections, results] of byLevel) {
    const turns = [() => run(noded, connections, results.noded), ...(webhook === null ? [] : [() => run(webhook, connections, results.webhook)])];
    for (const turn of webhookFirst ? turns.reverse() : turns) await turn();
  }
}

interface Floors {
  readonly c: number[];
  readonly node: number[];
}

function figuresOf(byLevel: ReadonlyMap<number, Rounds>, floors: Floors): Figure[] {
  const rates = (results: readonly LoadResult[]): number[] => results.map(({callsPerSecond}) => callsPerSecond);
  const figures = [...byLevel].flatMap(([connections, {noded, webhook}]) => {
    const most = connections === Math.max(...levels);
    const name = `trivial calls, ${connections} connection${connections === 1 ? '' : 's'}`;
    const against = (peer: readonly number[], peerName: string, target: Target | null): Figure[] => (peer.length === 0 ? [] : [compare(name, 'calls/s', rates(noded), peer, peerName, target)]);
    return [
      ...against(rates(webhook), 'webhook', most ? {atLeast: 1.15} : null),
      ...(most ? against(floors.c, `posix_spawn + waitpid in C, ${floorAtOnce} at once`, {atLeast: 0.85}) : []),
      ...against(floors.node, `bare spawn loop in Node, ${floorAtOnce} at once`, null),
    ];
  });
  const {noded = [], webhook = []} = byLevel.get(1) ?? {};
  const times = (results: readonly LoadResult[]): number[] => results.map(({medianMs}) => medianMs);
  return webhook.length === 0 ? figures : [...figures, compare('trivial calls, 1 connection: median time of an answer', 'ms', times(noded), times(webhook), 'webhook', {atMost: 1.1})];
}

function notesOf(byLevel: ReadonlyMap<number, Rounds>, memory: readonly [before: number, after: number]): string[] {
  const middle = (results: readonly Result[], pick: (result: Result) => number): string => (results.length === 0 ? '–' : digits(median(results.map(pick))));
  const both = ({noded, webhook}: Rounds, pick: (result: Result) => number): string => `${middle(noded, pick)} and ${middle(webhook, pick)}`;
  const perLevel = [...byLevel].map(
    ([connections, rounds]) =>
      `calls, ${connections} at once, noded and webhook: median answer after ${both(rounds, ({medianMs}) => medianMs)} ms; ${both(rounds, ({cpuMsPerCall}) => cpuMsPerCall)} ms of CPU per call in the daemon itself; the load generator took ${both(rounds, ({cpuShare}) => 100 * cpuShare)} % of a core`,
  );
  return [
    ...perLevel,
    `calls: noded had ${digits(memory[0] / 1024)} MiB resident before the load and ${digits(memory[1] / 1024)} MiB after it`,
    ...([...byLevel.values()].some(({webhook}) => webhook.length === 0) ? ['calls: webhook is not installed (`apt-get install webhook`), so there is no figure against it'] : []),
  ];
}

async function measureFloors({scratch, quick}: Run, bare: Peer<BareSpawnHandlers>, floor: SpawnFloor, durationMs: number, into: Floors): Promise<void> {
  const program = functionPath(scratch.directory, 'trivial');
  into.c.push(await floor(program, quick ? 300 : 4_000, floorAtOnce));
  into.node.push(await bare.ask('spawnLoop', {program, atOnce: floorAtOnce, durationMs}));
}

/** All in one run, interleaved. */
export const calls: Benchmark = async (run) => {
  const {scratch, quick, rounds} = run;
  const durationMs = quick ? 300 : 2_000;
  const noded = await startNoded(scratch, {config: fewResults});
  const contestants: Contestants = {noded: trivialCalls(noded), webhook: await startWebhook(run, startBody), generator: startPeer<LoadHandlers>(scratch, 'load-generator')};
  const bare = startPeer<BareSpawnHandlers>(scratch, 'bare-spawn');
  const floor = startSpawnFloor(scratch, compileFloor(scratch.directory, 'spawn-floor'));
  const newLevels = (): Map<number, Rounds> => new Map(levels.map((connections) => [connections, {noded: [], webhook: []}]));
  const before = residentKiB(noded.pid);
  await round(contestants, newLevels(), durationMs, false); // warm-up: not counted
  const byLevel = newLevels();
  const floors: Floors = {c: [], node: []};
  for (let at = 0; at < rounds; at++) {
    await round(contestants, byLevel, durationMs, at % 2 === 1);
    await measureFloors(run, bare, floor, durationMs, floors);
  }
  return {figures: figuresOf(byLevel, floors), notes: notesOf(byLevel, [before, residentKiB(noded.pid)])};
};
