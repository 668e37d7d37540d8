/** System calls of one call in the daemon itself. Information, no ratio. */
import {spawn, spawnSync} from 'node:child_process';
import {createReadStream, readdirSync} from 'node:fs';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import {ask, numbers, until} from './benchmark';
import type {Benchmark, Run} from './benchmark';
import {digits} from './figures';
import {startNoded} from './installed-noded';
import {ended} from './scratch';

const shown = 14;

const threadsOf = (pid: number): string[] => readdirSync(`/proc/${pid}/task`);

/** The system calls of these threads, by name. */
async function countIn(file: string, threads: ReadonlySet<string>): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for await (const line of createInterface({input: createReadStream(file)})) {
    // 'PID name(…) = …'; a call that another one interrupted is printed in two parts, the second as 'PID <... name resumed>'.
    const match = /^(\d+) +([a-z_0-9]+)\(/.exec(line);
    if (match === null) continue;
    const [, thread = '', name = ''] = match;
    if (threads.has(thread)) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** Runs `work` with strace attached to all threads of the process and to what it starts. */
async function traced({scratch}: Run, pid: number, file: string, work: () => Promise<void>): Promise<void> {
  const strace = spawn('strace', ['-f', '-qq', '-s', '0', '-e', 'signal=none', '-o', file, '-p', String(pid)], {stdio: 'ignore'});
  strace.on('error', () => {});
  scratch.own(strace);
  try {
    await until('strace', () => threadsOf(pid).every((thread) => isTraced(pid, thread)), 10_000);
    await work();
  } finally {
    strace.kill('SIGINT');
    await ended(strace, 10_000);
  }
}

function isTraced(pid: number, thread: string): boolean {
  const {stdout} = spawnSync('grep', ['TracerPid', `/proc/${pid}/task/${thread}/status`], {encoding: 'utf8'});
  return /TracerPid:\s*[1-9]/.test(stdout);
}

export const systemCalls: Benchmark = async (run) => {
  if (spawnSync('strace', ['-V']).error !== undefined) return {figures: [], notes: ['system calls: strace is not installed, so they were not counted']};
  const count = run.quick ? 20 : 300;
  const noded = await startNoded(run.scratch);
  const call = (): Promise<unknown> => ask(noded, 'PUT', '/StartFunction', {fn_name: 'trivial', fn_args: null, timeout: 60});
  for (const _warmUp of numbers(0, 20)) await call();
  const threads = new Set(threadsOf(noded.pid));
  const file = join(run.scratch.directory, 'strace.out');
  await traced(run, noded.pid, file, async () => {
    for (const _call of numbers(0, count)) await call();
  });
  const daemon = await countIn(file, threads);
  await run.scratch.end(noded.child);
  const total = [...daemon.values()].reduce((sum, calls) => sum + calls, 0);
  const top = [...daemon].sort(([, a], [, b]) => b - a).slice(0, shown).map(([name, calls]) => `${name} ${digits(calls / count)}`);
  return {
    figures: [],
    notes: [`system calls: ${digits(total / count)} in the daemon for a trivial call on a connection of its own (${top.join(', ')}, …)`],
  };
};
