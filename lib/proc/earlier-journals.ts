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
import type {CallLog} from './call-log';

const {O_NOFOLLOW, O_RDONLY} = constants;

export interface EarlierJournalsOptions {
  readonly runDir: string;
  readonly log: {warn(fields: object, message: string): void};
}

/** The lines of one call. */
export interface EarlierLines {
  readonly key: string;
  readonly lines: readonly string[];
}

export class EarlierJournals {
  private readonly calls: string;
  private readonly tombstones: readonly string[];

  constructor(
    private readonly options: EarlierJournalsOptions,
    private readonly log: CallLog,
  ) {
    this.calls = join(options.runDir, 'calls');
    this.tombstones = ['tombstones.old', 'tombstones'].map((name) => join(options.runDir, name));
  }

  /** One journal after the other. */
  *journals(): Generator<EarlierLines> {
    for (const name of readdirSync(this.calls)) {
      const key = name.slice(0, -5);
      const journal = name.endsWith('.call') && isKey(key) ? this.journal(key) : null;
      if (journal !== null) yield journal;
    }
  }

  /** Null for what is no readable file: one bad journal must not keep noded from starting. */
  journal(key: string): EarlierLines | null {
    const content = this.read(key);
    return content === null ? null : {key, lines: wholeLines(content)};
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

  /**
   * Puts lines into the log; the file of the journal goes then, unless its fork server, of that time too, goes on with it.
   * Without room it stays where it is, for the next start: that is logged, and false.
   */
  carryOver({key, lines}: EarlierLines, isLive: boolean): boolean {
    try {
      this.log.appendNow(key, lines);
    } catch (error) {
      this.options.log.warn({key, errno: errnoOf(error)}, `cannot carry over the journals of an earlier noded to the log: ${messageOf(error)}`);
      return false;
    }
    if (!isLive) this.remove(key);
    return true;
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
