/** Five thousand functions at once: what each costs the daemon, how long a start takes then, and how long they take to end. */
import {spawn} from 'node:child_process';
import {readdirSync} from 'node:fs';
import {numbers, until, untilCounts} from './benchmark';
import type {Benchmark, Run} from './benchmark';
import {amount, compare} from './figures';
import {startNoded} from './installed-noded';
import {startPeer} from './peer-process';
import type {LoadHandlers} from './peers/load-generator';
import {requestText} from './peers/raw-http';
import {compileFloor, functionPath} from './programs';
import {ended} from './scratch';
import {terminationMs} from './stop';

interface Crowd {
  /** Median time of a start, answered as soon as the function runs: of the first ones and of the last ones. */
  readonly firstMs: number;
  readonly lastMs: number;
  /** How many more descriptors the daemon had with all of them running than with the first ones. */
  readonly descriptors: number;
  readonly stopMs: number;
}

interface Sizes {
  readonly functions: number;
  /** How many of the first and of the last starts are timed, one after the other. */
  readonly timed: number;
}

const descriptorsOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

async function crowd({scratch}: Run, {functions, timed}: Sizes): Promise<Crowd> {
  const noded = await startNoded(scratch);
  const generator = startPeer<LoadHandlers>(scratch, 'load-generator');
  const starts = (fnName: string, count: number, connections: number): Promise<number> =>
    generator.ask('repeat', {port: noded.port, connections, count, request: requestText('PUT', '/StartFunction', {fn_name: fnName, fn_args: null, timeout: 0}), expect: '"call"', tls: null});
  // What is compiled late, is now: else the last starts would look better than the first.
  await starts('trivial', 4 * timed, 1);
  await untilCounts(noded, 0, 0);
  const firstMs = await starts('sleeper', timed, 1);
  await untilCounts(noded, timed, 0);
  const before = descriptorsOf(noded.pid);
  await starts('sleeper', functions - 2 * timed, 16);
  const lastMs = await starts('sleeper', timed, 1);
  await untilCounts(noded, functions, 0);
  const descriptors = descriptorsOf(noded.pid) - before;
  await scratch.end(generator.child);
  return {firstMs, lastMs, descriptors, stopMs: await terminationMs(noded.child)};
}

async function floorMs({scratch}: Run, floor: string, {functions}: Sizes): Promise<number> {
  const child = spawn(floor, [functionPath(scratch.directory, 'sleeper'), String(functions)], {stdio: ['pipe', 'pipe', 'inherit']});
  scratch.own(child);
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const closed = new Promise((resolve) => child.once('close', resolve));
  await until('the floor of a stop', () => text.startsWith('ready\n'));
  child.stdin.end();
  if (!(await ended(child, 60_000)) || child.exitCode !== 0) throw new Error(`stop-floor ended with ${child.signalCode ?? child.exitCode}`);
  await closed;
  return 1000 * Number(text.slice('ready\n'.length));
}

export const crowded: Benchmark = async (run) => {
  const sizes: Sizes = run.quick ? {functions: 300, timed: 50} : {functions: 5_000, timed: 250};
  const floor = compileFloor(run.scratch.directory, 'stop-floor');
  const crowds: Crowd[] = [];
  const floors: number[] = [];
  for (const _round of numbers(0, run.rounds)) {
    crowds.push(await crowd(run, sizes));
    floors.push(await floorMs(run, floor, sizes));
  }
  const pick = (what: keyof Crowd): number[] => crowds.map((one) => one[what]);
  const many = `${sizes.functions.toLocaleString('en-US')} running functions`;
  return {
    figures: [
      compare(`time of a start, the last of ${many}`, 'ms', pick('lastMs'), pick('firstMs'), 'the first', {atMost: 1.3}),
      amount(`descriptors of the daemon for ${many}`, 'more', pick('descriptors'), {atMost: 0}),
      compare(`SIGTERM to exit, ${many}`, 'ms', pick('stopMs'), floors, 'kill and reap in C', {atMost: 3}),
    ],
    notes: [],
  };
};
