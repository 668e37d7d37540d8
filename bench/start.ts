/** From the start of the process to 'ready', against a Node that does nothing. */
import {spawn} from 'node:child_process';
import type {Benchmark} from './benchmark';
import {compare} from './figures';
import {startNoded} from './installed-noded';
import {ended} from './scratch';

async function emptyNodeMs(): Promise<number> {
  const begin = performance.now();
  const child = spawn(process.execPath, ['-e', '0'], {stdio: 'ignore'});
  if (!(await ended(child, 30_000)) || child.exitCode !== 0) throw new Error(`node -e 0 failed (${child.signalCode ?? child.exitCode})`);
  return performance.now() - begin;
}

export const start: Benchmark = async ({scratch, quick}) => {
  const noded: number[] = [];
  const empty: number[] = [];
  for (let round = 0; round < (quick ? 2 : 11); round++) {
    const running = await startNoded(scratch);
    noded.push(running.readyMs);
    await scratch.end(running.child);
    empty.push(await emptyNodeMs());
  }
  return {figures: [compare('start of the process to ready', 'ms', noded, empty, '`node -e 0`, start to end')], notes: []};
};
