/** Classic calls of `version`, each over a new TLS connection, against Ganeti's own node daemon. */
import {compare, digits, median} from './figures';
import type {Figure, Target} from './figures';
import {forkServerOf, ganetiBenchmark, kinds, nameOf, originals, startGaneti} from './ganeti-daemons';
import type {GanetiDaemon, GanetiKind} from './ganeti-daemons';
import {startPeer} from './peer-process';
import type {Peer} from './peer-process';
import type {GanetiLoadHandlers, GanetiTarget} from './peers/ganeti-load';
import type {LoadResult} from './peers/load-generator';
import {cpuMs, reapedCpuMs} from './peers/serve';
import type {TlsAnswerHandlers} from './peers/tls-answer';

const levels = [1, 8] as const;
const bareTls = 'bare TLS';

type Name = GanetiKind | typeof bareTls;

interface Contestant {
  readonly name: Name;
  readonly target: GanetiTarget;
  /** CPU time so far, by who took it. */
  readonly cpu: () => Readonly<Record<string, number>>;
}

interface Result extends LoadResult {
  /** CPU time per call, by who took it. */
  readonly cpuPerCall: Readonly<Record<string, number>>;
}

type Results = ReadonlyMap<Name, Result[]>;

function contestantOf(daemon: GanetiDaemon): Contestant {
  const {kind, pid} = daemon;
  if (kind !== 'noded') return {name: kind, target: daemon, cpu: () => ({daemon: cpuMs(pid), processes: reapedCpuMs(pid)})};
  const forker = forkServerOf(daemon);
  return {name: kind, target: daemon, cpu: () => ({daemon: cpuMs(pid), 'fork server': cpuMs(forker), functions: reapedCpuMs(forker)})};
}

async function measure({target, cpu}: Contestant, load: Peer<GanetiLoadHandlers>, connections: number, durationMs: number): Promise<Result> {
  const before = cpu();
  const {port, tls} = target;
  const result = await load.ask('load', {port, tls, connections, durationMs});
  const calls = (result.callsPerSecond * durationMs) / 1000;
  return {...result, cpuPerCall: Object.fromEntries(Object.entries(cpu()).map(([who, ms]) => [who, (ms - (before[who] ?? 0)) / calls]))};
}

const results = (of: Results, name: Name): readonly Result[] => of.get(name) ?? [];

function figuresOf(byLevel: ReadonlyMap<number, Results>): Figure[] {
  const rows = (title: string, unit: string, of: Results, pick: (result: Result) => number, peers: readonly Name[], target: Target | null): Figure[] =>
    peers.map((peer) => compare(title, unit, results(of, 'noded').map(pick), results(of, peer).map(pick), peer === bareTls ? 'a TLS server in Node that starts nothing' : nameOf(peer), target));
  const rates = [...byLevel].flatMap(([connections, of]) => {
    const title = `Ganeti: \`version\` over new TLS connections, ${connections} at once`;
    const rate = ({callsPerSecond}: Result): number => callsPerSecond;
    return [...rows(title, 'calls/s', of, rate, originals, {atLeast: 2}), ...rows(title, 'calls/s', of, rate, [bareTls], null)];
  });
  const alone = byLevel.get(1);
  return alone === undefined ? rates : [...rates, ...rows('Ganeti: `version` over a new TLS connection, 1 at once: median time of connection and answer', 'ms', alone, ({medianMs}) => medianMs, originals, null)];
}

function notesOf(byLevel: ReadonlyMap<number, Results>): string[] {
  return [...byLevel].flatMap(([connections, of]) => {
    const perName = [...of].map(([name, rounds]) => {
      const middle = (pick: (result: Result) => number): string => digits(median(rounds.map(pick)));
      const who = Object.keys(rounds[0]?.cpuPerCall ?? {});
      return `${name}: ${who.map((one) => `${one} ${middle(({cpuPerCall}) => cpuPerCall[one] ?? Number.NaN)}`).join(', ')} (the load generator took ${middle(({cpuShare}) => 100 * cpuShare)} % of a core)`;
    });
    return [`ganeti-calls, ${connections} at once, ms of CPU per call: ${perName.join('; ')}`];
  });
}

/** All in one run, interleaved; who goes first changes from round to round. */
export const ganetiCalls = ganetiBenchmark('ganeti-calls', async (run, load) => {
  const durationMs = run.quick ? 500 : 2_000;
  const contestants: Contestant[] = [];
  for (const kind of kinds) contestants.push(contestantOf(await startGaneti(run, kind, load)));
  const {tls} = contestants[0]!.target;
  const bare = startPeer<TlsAnswerHandlers>(run.scratch, 'tls-answer');
  const port = await bare.ask('listen', {tls, body: '[true, 3000000]\n'});
  contestants.push({name: bareTls, target: {port, tls}, cpu: () => ({server: cpuMs(bare.child.pid ?? 0)})});
  const names = contestants.map(({name}) => name);
  const newLevels = (): Map<number, Map<Name, Result[]>> => new Map(levels.map((connections) => [connections, new Map(names.map((name) => [name, []]))]));
  const round = async (into: ReadonlyMap<number, ReadonlyMap<Name, Result[]>>): Promise<void> => {
    for (const [connections, of] of into) for (const one of contestants) of.get(one.name)!.push(await measure(one, load, connections, durationMs));
    contestants.push(contestants.shift()!);
  };
  await round(newLevels()); // warm-up: not counted
  const byLevel = newLevels();
  for (let at = 0; at < run.rounds; at++) await round(byLevel);
  return {figures: figuresOf(byLevel), notes: notesOf(byLevel)};
});
