/** The same trivial calls over TLS, and by a daemon that keeps very many results; each against the plain or empty daemon beside it. */
import {mkdirSync} from 'node:fs';
import {join} from 'node:path';
import {ask} from './benchmark';
import type {Benchmark, Run, Status} from './benchmark';
import {fewResults, trivialCalls} from './calls';
import {makeCertificates, tlsConfig} from './certificates';
import {compare, digits} from './figures';
import {startNoded} from './installed-noded';
import type {RunningNoded} from './installed-noded';
import {startPeer} from './peer-process';
import type {Peer} from './peer-process';
import type {LoadHandlers} from './peers/load-generator';
import {requestText} from './peers/raw-http';
import {residentKiB} from './peers/serve';
import type {Load} from './webhook';

const connections = 32;

/** Calls per second of two daemons in turns, after a warm-up of both. Who goes first changes from round to round. */
async function race({quick, rounds}: Run, generator: Peer<LoadHandlers>, first: Load, second: Load): Promise<{readonly first: number[]; readonly second: number[]}> {
  const durationMs = quick ? 300 : 2_000;
  const rate = async ({pid: _pid, ...load}: Load): Promise<number> => (await generator.ask('load', {...load, connections, durationMs})).callsPerSecond;
  const results = {first: [] as number[], second: [] as number[]};
  for (const load of [first, second]) await rate(load);
  for (let at = 0; at < rounds; at++) {
    const turns = [async () => results.first.push(await rate(first)), async () => results.second.push(await rate(second))];
    for (const turn of at % 2 === 1 ? turns.reverse() : turns) await turn();
  }
  return results;
}

export const callsOverTls: Benchmark = async (run) => {
  const {scratch} = run;
  const directory = join(scratch.directory, 'calls-certificates');
  mkdirSync(directory, {mode: 0o700});
  const certificates = makeCertificates(directory);
  const secured = await startNoded(scratch, {tls: true, config: tlsConfig(certificates) + fewResults});
  const plain = await startNoded(scratch, {config: fewResults});
  const generator = startPeer<LoadHandlers>(scratch, 'load-generator');
  const {first, second} = await race(run, generator, trivialCalls(secured, {ca: certificates.ca, ...certificates.master}), trivialCalls(plain));
  return {figures: [compare(`trivial calls, ${connections} connections over TLS`, 'calls/s', first, second, 'plain HTTP', {atLeast: 0.85})], notes: []};
};

/** Results of 10 kB each, by as many calls. */
async function fill({pid: _pid, port}: RunningNoded, generator: Peer<LoadHandlers>, count: number, resultBytes: number): Promise<void> {
  const request = requestText('PUT', '/StartFunction', {fn_name: 'filler', fn_args: resultBytes, timeout: 60});
  await generator.ask('repeat', {port, connections, count, request, expect: '"outcome":"ok"', tls: null}, 600_000);
}

export const callsBesideResults: Benchmark = async (run) => {
  const {scratch, quick} = run;
  const kept = quick ? 2_000 : 100_000;
  const resultBytes = 10_000;
  // Full to the brim: an old result goes for every new one, in both.
  const full = await startNoded(scratch, {config: `[limits]\nmax_results = ${kept}\n`});
  const empty = await startNoded(scratch, {config: fewResults});
  const generator = startPeer<LoadHandlers>(scratch, 'load-generator');
  const before = residentKiB(full.pid);
  await fill(full, generator, kept, resultBytes);
  const {counts} = await ask<Status>(full, 'GET', '/status');
  if (counts.ended !== kept) throw new Error(`${counts.ended} ended calls are kept, and not ${kept}`);
  const after = residentKiB(full.pid);
  const {first, second} = await race(run, generator, trivialCalls(full), trivialCalls(empty));
  const what = `${kept.toLocaleString('en-US')} ended calls and ${digits((kept * resultBytes) / 1e9)} GB of results kept`;
  return {
    figures: [compare(`trivial calls, ${connections} connections, ${what}`, 'calls/s', first, second, 'at most 1,000 small ones kept', {atLeast: 0.9})],
    notes: [`calls-retained: the daemon had ${digits(before / 1024)} MiB resident before it kept them, and ${digits(after / 1024)} MiB after`],
  };
};
