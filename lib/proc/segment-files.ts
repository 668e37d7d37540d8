/** The segments of the log as files: their names, their heads and their content. */
import {closeSync, constants, lstatSync, openSync, readFileSync, readSync, readdirSync} from 'node:fs';
import {join} from 'node:path';
import {unlinkFile} from './disk-work';
import type {Work} from './disk-work';
import {maxHeadBytes, versionOf} from './log-lines';

const {O_NOFOLLOW, O_RDONLY} = constants;

export class SegmentFiles {
  constructor(readonly directory: string) {}

  path(number: number): string {
    return join(this.directory, `${String(number).padStart(10, '0')}.log`);
  }

  /** Their sizes by their numbers, the oldest first. */
  sizes(): Map<number, number> {
    const names = readdirSync(this.directory).filter((name) => /^\d{10}\.log$/.test(name)).sort();
    return new Map(names.map((name) => [Number.parseInt(name, 10), lstatSync(join(this.directory, name)).size]));
  }

  /** Of the head alone: what comes behind it is read in its turn. Null for a segment without a whole head. */
  version(number: number): number | null {
    return this.open(number, (fd) => {
      const head = Buffer.alloc(maxHeadBytes);
      return versionOf(head.subarray(0, readSync(fd, head)));
    });
  }

  read(number: number): Buffer {
    return this.open(number, (fd) => readFileSync(fd));
  }

  remove(number: number): Work<void> {
    return unlinkFile(this.path(number));
  }

  private open<T>(number: number, look: (fd: number) => T): T {
    const fd = openSync(this.path(number), O_RDONLY | O_NOFOLLOW);
    try {
      return look(fd);
    } finally {
      closeSync(fd);
    }
  }
}
