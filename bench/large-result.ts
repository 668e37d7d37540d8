/** Memory of the daemon, and the stalls of its event loop, while a very large result is produced, checked, kept and fetched. */
import http from 'node:http';
import {ask, askText, numbers, until} from './benchmark';
import type {Benchmark, Run, Status} from './benchmark';
import {amount, digits, median} from './figures';
import {startNoded} from './installed-noded';
import type {RunningNoded} from './installed-noded';
import {peakKiB, resetPeak} from './peak-memory';

interface Passage {
  readonly grownMB: number;
  readonly stallMs: number;
  readonly producedMs: number;
  readonly fetchedMs: number;
}

/** Fetches an answer and keeps none of it; resolves with its length in bytes. */
function drain(port: number, callId: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = http.request({port, host: '127.0.0.1', method: 'PUT', path: '/WaitForFunction', agent: false, timeout: 120_000}, (response) => {
      let bytes = 0;
      response.on('data', (chunk: Buffer) => (bytes += chunk.length));
      response.on('error', reject);
      response.on('end', () => (response.statusCode === 200 ? resolve(bytes) : reject(new Error(`WaitForFunction: ${response.statusCode}`))));
    });
    request.on('timeout', () => request.destroy(new Error('the large result does not come')));
    request.on('error', reject);
    request.end(JSON.stringify({fnc_id: callId, timeout: 0}));
  });
}

/** Waits in a way that does not fetch. */
function untilEnded(noded: RunningNoded): Promise<void> {
  return until('the end of the large result', async () => {
    const {counts} = await ask<Status>(noded, 'GET', '/status');
    return counts.running + counts.starting === 0;
  }, 120_000);
}

async function passage({scratch}: Run, bytes: number): Promise<Passage> {
  const noded = await startNoded(scratch, {probed: true});
  await ask(noded, 'PUT', '/StartFunction', {fn_name: 'filler', fn_args: 2_000_000, timeout: 60}); // what is loaded or compiled late, is now
  const {residentKiB: before} = await noded.memory!.ask('use', {});
  resetPeak(noded.pid);
  await askText(noded, 'GET', '/metrics'); // the event loop's lag is counted from here
  const begin = performance.now();
  const {fnc_id: callId} = await ask<{fnc_id: string}>(noded, 'PUT', '/StartFunction', {fn_name: 'filler', fn_args: bytes, timeout: 0});
  await untilEnded(noded);
  const produced = performance.now();
  const received = await drain(noded.port, callId);
  const fetched = performance.now();
  const {loop_lag: lag} = await ask<Status>(noded, 'GET', '/status');
  if (received < bytes) throw new Error(`only ${received} of ${bytes} bytes arrived`);
  const grownMB = ((peakKiB(noded.pid) - before) * 1024) / 1e6;
  await scratch.end(noded.child);
  return {grownMB, stallMs: lag.max * 1000, producedMs: produced - begin, fetchedMs: fetched - produced};
}

export const largeResult: Benchmark = async (run) => {
  const bytes = run.quick ? 50_000_000 : 1_000_000_000;
  const rounds: Passage[] = [];
  for (const _round of numbers(0, run.rounds)) rounds.push(await passage(run, bytes));
  const size = `${digits(bytes / 1e9)} GB`;
  const pick = (what: keyof Passage): number[] => rounds.map((one) => one[what]);
  return {
    figures: [
      amount(`memory of the daemon while a result of ${size} is produced, kept and fetched: growth at most`, 'MB', pick('grownMB'), {atMost: 64}),
      amount('longest stall of the event loop meanwhile', 'ms', pick('stallMs'), {atMost: 50}),
    ],
    notes: [`large-result: produced and checked in ${digits(median(pick('producedMs')) / 1000)} s, fetched in ${digits(median(pick('fetchedMs')) / 1000)} s`],
  };
};
