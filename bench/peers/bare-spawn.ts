/**
 * The floor: what node:child_process alone does with the same programs, in a process of its own that
 * holds nothing else. It starts them as noded does, each in a session of its own; without a spool,
 * a protocol, limits or anything kept.
 */
import {spawn} from 'node:child_process';
import type {ChildProcess, SpawnOptions} from 'node:child_process';
import {closeSync, openSync, readFileSync, unlinkSync, writeFileSync} from 'node:fs';
import {serve, wallClockMs} from './serve';

const running = new Set<ChildProcess>();

function start(program: string, stdio: NonNullable<SpawnOptions['stdio']>): ChildProcess {
  const child = spawn(program, [], {detached: true, cwd: '/', stdio});
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

function signalAll(signal: 'SIGTERM' | 'SIGKILL'): void {
  for (const {pid} of running) {
    try {
      if (pid !== undefined) process.kill(-pid, signal);
    } catch {
      // It has ended; its 'exit' is on the way.
    }
  }
}

/** How many programs ran to their end in the time, with always `atOnce` of them running. */
function spawnLoop({program, atOnce, durationMs}: {readonly program: string; readonly atOnce: number; readonly durationMs: number}): Promise<number> {
  return new Promise((resolve, reject) => {
    const until = performance.now() + durationMs;
    let ended = 0;
    const next = (): void => {
      const child = start(program, 'ignore');
      child.once('error', reject);
      child.once('exit', (code) => {
        if (code !== 0) reject(new Error(`${program} ended with ${code}`));
        if (performance.now() < until) {
          ended += 1;
          next();
        } else if (running.size === 0) resolve(ended / (durationMs / 1000));
      });
    };
    for (let lane = 0; lane < atOnce; lane++) next();
  });
}

/** Starts programs that go on until they are told to end. */
async function startMany({program, count}: {readonly program: string; readonly count: number}): Promise<number> {
  for (let at = 0; at < count; at++) {
    start(program, 'ignore').once('error', () => {});
    if (at % 16 === 15) await new Promise((resolve) => setImmediate(resolve));
  }
  return running.size;
}

/** From the last instruction of each gated program, as it wrote it, to its 'exit' event here. */
const lateMs: number[] = [];

async function startGated({program, directory, gates}: {readonly program: string; readonly directory: string; readonly gates: readonly number[]}): Promise<number> {
  for (const gate of gates) {
    const [input, output] = [`${directory}/${gate}.in`, `${directory}/${gate}.out`];
    writeFileSync(input, String(gate));
    const [stdin, stdout] = [openSync(input, 'r'), openSync(output, 'wx')];
    const child = start(program, [stdin, stdout, 'ignore']);
    closeSync(stdin);
    closeSync(stdout);
    child.once('exit', () => {
      const now = wallClockMs();
      lateMs.push(now - Number(readFileSync(output, 'latin1')) / 1e6);
      unlinkSync(input);
      unlinkSync(output);
    });
    if (gate % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return running.size;
}

const handlers = {
  spawnLoop,
  startMany,
  startGated,
  /** What has ended since it was last asked for. */
  takeLateMs: (_request: object): number[] => lateMs.splice(0),
};

export type BareSpawnHandlers = typeof handlers;

serve(handlers, () => {
  signalAll('SIGKILL');
  process.exit(0);
});

// As noded does: a process that is told to end ends what it has started, reaps it, and leaves.
process.once('SIGTERM', () => {
  const leave = (): void => {
    if (running.size === 0) process.exit(0);
  };
  for (const child of running) child.once('exit', leave);
  signalAll('SIGTERM');
  leave();
});
