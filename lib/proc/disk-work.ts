/**
 * Work with the files of the run directory. In memory it takes some microseconds, less than the way to a thread and
 * back, and is done at once. A disk may hang, and must not take the event loop with it: there each call of the system is
 * made on a thread of libuv's, and one piece of work begins when the one before it is done. So lines keep their order,
 * and a file is not removed before it is made.
 */
import * as fs from 'node:fs';

/** One call of the system, by its name in node:fs. */
interface Step {
  readonly call: 'close' | 'fstat' | 'open' | 'statfs' | 'unlink' | 'write';
  readonly args: readonly unknown[];
}

/**
 * Work whose steps somebody else takes, now or on a thread. Its result comes back from each `yield`, and its error is
 * thrown there.
 */
export type Work<T> = Generator<Step, T, unknown>;

function* step<T>(call: Step['call'], ...args: readonly unknown[]): Work<T> {
  return (yield {call, args}) as T;
}

export const closeFile = (fd: number): Work<void> => step('close', fd);
export const fileStats = (fd: number): Work<fs.Stats> => step('fstat', fd);
/** Makes files that only their owner may read. */
export const openFile = (path: string, flags: number): Work<number> => step('open', path, flags, 0o600);
export const filesystemStats = (path: string): Work<fs.StatsFs> => step('statfs', path);
export const unlinkFile = (path: string): Work<void> => step('unlink', path);
/** Gives the bytes that were written, which may be fewer. */
export const writeOnce = (fd: number, bytes: Uint8Array): Work<number> => step('write', fd, bytes);

/** Opens a file, and closes it again whatever comes of the work with it. */
export function* withFile<T>(path: string, flags: number, work: (fd: number) => Work<T>): Work<T> {
  const fd = yield* openFile(path, flags);
  try {
    return yield* work(fd);
  } finally {
    yield* closeFile(fd);
  }
}

type Done<T> = (error: Error | null, result?: T) => void;
type Blocking = Readonly<Record<`${Step['call']}Sync`, (...args: readonly unknown[]) => unknown>>;
type OnThread = Readonly<Record<Step['call'], (...args: readonly unknown[]) => void>>;

/** Does all of it at once. Throws what the work does not catch. */
export function doNow<T>(work: Work<T>): T {
  for (let next = work.next(); ; ) {
    if (next.done === true) return next.value;
    const {call, args} = next.value;
    let result: unknown;
    try {
      result = (fs as unknown as Blocking)[`${call}Sync`](...args);
    } catch (error) {
      next = work.throw(error);
      continue;
    }
    next = work.next(result);
  }
}

export class DiskWork {
  /** Each begins one piece of work, and tells whether it is done already. */
  private readonly waiting: (() => boolean)[] = [];
  private isBusy = false;
  private threaded = false;

  /** What is done from now on may have to wait for a disk: not on the loop. */
  useThread(): void {
    this.threaded = true;
  }

  get isThreaded(): boolean {
    return this.threaded;
  }

  /**
   * `begin` is called when all that was given before is done; and `done` with what came of it. In memory both are
   * called before this returns.
   */
  do<T>(begin: () => Work<T>, done: Done<T>): void {
    if (this.threaded) {
      this.waiting.push(() => this.onThread(begin, done));
      if (!this.isBusy) this.next();
      return;
    }
    let result: T;
    try {
      result = doNow(begin());
    } catch (error) {
      return done(error as Error);
    }
    done(null, result);
  }

  /** Resolves once all that was given until now is done, well or not. */
  passed(): Promise<void> {
    if (!this.isBusy) return Promise.resolve();
    return new Promise((resolve) => {
      this.waiting.push(() => {
        resolve();
        return true;
      });
    });
  }

  private next(): void {
    let begin: (() => boolean) | undefined;
    do {
      begin = this.waiting.shift();
      this.isBusy = begin !== undefined;
    } while (begin?.() === true);
  }

  private onThread<T>(begin: () => Work<T>, done: Done<T>): boolean {
    let work: Work<T>;
    let isOver = false;
    let hasLeft = false;
    const finish: Done<T> = (error, result) => {
      isOver = true;
      done(error, result);
      if (hasLeft) this.next();
    };
    const go = (resume: () => IteratorResult<Step, T>): void => {
      let next: IteratorResult<Step, T>;
      try {
        next = resume();
      } catch (error) {
        return finish(error as Error);
      }
      if (next.done === true) return finish(null, next.value);
      const {call, args} = next.value;
      (fs as unknown as OnThread)[call](...args, (error: Error | null, result: unknown) => go(() => (error === null ? work.next(result) : work.throw(error))));
    };
    go(() => (work = begin()).next());
    hasLeft = true;
    return isOver;
  }
}
