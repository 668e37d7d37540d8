/**
 * What is on file of calls (DESIGN.md section 5): their lines in the log, and in `<run_dir>/calls/` what they are given
 * and what they write, as far as that is too much for a line. Small reads, appends and creations are
 * synchronous on purpose: on the run directory's filesystem they take some microseconds, less than the way
 * to a thread and back, and nothing can come between them. What may be large is read in slices.
 */
import {closeSync, constants, createReadStream, fstatSync, openSync, readSync, readdirSync, statSync, statfsSync, unlinkSync, writeSync} from 'node:fs';
import type {ReadStream} from 'node:fs';
import {join} from 'node:path';
import {monotonicMs} from '../base/duration';
import {NodedError, errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {KnownSizes, OutputSizes} from '../base/outcome';
import {isKey} from '../call/call-id';
import {Journal, parseLine} from '../call/journal';
import type {CallFiles, JournalRecord, NotedOutput} from '../call/journal';
import {Slices} from '../call/slices';
import {CallLog} from './call-log';
import {EarlierJournals} from './earlier-journals';
import {RecentOutputs} from './recent-outputs';
import type {Output} from './recent-outputs';
import {makePrivateDirectory} from './run-dir';
import {syncDirectory, syncFile} from './sync-files';

const {O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY} = constants;
const ownerOnly = 0o600;
const kinds = ['args', 'out', 'err'] as const;
type Kind = (typeof kinds)[number];

/** Errors that mean: no room, or no way to get any. */
const fullErrnos = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EFBIG', 'EIO', 'ENOENT', 'EACCES']);

/** Standard streams of a function process. The caller closes them once the process has them. */
export interface CallStreams {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

export interface SpoolOptions {
  readonly runDir: string;
  readonly minFreeBytes: number;
  /** Calls and what came of them survive a power cut (`durable` of noded.conf(5)). */
  readonly durable?: boolean;
  readonly log: {warn(fields: object, message: string): void};
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.byteLength; ) at += writeSync(fd, bytes, at);
}

const hasBytes = (kind: Kind, {stdoutBytes, stderrBytes}: OutputSizes): boolean => (kind === 'out' && stdoutBytes > 0) || (kind === 'err' && stderrBytes > 0);

export class Spool implements CallFiles {
  private readonly directory: string;
  /** Output of urgent calls that had no files. */
  private readonly unspooled = new Map<string, Output>();
  /** Little output, which stands in the log and is not read from there: text, because a Buffer takes more than it holds. */
  private readonly noted = new Map<string, NotedOutput>();
  readonly log: CallLog;
  readonly earlier: EarlierJournals;
  private readonly removing = new Slices<{readonly key: string; readonly left: readonly Kind[]}>(({key, left}) => this.unlink(key, left));
  readonly recent = new RecentOutputs();
  private freeBytes = Infinity;
  private freeCheckedAt = -Infinity;

  constructor(private readonly options: SpoolOptions) {
    this.directory = join(options.runDir, 'calls');
    makePrivateDirectory(this.directory);
    this.log = new CallLog(options);
    this.earlier = new EarlierJournals(options, this.log);
  }

  create(key: string, line: string | null, args: Uint8Array | null, urgent: boolean): void {
    // An urgent call that finds no room where it thought there was would have no result.
    if (urgent) this.freeCheckedAt = -Infinity;
    const least = urgent ? limits.leastFreeBytes : Math.max(limits.leastFreeBytes, this.options.minFreeBytes);
    if (this.free() < least + (args?.byteLength ?? 0)) throw new NodedError('spool_full');
    try {
      if (args !== null) this.writeNew(key, 'args', args);
      if (line !== null) this.log.appendNow(key, [line]);
    } catch (error) {
      this.unlink(key);
      throw this.refusal(key, errnoOf(error));
    }
  }

  putOnFile(key: string, line: string): void {
    try {
      this.log.appendNow(key, [line]);
    } catch (error) {
      this.options.log.warn({key, errno: errnoOf(error)}, `cannot write to the log of calls: ${messageOf(error)}`);
    }
  }

  append(key: string, line: string): void {
    this.log.append(key, line);
  }

  flushLines(): void {
    this.log.flush();
  }

  onDisk(): Promise<void> {
    return this.log.onDisk();
  }

  /** Resolves once so much output of a call that has ended is on disk, with its names. */
  async outputOnDisk(key: string, sizes: OutputSizes): Promise<void> {
    const kept = kinds.filter((kind) => hasBytes(kind, sizes));
    await Promise.all(kept.map((kind) => syncFile(this.path(key, kind))));
    if (kept.length > 0) await syncDirectory(this.directory);
  }

  /** What to say of a call whose files could not be made. */
  refusal(key: string, errno: string): NodedError {
    this.restoreDirectory(errno);
    this.options.log.warn({key, errno}, `cannot make the files of a call: ${errno}`);
    return new NodedError(fullErrnos.has(errno) ? 'spool_full' : 'spawner_unavailable', {message: `the files of the call could not be made: ${errno}`});
  }

  /** Opens what becomes fd 0, 1 and 2 of the function process. Throws the system's error; nothing stays open then. */
  openStreams(key: string): CallStreams {
    const opened: number[] = [];
    try {
      opened.push(openSync(this.path(key, 'args'), O_RDONLY | O_NOFOLLOW));
      // O_APPEND: a function that reopens /dev/stdout must not overwrite what it wrote.
      for (const kind of ['out', 'err'] as const) opened.push(openSync(this.path(key, kind), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, ownerOnly));
      return {stdin: opened[0]!, stdout: opened[1]!, stderr: opened[2]!};
    } catch (error) {
      for (const fd of opened) closeSync(fd);
      throw error;
    }
  }

  openStdout(key: string): number {
    return openSync(this.path(key, 'out'), O_RDONLY | O_NOFOLLOW);
  }

  /** Sizes at this moment; 0 for a file that is not there. */
  sizes(key: string): OutputSizes {
    const kept = this.unspooled.get(key);
    if (kept !== undefined) return {stdoutBytes: kept.stdout.length, stderrBytes: kept.stderr.length};
    const size = (kind: Kind): number => statSync(this.path(key, kind), {throwIfNoEntry: false})?.size ?? 0;
    return {stdoutBytes: size('out'), stderrBytes: size('err')};
  }

  /** Whether the file that the function process got as stdout is still there. */
  hasStdout(key: string): boolean {
    return statSync(this.path(key, 'out'), {throwIfNoEntry: false}) !== undefined;
  }

  /** After the end: nobody reads the arguments any more, and an empty file says no more than none. */
  trim(key: string, {stdoutBytes, stderrBytes}: KnownSizes): void {
    this.unlinkOne(key, 'args');
    if (stdoutBytes === 0) this.unlinkOne(key, 'out');
    if (stderrBytes === 0) this.unlinkOne(key, 'err');
  }

  keepUnspooled(key: string, output: Output): void {
    this.unspooled.set(key, output);
  }

  /** What its `ended` line says that a function wrote; kept as long as the call is. */
  keepNoted(key: string, output: NotedOutput): void {
    this.noted.set(key, output);
  }

  /** The whole stdout of a call that has ended, of `length` bytes. */
  readStdout(key: string, length: number): Buffer {
    const bytes = this.read(key, 'stdout', 0, length);
    if (length <= limits.maxRecentBytes && bytes.length === length && !this.noted.has(key) && this.recent.get(key) === undefined) this.recent.keep(key, {stdout: bytes});
    return bytes;
  }

  /** Up to `length` bytes of stdout or stderr from `from` on. */
  read(key: string, stream: 'stdout' | 'stderr', from: number, length: number): Buffer {
    const noted = this.noted.get(key)?.[stream];
    const kept = noted === undefined ? (this.unspooled.get(key)?.[stream] ?? this.recent.get(key)?.[stream]) : Buffer.from(noted);
    if (kept !== undefined) return kept.subarray(from, from + length);
    let fd: number;
    try {
      fd = openSync(this.path(key, stream === 'stdout' ? 'out' : 'err'), O_RDONLY | O_NOFOLLOW);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return Buffer.alloc(0); // fewer bytes than there were, for whoever counts
      throw error;
    }
    try {
      const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, fstatSync(fd).size - from)));
      return bytes.length === 0 ? bytes : bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, from));
    } finally {
      closeSync(fd);
    }
  }

  /** The first `length` bytes of stdout as a stream; for results that are too large to hold. */
  stream(key: string, length: number): ReadStream {
    return createReadStream('', {fd: this.openStdout(key), start: 0, end: length - 1, highWaterMark: limits.scanSliceBytes});
  }

  remove(key: string, sizes: OutputSizes | null = null): void {
    this.unspooled.delete(key);
    this.noted.delete(key);
    this.recent.delete(key);
    // After `trim` a call has no other files; to unlink what is not there costs more than what is.
    const left = sizes === null ? kinds : sizes.inJournal === true ? [] : kinds.filter((kind) => hasBytes(kind, sizes));
    if (left.length === 0) return;
    const removal = (): void => this.removing.add({key, left});
    // A power cut in between would leave a call without its result.
    if (this.options.durable === true) void this.onDisk().then(removal, removal);
    else removal();
  }

  /** Does now what is still to be written and removed: the daemon ends. */
  flush(): void {
    this.log.flush();
    this.removing.flush();
  }

  /** What is on file of these calls, whose fork server is dead. */
  async find(keys: ReadonlySet<string>): Promise<ReadonlyMap<string, JournalRecord>> {
    const journals = new Map([...keys].map((key) => [key, new Journal(key)]));
    const take = (key: string, json: string): void => {
      const line = journals.has(key) ? parseLine(json) : null;
      if (line !== null) journals.get(key)!.take(line);
    };
    await this.log.readAll(({key, json}) => take(key, json));
    // It may have been one of before the log.
    let hasRoom = true;
    for (const key of keys) {
      const journal = this.earlier.journal(key);
      for (const line of journal?.lines ?? []) take(key, line);
      hasRoom = hasRoom && (journal === null || this.earlier.carryOver(journal, false));
    }
    return new Map([...journals].flatMap(([key, {record}]) => (record === null ? [] : [[key, record]])));
  }

  /** Removes the files of calls that are not on file. */
  sweep(isKnown: (key: string) => boolean): void {
    for (const name of readdirSync(this.directory)) {
      const [key = '', kind] = name.split('.');
      if (isKey(key) && !isKnown(key) && kinds.some((known) => known === kind)) this.unlinkOne(key, kind as Kind);
    }
  }

  /** Bytes that the filesystem still has for noded. */
  private free(): number {
    // Once a while is enough: min_free leaves room for what is written in between.
    if (monotonicMs() - this.freeCheckedAt > limits.freeCheckMs) {
      this.freeCheckedAt = monotonicMs();
      this.log.look();
      try {
        const {bavail, bsize} = statfsSync(this.directory);
        this.freeBytes = bavail * bsize;
      } catch (error) {
        this.freeBytes = 0;
        this.restoreDirectory(errnoOf(error));
      }
    }
    return this.freeBytes;
  }

  /** Somebody removed the directory under the running daemon: this call is refused, the next one shall have one. */
  private restoreDirectory(errno: string): void {
    if (errno !== 'ENOENT') return;
    this.freeCheckedAt = -Infinity;
    try {
      for (const path of [this.options.runDir, this.directory]) makePrivateDirectory(path);
      this.log.restore();
    } catch (error) {
      this.options.log.warn({}, messageOf(error));
    }
  }

  private path(key: string, kind: Kind): string {
    return `${this.directory}/${key}.${kind}`;
  }

  private writeNew(key: string, kind: Kind, bytes: Uint8Array): void {
    const fd = openSync(this.path(key, kind), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, ownerOnly);
    try {
      writeAll(fd, bytes);
    } finally {
      closeSync(fd);
    }
  }

  private unlink(key: string, left: readonly Kind[] = kinds): void {
    for (const kind of left) this.unlinkOne(key, kind);
  }

  private unlinkOne(key: string, kind: Kind): void {
    try {
      unlinkSync(this.path(key, kind));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.options.log.warn({key, errno: errnoOf(error)}, `cannot remove a file of a call: ${messageOf(error)}`);
    }
  }
}
