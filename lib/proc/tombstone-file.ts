/** The tombstones of the run directory: two files of lines, the older one put aside when the other is full. */
import {closeSync, constants, fstatSync, openSync, readFileSync, renameSync, writeSync} from 'node:fs';
import {join} from 'node:path';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';

const {O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY} = constants;

export interface TombstoneFileOptions {
  readonly runDir: string;
  readonly log: {warn(fields: object, message: string): void};
}

export class TombstoneFile {
  private readonly path: string;
  /** Kept open: a busy node buries as many calls as it starts. */
  private open: {readonly fd: number; size: number} | null = null;
  /** An earlier append, perhaps of an earlier noded, may have been cut short: then this one begins a new line. */
  private torn = true;

  constructor(private readonly options: TombstoneFileOptions) {
    this.path = join(options.runDir, 'tombstones');
  }

  /** Appends a line. A failure is logged and survived. */
  append(line: string): void {
    try {
      const file = this.opened();
      const bytes = Buffer.from(this.torn ? `\n${line}` : line);
      this.torn = true;
      if (writeSync(file.fd, bytes) < bytes.length) throw new Error('the line was cut short');
      this.torn = false;
      file.size += bytes.length;
    } catch (error) {
      this.close();
      this.options.log.warn({errno: errnoOf(error)}, `cannot keep a tombstone: ${messageOf(error)}`);
    }
  }

  /** The lines of both files, older first. */
  *lines(): Generator<string> {
    for (const path of [`${this.path}.old`, this.path]) {
      try {
        yield* readFileSync(path, 'utf8').split('\n').filter((line) => line !== '');
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error;
      }
    }
  }

  /** Two files, each of more lines than are kept in memory: together they hold all that count. */
  private opened(): {readonly fd: number; size: number} {
    if (this.open !== null && this.open.size > limits.maxTombstoneFileBytes) {
      this.close();
      renameSync(this.path, `${this.path}.old`);
    }
    if (this.open === null) {
      const fd = openSync(this.path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
      this.open = {fd, size: fstatSync(fd).size};
    }
    return this.open;
  }

  /** The next line goes to a file that is opened anew: the run directory has been made again. */
  close(): void {
    if (this.open !== null) closeSync(this.open.fd);
    this.open = null;
  }
}
