/** Memory of the daemon while very many calls that are waited for on few connections end, all at the same moment. */
import {execFileSync} from 'node:child_process';
import {closeSync, constants, openSync} from 'node:fs';
import {join} from 'node:path';
import {numbers, untilCounts} from './benchmark';
import type {Benchmark, Run} from './benchmark';
import {amount} from './figures';
import {startNoded} from './installed-noded';
import {peakKiB, resetPeak} from './peak-memory';
import {startPeer} from './peer-process';
import type {CollectorHandlers} from './peers/collector';

const wanted = 16;

/** MB that the daemon grew by at most, from when all calls ran to when all their answers had been sent. */
async function growthMB({scratch}: Run, count: number, latch: string): Promise<number> {
  const noded = await startNoded(scratch, {probed: true, config: `[limits]\nmax_calls = ${count}\n`});
  const collector = startPeer<CollectorHandlers>(scratch, 'collector');
  await collector.ask('start', {port: noded.port, count, wanted, fnName: 'latched', fnArgs: latch});
  await untilCounts(noded, count, 0);
  const {residentKiB: before} = await noded.memory!.ask('use', {});
  resetPeak(noded.pid);
  await collector.ask('wait', {});
  await untilCounts(noded, count, wanted);
  const opened = openSync(latch, constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    const collected = await collector.ask('collected', {});
    if (collected !== count) throw new Error(`only ${collected} of ${count} calls ended well`);
  } finally {
    closeSync(opened);
  }
  const peak = peakKiB(noded.pid);
  await scratch.end(collector.child);
  await scratch.end(noded.child);
  return ((peak - before) * 1024) / 1e6;
}

export const manyEnds: Benchmark = async (run) => {
  const count = run.quick ? 320 : 10_000;
  const latch = join(run.scratch.directory, 'gates', 'latch');
  execFileSync('mkfifo', ['-m', '600', latch]);
  const grown: number[] = [];
  for (const _round of numbers(0, run.rounds)) grown.push(await growthMB(run, count, latch));
  return {figures: [amount(`memory that ${count.toLocaleString('en-US')} ended waits through WaitForFunctions on ${wanted} connections take at most`, 'MB', grown, {atMost: 120})], notes: []};
};
