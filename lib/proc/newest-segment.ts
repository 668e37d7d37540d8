/** The segment of the log that noded appends to (doc/formats.md, "The log"). */
import {constants} from 'node:fs';
import {closeFile, fileStats, openFile, writeOnce} from './disk-work';
import type {Work} from './disk-work';
import {segmentHead} from './log-lines';
import type {SegmentFiles} from './segment-files';

const {O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY} = constants;

const systemError = (code: string, message: string, written = 0): Error => Object.assign(new Error(`${code}: ${message}`), {code, written});

/** Of one write: a line must not be cut in two by somebody else's. */
function* writeWhole(fd: number, bytes: Buffer): Work<void> {
  const written = yield* writeOnce(fd, bytes);
  if (written < bytes.length) throw systemError('ENOSPC', `only ${written} of ${bytes.length} bytes were written`, written);
}

/** How many bytes of lines stand in the log all the same when an append has failed. */
export const writtenBefore = (error: unknown): number => Math.max(0, ((error as {readonly written?: number}).written ?? 0) - 1);

export class NewestSegment {
  /** 0: there is none yet. */
  number = 0;
  fd = -1;

  /** `retire` is told of the one before, which it closes. */
  constructor(
    private readonly files: SegmentFiles,
    private readonly retire: (number: number, fd: number) => Work<void>,
  ) {}

  /** Goes on with one that is there. */
  *resume(number: number): Work<void> {
    yield* this.use(number, yield* openFile(this.files.path(number), O_WRONLY | O_APPEND | O_NOFOLLOW));
  }

  /** Makes another one. If that cannot be, the one before goes on. */
  *begin(number: number): Work<void> {
    const fd = yield* openFile(this.files.path(number), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW);
    try {
      yield* writeWhole(fd, Buffer.from(segmentHead));
    } catch (error) {
      yield* closeFile(fd);
      yield* this.files.remove(number);
      throw error;
    }
    yield* this.use(number, fd);
  }

  /**
   * Appends whole lines. Gives its size then, or 0 if nobody would find them, because its name was removed: nothing is
   * appended then.
   */
  *append(lines: Buffer): Work<number> {
    const {nlink, size} = yield* fileStats(this.fd);
    if (nlink === 0) return 0;
    const bytes = Buffer.concat([Buffer.from('\n'), lines]);
    yield* writeWhole(this.fd, bytes);
    return size + bytes.length;
  }

  *size(): Work<number> {
    const {size} = yield* fileStats(this.fd);
    return size;
  }

  private *use(number: number, fd: number): Work<void> {
    const {number: formerNumber, fd: former} = this;
    this.fd = fd;
    this.number = number;
    if (former !== -1) yield* this.retire(formerNumber, former);
  }
}

/** What is told of a log whose directory was removed. */
export const removedLog = (): Error => systemError('ENOENT', 'the log was removed');
