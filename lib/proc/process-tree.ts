/**
 * What an ended function process left behind, found through proc(5) and killed, whatever it did to hide:
 * its process group and session, everything that carries its key in the environment (setsid and double
 * forks inherit it), and all that descends from those (DESIGN.md section 6). A process that clears its
 * environment, starts a session of its own and loses its parent, all before the next look, is not found;
 * a fork server finds it, because it is the subreaper.
 */
import {readFileSync, readdirSync} from 'node:fs';
import {monotonicMs} from '../base/duration';
import {errnoOf, isExhausted, messageOf} from '../base/errors';
import {limits} from '../base/limits';

/** A function process that has ended (or, after a crash of noded, must end). */
export interface TreeRoot {
  readonly key: string;
  /** 0 if it is not known. */
  readonly pid: number;
  /** Field 22 of proc(5) stat when it was started; null if noded has reaped the process itself. */
  readonly startTime: number | null;
  /** Its fork server may have died between fork and exec, when a process carries nothing yet. */
  readonly mayBeStarting?: boolean;
}

interface ProcessInfo {
  readonly pid: number;
  readonly ppid: number;
  readonly group: number;
  readonly session: number;
  readonly startTime: number;
}

interface Tracked {
  readonly root: TreeRoot;
  rounds: number;
  /** Looks in a row that found nothing of it. */
  quiet: number;
}

/** A file of a process in proc(5); null for one that is gone, or another user's. Throws if nothing can be read at present. */
function readOf(pid: number, name: 'stat' | 'environ'): string | null {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch (error) {
    if (isExhausted(error)) throw error;
    return null;
  }
}

/** Fields 3 and on of proc(5) stat. A zombie has them still. */
function readStat(pid: number): readonly string[] | null {
  // The program's name, in parentheses, may hold anything: count from the last one.
  const stat = readOf(pid, 'stat');
  return stat === null ? null : stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

const startTimeField = 19;

/** Start time of a process that noded has not reaped, although it may have ended; 0 if there is none or it cannot be read. */
export function startTimeOf(pid: number): number {
  try {
    return Number(readStat(pid)?.[startTimeField] ?? 0);
  } catch {
    return 0;
  }
}

/** Session, group, parent and start time of a process; null for one that is gone or a zombie. Throws if nothing can be read at present. */
function readProcess(pid: number): ProcessInfo | null {
  const fields = readStat(pid);
  if (fields === null || fields[0] === 'Z' || fields[0] === 'X') return null;
  return {pid, ppid: Number(fields[1]), group: Number(fields[2]), session: Number(fields[3]), startTime: Number(fields[startTimeField])};
}

function keyOf(pid: number): string | null {
  return /(?:^|\0)NODED_CALL_KEY=([0-9a-f]{16})(?:\0|$)/.exec(readOf(pid, 'environ') ?? '')?.[1] ?? null;
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export interface ProcessTreesOptions {
  readonly log: {warn(fields: object, message: string): void};
}

export class ProcessTrees {
  private readonly tracked = new Map<string, Tracked>();
  private running: Promise<void> | null = null;
  /** Looks are paced, however many ends come: a look at every one of them would be most of what noded does. */
  private nextLookAt = -Infinity;
  private awaited = 0;
  /** Looks in a row that could not be made. */
  private failures = 0;
  private endPause: () => void = () => {};

  constructor(private readonly options: ProcessTreesOptions) {}

  /** Kills what is left of an ended function process, soon. Many are looked for in one look. */
  sweep(root: TreeRoot): void {
    this.tracked.set(root.key, {root, rounds: 0, quiet: 0});
    this.running ??= this.run();
  }

  /** Kills a function process of which nobody knows the end, if its pid is known to be still its own; what it started may go on. */
  killLeader({key, pid, startTime}: TreeRoot): void {
    if (pid === 0 || startTime === null || startTime === 0 || startTimeOf(pid) !== startTime) return;
    this.signal(key, pid);
  }

  /** Resolves when nothing is left, or what is left cannot be killed. */
  async idle(): Promise<void> {
    this.awaited += 1;
    this.endPause();
    while (this.running !== null) await this.running;
    this.awaited -= 1;
  }

  private async run(): Promise<void> {
    await nextTurn(); // so that ends of the same turn share one look
    while (this.tracked.size > 0) {
      await this.pause();
      const begin = monotonicMs();
      await this.look().then(() => (this.failures = 0), (error: unknown) => this.missLook(error));
      const end = monotonicMs();
      this.nextLookAt = end + Math.max(this.failures > 0 ? limits.sweepRetryMs : limits.sweepPauseMs, limits.sweepPauseFactor * (end - begin));
    }
    this.running = null;
  }

  /** Until the next look is due, or as short as may be while somebody waits for the last one. */
  private pause(): Promise<void> {
    const dueMs = this.nextLookAt - monotonicMs();
    if (dueMs <= 0) return Promise.resolve();
    const isAwaited = this.awaited > 0 && this.failures === 0;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, isAwaited ? Math.min(dueMs, limits.sweepPauseMs) : dueMs);
      this.endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async look(): Promise<void> {
    const looked = [...this.tracked.values()];
    const processes = await this.snapshot();
    const found = this.descendants(processes, await this.match(processes, looked));
    for (const [pid, tracked] of found) this.kill(processes.get(pid)!, tracked);
    const survivors = new Set(found.values());
    for (const tracked of looked) {
      tracked.quiet = survivors.has(tracked) ? 0 : tracked.quiet + 1;
      if (tracked.quiet >= (tracked.root.mayBeStarting === true ? limits.sweepLooksAtStart : limits.sweepLooks)) this.forget(tracked);
      else if (tracked.quiet === 0 && ++tracked.rounds >= limits.sweepRounds) this.giveUp(tracked, [...found].filter(([, owner]) => owner === tracked).map(([pid]) => pid));
    }
  }

  /** Without descriptors nothing can be seen: what is to be found then is looked for again. */
  private missLook(error: unknown): void {
    this.failures += 1;
    if (this.failures === 1) this.options.log.warn({calls: this.tracked.size}, `cannot look for what functions left behind, and tries again: ${messageOf(error)}`);
    if (this.failures >= limits.sweepRetries) for (const tracked of [...this.tracked.values()]) this.giveUp(tracked, []);
  }

  private async snapshot(): Promise<Map<number, ProcessInfo>> {
    const processes = new Map<number, ProcessInfo>();
    let count = 0;
    for (const name of readdirSync('/proc')) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || pid === process.pid) continue;
      const info = readProcess(pid);
      if (info !== null) processes.set(pid, info);
      if (++count % limits.sliceSize === 0) await nextTurn();
    }
    return processes;
  }

  private async match(processes: ReadonlyMap<number, ProcessInfo>, looked: readonly Tracked[]): Promise<Map<number, Tracked>> {
    const byPid = new Map<number, Tracked>();
    for (const tracked of looked) {
      const {pid, startTime} = tracked.root;
      const holder = processes.get(pid);
      // While a group or session lives, its number is not given out again; so what is left of the group of a process
      // that was reaped just now is its own. After a crash nobody knows how often the number was used since.
      const isOwn = startTime === null ? holder === undefined : holder?.startTime === startTime;
      if (pid !== 0 && isOwn) byPid.set(pid, tracked);
    }
    const found = new Map<number, Tracked>();
    let count = 0;
    for (const info of processes.values()) {
      if (++count % limits.sliceSize === 0) await nextTurn();
      const tracked = byPid.get(info.session) ?? byPid.get(info.group) ?? this.tracked.get(keyOf(info.pid) ?? '');
      if (tracked !== undefined) found.set(info.pid, tracked);
    }
    return found;
  }

  private descendants(processes: ReadonlyMap<number, ProcessInfo>, found: Map<number, Tracked>): Map<number, Tracked> {
    for (let before = -1; before !== found.size; ) {
      before = found.size;
      for (const {pid, ppid} of processes.values()) {
        const tracked = found.get(ppid);
        if (tracked !== undefined && !found.has(pid)) found.set(pid, tracked);
      }
    }
    return found;
  }

  private kill(info: ProcessInfo, {root}: Tracked): void {
    // Between the look and now the pid may have become somebody else's.
    if (readProcess(info.pid)?.startTime === info.startTime) this.signal(root.key, info.pid);
  }

  private signal(key: string, pid: number): void {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if (errnoOf(error) !== 'ESRCH') this.options.log.warn({key, pid}, `cannot kill what a function left behind: ${messageOf(error)}`);
    }
  }

  private giveUp(tracked: Tracked, pids: readonly number[]): void {
    this.options.log.warn({key: tracked.root.key, pids}, 'what a function left behind cannot be killed');
    this.forget(tracked);
  }

  /** A root that was asked for again during the look stays. */
  private forget(tracked: Tracked): void {
    if (this.tracked.get(tracked.root.key) === tracked) this.tracked.delete(tracked.root.key);
  }
}
