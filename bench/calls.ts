/** Calls per second of a trivial function, against webhook(1) and against node:child_process alone. */
import {spawn} from 'node:child_process';
import {accessSync, constants, writeFileSync} from 'node:fs';
import {createServer, connect} from 'node:net';
import type {AddressInfo} from 'node:net';
import {join} from 'node:path';
import {until} from './benchmark';
import type {Benchmark, Run} from './benchmark';
import {compare, digits, median} from './figures';
import type {Figure} from './figures';
import {functionPath, startNoded} from './installed-noded';
import {startPeer} from './peer-process';
import type {Peer} from './peer-process';
import type {BareSpawnHandlers} from './peers/bare-spawn';
import type {LoadHandlers, LoadRequest, LoadResult} from './peers/load-generator';
import {requestText} from './peers/raw-http';
import {cpuMs, residentKiB} from './peers/serve';

const levels = [1, 8, 32] as const;
const bareAtOnce = 8;

interface Load extends Omit<LoadRequest, 'connections' | 'durationMs'> {
  readonly pid: number;
}

interface Result extends LoadResult {
  /** CPU time of the answering process for each call, without the processes that it starts. */
  readonly cpuMsPerCall: number;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const {port} = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function findProgram(name: string): string | null {
  for (const directory of (process.env.PATH ?? '').split(':')) {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return join(directory, name);
    } catch {
      // Not in this one.
    }
  }
  return null;
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({port, host: '127.0.0.1'}, () => resolve(true)).on('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

/** The same program, run for the same request, its output in the answer. Null if webhook is not installed. */
async function startWebhook({scratch}: Run): Promise<Load | null> {
  const program = findProgram('webhook');
  if (program === null) return null;
  const hooks = join(scratch.directory, 'hooks.json');
  const hook = {id: 'trivial', 'execute-command': functionPath(scratch.directory, 'trivial'), 'include-command-output-in-response': true};
  writeFileSync(hooks, JSON.stringify([hook]));
  const port = await freePort();
  const child = spawn(program, ['-hooks', hooks, '-ip', '127.0.0.1', '-port', String(port), '-http-methods', 'PUT'], {stdio: 'ignore'});
  child.on('error', () => {});
  scratch.own(child);
  await until('webhook', () => answers(port), 10_000);
  return {pid: child.pid ?? 0, port, request: requestText('PUT', '/hooks/trivial', startBody), expect: ''};
}

const startBody = {fn_name: 'trivial', fn_args: null, timeout: 60};

interface Rounds {
  readonly noded: Result[];
  readonly webhook: Result[];
}

interface Contestants {
  readonly noded: Load;
  readonly webhook: Load | null;
  readonly generator: Peer<LoadHandlers>;
  readonly bare: Peer<BareSpawnHandlers>;
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

function figuresOf(byLevel: ReadonlyMap<number, Rounds>, bare: readonly number[]): Figure[] {
  const rates = (results: readonly LoadResult[]): number[] => results.map(({callsPerSecond}) => callsPerSecond);
  return [...byLevel].flatMap(([connections, {noded, webhook}]) => {
    const name = `trivial calls, ${connections} connection${connections === 1 ? '' : 's'}`;
    const against = webhook.length === 0 ? [] : [compare(name, 'calls/s', rates(noded), rates(webhook), 'webhook')];
    return [...against, compare(name, 'calls/s', rates(noded), bare, `bare spawn loop, ${bareAtOnce} at once`)];
  });
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

/**
 * All in one run, interleaved. At most 1,000 results are kept, so that from the first round on an old result
 * is removed for every new one, as in a daemon that has run for long.
 */
export const calls: Benchmark = async (run) => {
  const {scratch, quick, rounds} = run;
  const durationMs = quick ? 400 : 2_000;
  const noded = await startNoded(scratch, {config: '[limits]\nmax_results = 1000\n'});
  const contestants: Contestants = {
    noded: {pid: noded.pid, port: noded.port, request: requestText('PUT', '/StartFunction', startBody), expect: '"outcome":"ok"'},
    webhook: await startWebhook(run),
    generator: startPeer<LoadHandlers>(scratch, 'load-generator'),
    bare: startPeer<BareSpawnHandlers>(scratch, 'bare-spawn'),
  };
  const program = functionPath(scratch.directory, 'trivial');
  const newLevels = (): Map<number, Rounds> => new Map(levels.map((connections) => [connections, {noded: [], webhook: []}]));
  const before = residentKiB(noded.pid);
  await round(contestants, newLevels(), durationMs, false); // warm-up: not counted
  const byLevel = newLevels();
  const bare: number[] = [];
  for (let at = 0; at < rounds; at++) {
    await round(contestants, byLevel, durationMs, at % 2 === 1);
    bare.push(await contestants.bare.ask('spawnLoop', {program, atOnce: bareAtOnce, durationMs}));
  }
  return {figures: figuresOf(byLevel, bare), notes: notesOf(byLevel, [before, residentKiB(noded.pid)])};
};
