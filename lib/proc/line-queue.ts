/** Lines that wait to be appended to the log: all that have come when a write begins go in that one. */
import {errnoOf, messageOf} from '../base/errors';
import type {DiskWork, Work} from './disk-work';
import {writtenBefore} from './newest-segment';

/** Whole lines; `done` is told what came of them, and a failure of those without one is logged. */
interface Waiting {
  readonly lines: string;
  readonly done: ((error: Error | null) => void) | null;
}

export interface LineQueueOptions {
  readonly disk: DiskWork;
  readonly log: {warn(fields: object, message: string): void};
}

export class LineQueue {
  private waiting: Waiting[] = [];
  /** A write is given to the disk, and will take what waits when it begins. */
  private isTaken = false;

  constructor(
    private readonly options: LineQueueOptions,
    private readonly write: (lines: Buffer) => Work<void>,
  ) {}

  /** Written in this turn of the loop, if the disk lets it. */
  add(line: string): void {
    if (this.waiting.push({lines: line, done: null}) === 1) setImmediate(() => this.flush());
  }

  /** Written as soon as it can be, after what waits. */
  put(lines: string, done: (error: Error | null) => void): void {
    this.flush();
    this.waiting.push({lines, done});
    this.flush();
  }

  flush(): void {
    if (this.waiting.length === 0 || this.isTaken) return;
    this.isTaken = true;
    this.options.disk.do(() => this.writeAll(), () => {});
  }

  private *writeAll(): Work<void> {
    const those = this.waiting;
    this.waiting = [];
    this.isTaken = false;
    let failure: Error | null = null;
    let written = Infinity;
    try {
      yield* this.write(Buffer.from(those.map(({lines}) => lines).join('')));
    } catch (error) {
      failure = error as Error;
      written = writtenBefore(error);
    }
    this.tell(those, failure, written);
  }

  /** On a disk that is full the first of them may be whole, and count. */
  private tell(those: readonly Waiting[], failure: Error | null, written: number): void {
    let [end, lost] = [0, false];
    for (const {lines, done} of those) {
      end += Buffer.byteLength(lines);
      const isWhole = end <= written;
      lost ||= !isWhole && done === null;
      done?.(isWhole ? null : failure);
    }
    if (lost) this.options.log.warn({errno: errnoOf(failure)}, `cannot write to the log of calls: ${messageOf(failure)}`);
  }
}
