/** How long Ganeti's own RPC client waits for a node that has frozen under a call: with the adapter for noded, and without. */
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {existsSync} from 'node:fs';
import {join} from 'node:path';
import {ganetiShare} from '../spec/support/ganeti-node';
import type {Run} from './benchmark';
import {compare} from './figures';
import {endGaneti, freeze, ganetiBenchmark, startGaneti, untilAtRest} from './ganeti-daemons';
import type {GanetiKind} from './ganeti-daemons';
import type {Peer} from './peer-process';
import type {GanetiLoadHandlers} from './peers/ganeti-load';

const adapter = join(__dirname, '../contrib/ganeti');
const python = '/usr/bin/python3';
const startMs = 30_000;
const patienceMs = 300_000;

interface Way {
  readonly kind: GanetiKind;
  /** The directory with the adapter, or empty. */
  readonly site: string;
  /** Seconds that the class of the procedure has for a call. */
  readonly classTimeout: number;
  /** Of the adapter's times. */
  readonly scale: number;
}

/** From the moment the node freezes until the client tells that the call has failed. */
async function knownAfterS(run: Run, load: Peer<GanetiLoadHandlers>, {kind, site, classTimeout, scale}: Way): Promise<number> {
  const daemon = await startGaneti(run, kind, load);
  const words = [join(__dirname, 'ganeti-client.py'), ganetiShare, site, String(daemon.port), String(classTimeout), String(scale), 'test_delay', '[1000]'];
  const client = spawn(python, ['-B', ...words], {cwd: '/', env: {...process.env, ...daemon.env}, stdio: ['ignore', 'pipe', 'pipe'], timeout: patienceMs});
  run.scratch.own(client);
  let [answer, said] = ['', ''];
  client.stdout.on('data', (chunk: Buffer) => (answer += chunk.toString()));
  client.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const over = once(client, 'close') as Promise<[number | null]>;
  await Promise.race([untilAtRest(daemon, 1, startMs), over.then(() => Promise.reject(new Error(`Ganeti's client has ended: ${answer}${said}`)))]);
  freeze(daemon);
  const begin = performance.now();
  const [code] = await over;
  const tookMs = performance.now() - begin;
  // The time of its class is what ends a call without the adapter, or it did not get as far as the function.
  if (site === '' && tookMs < 900 * classTimeout) throw new Error(`Ganeti's client has not waited for the function: ${answer}`);
  if (code !== 0 || answer.trim() === '') throw new Error(`Ganeti's client does not say that the call has failed (exit ${code}): ${answer}${said}`);
  await endGaneti(run, daemon);
  return tookMs / 1_000;
}

export const ganetiFrozen = ganetiBenchmark('ganeti-frozen', async (run, load) => {
  if (!existsSync(adapter)) return {figures: [], notes: ['ganeti-frozen: left out, because there is no contrib/ganeti']};
  const lowered = run.quick ? 5 : 60;
  const noded: number[] = [];
  const classic: number[] = [];
  for (let at = 0; at < Math.min(run.rounds, 2); at++) {
    // Nobody computes anything meanwhile.
    const [sliced, whole] = await Promise.all([
      knownAfterS(run, load, {kind: 'noded', site: adapter, classTimeout: 900, scale: run.quick ? 0.1 : 1}),
      knownAfterS(run, load, {kind: 'original', site: '', classTimeout: lowered, scale: 1}),
    ]);
    noded.push(sliced);
    classic.push(whole);
  }
  return {
    figures: [compare('Ganeti: until its RPC client knows that a node has frozen under a call', 's', noded, classic, `without the adapter, the class timeout lowered to ${lowered} s (Ganeti has 900 s to a day)`)],
    notes: [],
  };
});
