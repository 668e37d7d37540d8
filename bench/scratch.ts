/** What a run makes, and how it is given back, also when the run fails: directories and processes. */
import type {ChildProcess} from 'node:child_process';
import {mkdtempSync, rmSync, statfsSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

const tmpfsMagic = 0x01021994;
/** noded: SIGTERM, then a second one that kills its functions, then SIGKILL. */
const stopLadder = ['SIGTERM', 'SIGTERM', 'SIGKILL'] as const;
const rungMs = 5_000;

/** Run directories stand on a tmpfs in production (/run); so they do here, if there is one. */
function memoryDirectory(): string {
  try {
    return statfsSync('/dev/shm').type === tmpfsMagic ? '/dev/shm' : tmpdir();
  } catch {
    return tmpdir();
  }
}

/** Resolves when the process has ended, or false after `timeoutMs`. */
export function ended(child: ChildProcess, timeoutMs: number): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(true);
  return new Promise((resolve) => {
    const onExit = (): void => {
      clearTimeout(timer);
      resolve(true);
    };
    const timer = setTimeout(() => {
      child.off('exit', onExit);
      resolve(false);
    }, timeoutMs);
    child.once('exit', onExit);
  });
}

export class Scratch {
  /** Programs, functions and settings: a filesystem that programs may run from. */
  readonly directory = mkdtempSync(join(tmpdir(), 'noded-bench-'));
  private readonly memory = mkdtempSync(join(memoryDirectory(), 'noded-bench-'));
  private readonly children = new Set<ChildProcess>();
  private readonly steps: (() => void)[] = [];
  private named = 0;
  private closing = false;

  /** A path for a new run directory. */
  newRunDir(): string {
    this.named += 1;
    return join(this.memory, `run-${this.named}`);
  }

  /** Where run directories are, for the facts. */
  get runFilesystem(): string {
    return statfsSync(this.memory).type === tmpfsMagic ? 'tmpfs' : 'not a tmpfs';
  }

  /** Takes over a process: whatever happens, it ends with the run. */
  own(child: ChildProcess): void {
    // A benchmark that has not noticed yet that the run is over.
    if (this.closing) child.kill('SIGKILL');
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
  }

  /** Ends one process, gently first. */
  async end(child: ChildProcess): Promise<void> {
    // A measuring process ends when its channel does, and first ends what it has started: no signal before that.
    if (child.connected) {
      child.disconnect();
      if (await ended(child, rungMs)) return;
    }
    for (const signal of stopLadder) {
      child.kill(signal);
      if (await ended(child, rungMs)) return;
    }
  }

  /** What must be done before processes are ended, at the end of a benchmark or of the run. */
  atEnd(step: () => void): void {
    this.steps.push(step);
  }

  /** Ends all that still runs. */
  async endAll(): Promise<void> {
    for (const step of this.steps.splice(0)) step();
    await Promise.all([...this.children].map((child) => this.end(child)));
  }

  async remove(): Promise<void> {
    this.closing = true;
    await this.endAll();
    for (const directory of [this.directory, this.memory]) rmSync(directory, {recursive: true, force: true, maxRetries: 10});
  }
}
