/** Runs bench/spawn-floor.c. */
import {spawn} from 'node:child_process';
import {ended} from './scratch';
import type {Scratch} from './scratch';

const patienceMs = 120_000;

/** Resolves with programs per second: `count` of them, `atOnce` at a time. */
export type SpawnFloor = (program: string, count: number, atOnce: number) => Promise<number>;

export function startSpawnFloor(scratch: Scratch, floor: string): SpawnFloor {
  return async (program, count, atOnce) => {
    const child = spawn(floor, [program, String(count), String(atOnce)], {stdio: ['ignore', 'pipe', 'inherit']});
    scratch.own(child);
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const closed = new Promise((resolve) => child.once('close', resolve));
    if (!(await ended(child, patienceMs))) throw new Error(`spawn-floor is not done after ${patienceMs} ms`);
    await closed;
    if (child.exitCode !== 0) throw new Error(`spawn-floor ended with ${child.signalCode ?? child.exitCode}`);
    return count / Number(text);
  };
}
