/**
 * What a noded of before the log has left, and a fork server of its time still writes: a journal for each call,
 * `calls/KEY.call`, one JSON object a line; and tombstones in two files of lines. They are read, carried over to the
 * log and removed.
 */
import {closeSync, constants, fstatSync, openSync, readSync, readdirSync, unlinkSync} from 'node:fs';
import {join} from 'node:path';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import {readIfThere} from '../base/read-if-there';
import {isKey} from '../call/call-id';
import {parseLine} from '../call/journal';

const {O_NOFOLLOW, O_RDONLY} = constants;

export interface EarlierJournalsOptions {
  readonly runDir: string;
  readonly log: {warn(fields: object, message: string): void};
}

/** The lines of one call, and the file that they stand in. */
export interface EarlierLines {
  readonly key: string;
  readonly lines: readonly string[];
}

export class EarlierJournals {
  private readonly calls: string;
  private readonly tombstones: readonly string[];

  constructor(private readonly options: EarlierJournalsOptions) {
    this.calls = join(options.runDir, 'calls');
    this.tombstones = ['tombstones.old', 'tombstones'].map((name) => join(options.runDir, name));
  }

  /** One journal after the other. */
  *journals(): Generator<EarlierLines> {
    for (const name of readdirSync(this.calls)) {
      const key = name.slice(0, -5);
      if (!name.endsWith('.call') || !isKey(key)) continue;
      const content = this.read(key);
      if (content !== null) yield {key, lines: wholeLines(content)};
    }
  }

  /** None of what is no readable file: one bad journal must not keep noded from starting. */
  linesOf(key: string): readonly string[] {
    const content = this.read(key);
    return content === null ? [] : wholeLines(content);
  }

  /** The tombstones as lines of the log, older ones first. */
  *buried(): Generator<EarlierLines> {
    for (const path of this.tombstones) {
      for (const text of wholeLines(readIfThere(path))) {
        const {key, ...facts} = parseLine(text) ?? {};
        if (typeof key === 'string' && isKey(key)) yield {key, lines: [JSON.stringify({event: 'buried', ...facts})]};
      }
    }
  }

  /** The tombstones have been carried over. */
  removeTombstones(): void {
    for (const path of this.tombstones) this.unlink(path);
  }

  /** The journal of a call has been carried over, and nobody writes to it any more. */
  remove(key: string): void {
    this.unlink(this.path(key));
  }

  private read(key: string): string | null {
    try {
      const fd = openSync(this.path(key), O_RDONLY | O_NOFOLLOW);
      try {
        const bytes = Buffer.alloc(Math.min(fstatSync(fd).size, limits.maxJournalBytes));
        return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0));
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.options.log.warn({key, errno: errnoOf(error)}, `cannot read the journal of a call: ${messageOf(error)}`);
      return null;
    }
  }

  private path(key: string): string {
    return join(this.calls, `${key}.call`);
  }

  private unlink(path: string): void {
    try {
      unlinkSync(path);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.options.log.warn({path, errno: errnoOf(error)}, `cannot remove what was carried over to the log: ${messageOf(error)}`);
    }
  }
}

/** A line that is cut short is none: its fact is lost, as before. */
const wholeLines = (content: string): readonly string[] => content.split('\n').filter((line) => parseLine(line) !== null);
