/** Memory of the daemon per waiter, against an idle keep-alive connection to the same daemon. */
import {join} from 'node:path';
import {mkdirSync} from 'node:fs';
import {ask, numbers, untilCounts} from './benchmark';
import type {Benchmark, Run, Target} from './benchmark';
import {makeCertificates, tlsConfig} from './certificates';
import type {Certificates} from './certificates';
import {compare, digits, median} from './figures';
import type {Figure} from './figures';
import {startNoded} from './installed-noded';
import {startPeer} from './peer-process';
import type {Peer} from './peer-process';
import type {CrowdHandlers} from './peers/crowd';
import type {MemoryHandlers, MemoryUse} from './peers/memory-probe';
import {requestText} from './peers/raw-http';

interface Growth {
  /** KiB per connection: resident with only the connection, then with a wait on it; and the heap's part of the latter. */
  readonly idleKiB: number;
  readonly waiterKiB: number;
  readonly waiterHeapKiB: number;
}

async function memoryOf(memory: Peer<MemoryHandlers> | null): Promise<MemoryUse> {
  if (memory === null) throw new Error('this daemon has no memory probe');
  return memory.ask('use', {});
}

/** One daemon, empty, then with idle connections, then with a wait on each of them. All waits must be answered in the end. */
async function growth({scratch}: Run, count: number, certificates: Certificates | null): Promise<Growth> {
  const noded = await startNoded(scratch, {probed: true, tls: certificates !== null, config: certificates === null ? '' : tlsConfig(certificates)});
  const target: Target = {port: noded.port, certificates};
  const {fnc_id: callId} = await ask<{fnc_id: string}>(target, 'PUT', '/StartFunction', {fn_name: 'sleeper', fn_args: null, timeout: 0});
  const crowd = startPeer<CrowdHandlers>(scratch, 'crowd');
  const empty = await memoryOf(noded.memory);
  await crowd.ask('gather', {port: noded.port, connections: count, tls: certificates === null ? null : {ca: certificates.ca, ...certificates.master}});
  const idle = await memoryOf(noded.memory);
  await crowd.ask('sendAll', {request: requestText('PUT', '/WaitForFunction', {fnc_id: callId, timeout: 300})});
  await untilCounts(target, 1, count);
  const waiting = await memoryOf(noded.memory);
  await ask(target, 'PUT', '/AbortFunction', {fnc_id: callId, timeout: 60});
  const answered = await crowd.ask('answers', {expect: '"outcome":"aborted"'});
  if (answered !== count) throw new Error(`only ${answered} of ${count} waiters were answered`);
  await scratch.end(crowd.child);
  await scratch.end(noded.child);
  return {
    idleKiB: (idle.residentKiB - empty.residentKiB) / count,
    waiterKiB: (waiting.residentKiB - empty.residentKiB) / count,
    waiterHeapKiB: (waiting.heapKiB - empty.heapKiB) / count,
  };
}

async function measure(run: Run, count: number, certificates: Certificates | null): Promise<{readonly figure: Figure; readonly note: string}> {
  const rounds: Growth[] = [];
  for (const _round of numbers(0, run.rounds)) rounds.push(await growth(run, count, certificates));
  const kind = certificates === null ? 'plain' : 'TLS';
  const name = `memory per waiter, ${count.toLocaleString('en-US')} over ${kind} connections`;
  const waiter = rounds.map(({waiterKiB}) => waiterKiB);
  return {
    figure: compare(name, 'KiB', waiter, rounds.map(({idleKiB}) => idleKiB), 'the same connection, idle'),
    note: `waiters: of a ${kind} waiter's ${digits(median(waiter))} KiB resident, ${digits(median(rounds.map(({waiterHeapKiB}) => waiterHeapKiB)))} KiB are in V8's heap`,
  };
}

/** The kernel's memory for the sockets is in no process, and so in none of these figures. */
export const waiters: Benchmark = async (run) => {
  const directory = join(run.scratch.directory, 'certificates');
  mkdirSync(directory, {mode: 0o700});
  const plain = await measure(run, run.quick ? 500 : 10_000, null);
  const tls = await measure(run, run.quick ? 100 : 5_000, makeCertificates(directory));
  return {figures: [plain.figure, tls.figure], notes: [plain.note, tls.note]};
};
