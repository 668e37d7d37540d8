/** What running calls cost: the memory of each, and the time that another caller waits, against Ganeti's own node daemon. */
import {numbers} from './benchmark';
import type {Run} from './benchmark';
import {compare, digits, median} from './figures';
import {endGaneti, functionsOf, ganetiBenchmark, kinds, nameOf, originals, privateKiB, startGaneti, untilAtRest} from './ganeti-daemons';
import type {GanetiDaemon, GanetiKind} from './ganeti-daemons';
import type {Peer} from './peer-process';
import type {GanetiLoadHandlers} from './peers/ganeti-load';

/** Calls of `test_delay` under way, and at least so many of them in processes that have come to rest. */
async function runDelays(daemon: GanetiDaemon, load: Peer<GanetiLoadHandlers>, count: number, seconds: number, atLeast = count): Promise<void> {
  const {port, tls} = daemon;
  await load.ask('delay', {port, tls, count, seconds});
  await untilAtRest(daemon, atLeast, seconds * 1_000);
}

interface Memory {
  /** In the middle of the calls. */
  readonly perCallKiB: number;
  /** What the daemon itself has more of, with all calls running. */
  readonly daemonKiB: number;
}

async function memoryOf(run: Run, kind: GanetiKind, load: Peer<GanetiLoadHandlers>, count: number, seconds: number): Promise<Memory> {
  const daemon = await startGaneti(run, kind, load);
  await load.ask('repeat', {port: daemon.port, tls: daemon.tls, connections: 4, count: 20}); // warm-up
  const before = privateKiB(daemon.pid);
  await runDelays(daemon, load, count, seconds);
  const functions = functionsOf(daemon);
  const memory = {perCallKiB: median(functions.map(privateKiB)), daemonKiB: privateKiB(daemon.pid) - before};
  if (functions.length !== count) throw new Error(`${functions.length} processes of ${kind} run, and not ${count}`);
  await load.ask('delayed', {});
  await endGaneti(run, daemon);
  return memory;
}

/** Private memory of the process of one running call. */
export const ganetiMemory = ganetiBenchmark('ganeti-memory', async (run, load) => {
  const count = 20;
  const rounds = numbers(0, Math.min(run.rounds, 3));
  const measured = new Map<GanetiKind, Memory[]>(kinds.map((kind) => [kind, []]));
  for (const _round of rounds) for (const [kind, into] of measured) into.push(await memoryOf(run, kind, load, count, run.quick ? 2 : 4));
  const perCall = (kind: GanetiKind): number[] => (measured.get(kind) ?? []).map(({perCallKiB}) => perCallKiB);
  const figures = originals.map((kind) => compare(`Ganeti: private memory per running call, ${count} calls of \`test_delay\``, 'KiB', perCall('noded'), perCall(kind), nameOf(kind)));
  const own = median((measured.get('noded') ?? []).map(({daemonKiB}) => daemonKiB)) / count;
  return {figures, notes: [`ganeti-memory: noded itself had ${digits(own)} KiB more for each of the ${count} connections and calls`]};
});

interface Waited {
  readonly idleMs: number;
  readonly crowdedMs: number;
}

async function waitOf(run: Run, kind: GanetiKind, load: Peer<GanetiLoadHandlers>, count: number, seconds: number): Promise<Waited> {
  const daemon = await startGaneti(run, kind, load);
  const {port, tls} = daemon;
  const versions = async (times: number): Promise<number> => {
    const took: number[] = [];
    for (const _at of numbers(0, times)) took.push(await load.ask('version', {port, tls}));
    return median(took);
  };
  const idleMs = await versions(10);
  // Ganeti's own runs no more than 20, and takes one more connection.
  await runDelays(daemon, load, count, seconds, kind === 'noded' ? count : 20);
  const crowdedMs = await versions(kind === 'noded' ? 5 : 1);
  if (kind === 'noded' && functionsOf(daemon).length < count) throw new Error(`${count} calls did not run for ${seconds} s`);
  await load.ask('delayed', {});
  await endGaneti(run, daemon);
  return {idleMs, crowdedMs};
}

/** How long `version` takes while more calls run than Ganeti's own daemon takes. */
export const ganetiBlocked = ganetiBenchmark('ganeti-blocked', async (run, load) => {
  const count = 40;
  const seconds = run.quick ? 2 : 5;
  const measured = new Map<GanetiKind, Waited[]>(kinds.map((kind) => [kind, []]));
  for (const _round of numbers(0, Math.min(run.rounds, 3))) for (const [kind, into] of measured) into.push(await waitOf(run, kind, load, count, seconds));
  const of = (kind: GanetiKind, pick: (waited: Waited) => number): number[] => (measured.get(kind) ?? []).map(pick);
  const crowded = (kind: GanetiKind): number[] => of(kind, ({crowdedMs}) => crowdedMs);
  const title = `Ganeti: until \`version\` answers, ${count} calls of \`test_delay\` (${seconds} s) running`;
  return {
    figures: [
      ...originals.map((kind) => compare(title, 'ms', crowded('noded'), crowded(kind), nameOf(kind))),
      compare(title, 'ms', crowded('noded'), of('noded', ({idleMs}) => idleMs), 'noded with nothing running'),
    ],
    notes: [],
  };
});
