/**
 * From a function's last instruction to its answer at the master, while a thousand other calls run, each with
 * its waiter; against the same programs and the 'exit' event of node:child_process.
 */
import {execFileSync} from 'node:child_process';
import {closeSync, constants, mkdirSync, openSync} from 'node:fs';
import {join} from 'node:path';
import {ask, askText, numbers, until, untilCounts} from './benchmark';
import type {Benchmark, Run, Status} from './benchmark';
import {compare, digits, percentile} from './figures';
import {startNoded} from './installed-noded';
import type {RunningNoded} from './installed-noded';
import {startPeer} from './peer-process';
import {functionPath} from './programs';
import type {Peer} from './peer-process';
import type {BareSpawnHandlers} from './peers/bare-spawn';
import type {MasterHandlers} from './peers/master';

interface Side {
  readonly firstGate: number;
  readonly take: () => Promise<number[]>;
}

/** Lets the function at a gate go on, once it is there: opening a fifo to write fails until somebody reads. */
async function open(run: Run, gate: number): Promise<void> {
  const path = join(run.scratch.directory, 'gates', String(gate));
  await until(`a function at gate ${gate}`, () => {
    try {
      closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENXIO') return false;
      throw error;
    }
  });
}

/** One after the other, so that each end is alone: its delay is the way of one answer, not a queue of them. */
async function endOneByOne(run: Run, {firstGate, take}: Side, from: number, count: number): Promise<number[]> {
  const lateMs: number[] = [];
  for (const gate of numbers(firstGate + from, count)) {
    await open(run, gate);
    const expected = lateMs.length + 1;
    await until('an end', async () => lateMs.push(...(await take())) >= expected);
  }
  return lateMs;
}

async function startMaster({scratch}: Run, noded: RunningNoded, gates: readonly number[]): Promise<Peer<MasterHandlers>> {
  const master = startPeer<MasterHandlers>(scratch, 'master');
  await master.ask('start', {port: noded.port, gates});
  await untilCounts(noded, gates.length, gates.length);
  return master;
}

async function startBare({scratch}: Run, gates: readonly number[]): Promise<Peer<BareSpawnHandlers>> {
  const bare = startPeer<BareSpawnHandlers>(scratch, 'bare-spawn');
  const directory = join(scratch.directory, 'bare');
  mkdirSync(directory);
  const running = await bare.ask('startGated', {program: functionPath(scratch.directory, 'gated'), directory, gates});
  if (running !== gates.length) throw new Error(`only ${running} of ${gates.length} processes run`);
  return bare;
}

function makeGates({scratch}: Run, gates: readonly number[]): void {
  execFileSync('xargs', ['mkfifo', '-m', '600'], {cwd: join(scratch.directory, 'gates'), input: gates.join('\n'), stdio: ['pipe', 'ignore', 'pipe']});
}

export const answerDelay: Benchmark = async (run) => {
  const {scratch, quick, rounds} = run;
  const [waiting, perRound] = quick ? [50, 10] : [1_000, 100];
  const total = waiting + rounds * perRound;
  makeGates(run, numbers(0, 2 * total));
  const noded = await startNoded(scratch);
  const master = await startMaster(run, noded, numbers(0, total));
  const bare = await startBare(run, numbers(total, total));
  const sides = {noded: {firstGate: 0, take: () => master.ask('takeLateMs', {})}, bare: {firstGate: total, take: () => bare.ask('takeLateMs', {})}};
  const nodedMs: number[][] = [];
  const bareMs: number[][] = [];
  await askText(noded, 'GET', '/metrics'); // the event loop's lag is counted from here
  for (const round of numbers(0, rounds)) {
    nodedMs.push(await endOneByOne(run, sides.noded, round * perRound, perRound));
    bareMs.push(await endOneByOne(run, sides.bare, round * perRound, perRound));
  }
  const {loop_lag: lag} = await ask<Status>(noded, 'GET', '/status');
  // Nobody waits any more: what is left has nobody to tell, and is ended with the daemon.
  await scratch.end(bare.child);
  await scratch.end(noded.child);
  await scratch.end(master.child);
  const figure = (what: string, share: number): ReturnType<typeof compare> =>
    compare(`function's end to answer at the master, ${waiting.toLocaleString('en-US')} calls waiting: ${what}`, 'ms', nodedMs.map((late) => percentile(late, share)), bareMs.map((late) => percentile(late, share)), "bare spawn, 'exit' event");
  return {figures: [figure('median', 0.5), figure('99th percentile', 0.99)], notes: [`answer-delay: noded's event loop came at most ${digits(lag.max * 1000)} ms late meanwhile`]};
};
