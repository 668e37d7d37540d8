/** Ganeti's own node daemon, and noded in its place: each in the foreground, for a node of its own below a directory of the run. */
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {existsSync, mkdirSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import type {TlsPaths} from '../spec/support/daemon';
import {makeGanetiCertificates} from '../spec/support/ganeti-certificates';
import {ganetiProblem, ganetiShare, makeGanetiNode} from '../spec/support/ganeti-node';
import {childrenOf, forkServersIn, isAlive, processesWith} from '../spec/support/processes';
import {until} from './benchmark';
import type {Benchmark, Measured, Run} from './benchmark';
import {startPeer} from './peer-process';
import type {Peer} from './peer-process';
import type {GanetiLoadHandlers} from './peers/ganeti-load';
import {freePort} from './webhook';

/** `original` is Ganeti's with its default options; the other two have the option of that name. */
export type GanetiKind = 'noded' | 'original' | 'original --no-mlock';

export const originals: readonly GanetiKind[] = ['original', 'original --no-mlock'];
export const kinds: readonly GanetiKind[] = ['noded', ...originals];

/** As the table has it. */
export const nameOf = (kind: GanetiKind): string => (kind === 'noded' ? kind : `Ganeti's own, ${kind === 'original' ? 'default options' : '`--no-mlock`'}`);

export interface GanetiDaemon {
  readonly kind: GanetiKind;
  readonly child: ChildProcess;
  readonly pid: number;
  readonly port: number;
  /** What a master candidate has. */
  readonly tls: TlsPaths;
  /** The environment by which every process of this node can be told. */
  readonly env: Readonly<Record<string, string>>;
  readonly runDir: string;
}

const readyMs = 60_000;

function programOf(kind: GanetiKind, directory: string): string[] {
  if (kind === 'noded') return [process.execPath, join(directory, 'bin/ganeti-noded')];
  return [join(ganetiShare, 'ganeti-noded'), ...(kind === 'original --no-mlock' ? ['--no-mlock'] : [])];
}

/** All processes of a node, those without a parent too. */
export function processesOf({env}: Pick<GanetiDaemon, 'env'>): number[] {
  return processesWith(`GANETI_ROOTDIR=${env.GANETI_ROOTDIR}`);
}

function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended meanwhile.
    }
  }
}

const descendants = (pid: number): number[] => [pid, ...childrenOf(pid).flatMap(descendants)];

/** As if the machine stood still: its functions do, too, or one of Ganeti's own would still answer. */
export const freeze = ({pid}: GanetiDaemon): void => signalAll(descendants(pid), 'SIGSTOP');

/** The fork server of noded; its functions are its children. */
export function forkServerOf({runDir}: GanetiDaemon): number {
  const [pid] = forkServersIn(runDir);
  if (pid === undefined) throw new Error('noded has no fork server');
  return pid;
}

/** The processes that run functions now. */
export function functionsOf(daemon: GanetiDaemon): number[] {
  return childrenOf(daemon.kind === 'noded' ? forkServerOf(daemon) : daemon.pid).filter(isAlive);
}

/** Memory that is no other process's too, in KiB; 0 for a process that has just ended. */
export function privateKiB(pid: number): number {
  try {
    const lines = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1').matchAll(/^Private_(?:Clean|Dirty):\s*(\d+) kB/gm);
    return [...lines].reduce((sum, [, kiB]) => sum + Number(kiB), 0);
  } catch {
    return 0;
  }
}

/**
 * Until at least so many functions run, and their processes have come to rest: one that has just been forked has hardly
 * begun to write to its memory, and one of Ganeti's own has not even its caller's request yet.
 */
export async function untilAtRest(daemon: GanetiDaemon, atLeast: number, timeoutMs: number): Promise<void> {
  const looks: string[] = [];
  const isQuiet = (): boolean => {
    const sizes = functionsOf(daemon).map(privateKiB);
    return sizes.length >= atLeast && looks.push(sizes.join()) >= 5 && new Set(looks.slice(-5)).size === 1;
  };
  await until(`${daemon.kind} runs ${atLeast} calls`, isQuiet, timeoutMs);
}

/** Starts one on a free port of loopback; resolves when it has answered a call. */
export async function startGaneti({scratch}: Run, kind: GanetiKind, load: Peer<GanetiLoadHandlers>): Promise<GanetiDaemon> {
  const directory = scratch.newRunDir();
  mkdirSync(directory);
  const node = makeGanetiNode(directory);
  const tls = makeGanetiCertificates(node);
  const port = await freePort();
  const env = {GANETI_ROOTDIR: node.root, GANETI_HOSTNAME: node.env.GANETI_HOSTNAME ?? ''};
  const [program = '', ...words] = programOf(kind, scratch.directory);
  const child = spawn(program, [...words, '-f', '-p', String(port), '-b', '127.0.0.1'], {cwd: '/', env: {...process.env, ...env}, stdio: ['ignore', 'ignore', 'pipe']});
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-10_000)));
  child.on('error', (error) => (said += error.message));
  scratch.own(child);
  // Functions outlive both daemons, and a fork server waits for a next one: nothing of that is wanted here.
  scratch.atEnd(() => signalAll(processesOf({env}), 'SIGKILL'));
  const daemon = {kind, child, pid: child.pid ?? 0, port, tls, env, runDir: join(node.root, 'var/run/ganeti-noded')};
  await until(`${kind} answers`, async () => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) throw new Error(`${kind} has ended: ${said}`);
    return load.ask('version', {port, tls}).then(() => true, () => false);
  }, readyMs).catch((error: Error) => {
    throw new Error(`${error.message}; it said: ${said}`);
  });
  // Ganeti's own processes outlive their answers for a moment.
  await until(`nothing runs in ${kind}`, () => functionsOf(daemon).length === 0);
  return daemon;
}

/** Ends it and whatever it has started. */
export async function endGaneti({scratch}: Run, daemon: GanetiDaemon): Promise<void> {
  signalAll(processesOf(daemon), 'SIGKILL');
  await scratch.end(daemon.child);
  await until(`no process of ${daemon.kind} is left`, () => processesOf(daemon).length === 0);
}

/** Why there is nothing to measure; null if there is. */
function problemOf({scratch}: Run): string | null {
  return ganetiProblem() ?? (existsSync(join(scratch.directory, 'bin/ganeti-noded')) ? null : 'there is no bin/ganeti-noded');
}

/** A benchmark that is left out, and says so, where it cannot be run. */
export function ganetiBenchmark(name: string, measure: (run: Run, load: Peer<GanetiLoadHandlers>) => Promise<Measured>): Benchmark {
  return async (run) => {
    const problem = problemOf(run);
    if (problem !== null) return {figures: [], notes: [`${name}: left out, because ${problem}`]};
    return measure(run, startPeer<GanetiLoadHandlers>(run.scratch, 'ganeti-load'));
  };
}
