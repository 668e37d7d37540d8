/** From SIGTERM to the end of the process, with many running functions, against a Node that only spawns, signals and reaps. */
import {numbers, untilCounts} from './benchmark';
import type {Benchmark, Run} from './benchmark';
import {compare} from './figures';
import {startNoded} from './installed-noded';
import {startPeer} from './peer-process';
import {functionPath} from './programs';
import type {BareSpawnHandlers} from './peers/bare-spawn';
import type {CrowdHandlers} from './peers/crowd';
import {requestText} from './peers/raw-http';
import {ended} from './scratch';
import type {ChildProcess} from 'node:child_process';

const patienceMs = 120_000;

/** From SIGTERM to the end of a process that must then exit 0. */
export async function terminationMs(child: ChildProcess): Promise<number> {
  const begin = performance.now();
  child.kill('SIGTERM');
  if (!(await ended(child, patienceMs))) throw new Error(`still there ${patienceMs} ms after SIGTERM`);
  if (child.exitCode !== 0) throw new Error(`ended with ${child.signalCode ?? child.exitCode}`);
  return performance.now() - begin;
}

/** Every call has its waiter, and every waiter must get its answer before noded is gone. */
async function nodedMs({scratch}: Run, functions: number): Promise<number> {
  const noded = await startNoded(scratch);
  const crowd = startPeer<CrowdHandlers>(scratch, 'crowd');
  await crowd.ask('gather', {port: noded.port, connections: functions, tls: null});
  await crowd.ask('sendAll', {request: requestText('PUT', '/StartFunction', {fn_name: 'sleeper', fn_args: null, timeout: 300})});
  await untilCounts(noded, functions, functions);
  const tookMs = await terminationMs(noded.child);
  const answered = await crowd.ask('answers', {expect: '"outcome":"shutdown"'});
  if (answered !== functions) throw new Error(`only ${answered} of ${functions} waiters were told of the shutdown`);
  await scratch.end(crowd.child);
  return tookMs;
}

async function bareMs({scratch}: Run, functions: number): Promise<number> {
  const bare = startPeer<BareSpawnHandlers>(scratch, 'bare-spawn');
  const running = await bare.ask('startMany', {program: functionPath(scratch.directory, 'sleeper'), count: functions});
  if (running !== functions) throw new Error(`only ${running} of ${functions} processes run`);
  return terminationMs(bare.child);
}

export const stop: Benchmark = async (run) => {
  const functions = run.quick ? 30 : 500;
  const noded: number[] = [];
  const bare: number[] = [];
  for (const _round of numbers(0, run.rounds)) {
    noded.push(await nodedMs(run, functions));
    bare.push(await bareMs(run, functions));
  }
  return {figures: [compare(`SIGTERM to exit, ${functions} running functions`, 'ms', noded, bare, 'spawn, kill and reap in Node')], notes: []};
};
