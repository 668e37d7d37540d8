/**
 * The files of a call, in `<run_dir>/calls/` (DESIGN.md section 5). Small reads, appends and creations are
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
import {readJournal} from '../call/journal';
import type {CallFiles, NotedOutput} from '../call/journal';
import {Slices} from '../call/slices';
import {RecentOutputs} from './recent-outputs';
import type {Output} from './recent-outputs';
import {makePrivateDirectory} from './run-dir';
import {TombstoneFile} from './tombstone-file';

const {O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY} = constants;
const ownerOnly = 0o600;
const kinds = ['args', 'out', 'err', 'call'] as const;
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
  readonly log: {warn(fields: object, message: string): void};
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.byteLength; ) at += writeSync(fd, bytes, at);
}

const hasBytes = (kind: Kind, {stdoutBytes, stderrBytes}: OutputSizes): boolean => (kind === 'out' && stdoutBytes > 0) || (kind === 'err' && stderrBytes > 0);

interface Removal {
  readonly key: string;
  readonly left: readonly Kind[];
}

export class Spool implements CallFiles {
  private readonly directory: string;
  /** Output of urgent calls that had no files. */
  private readonly unspooled = new Map<string, Output>();
  /** Journals whose last append was cut short: the next one begins a new line. */
  private readonly torn = new Set<string>();
  private readonly tombstoneFile: TombstoneFile;
  private readonly removing = new Slices<Removal>(({key, left}) => this.unlink(key, left));
  readonly recent = new RecentOutputs();
  private freeBytes = Infinity;
  private freeCheckedAt = -Infinity;

  constructor(private readonly options: SpoolOptions) {
    this.directory = join(options.runDir, 'calls');
    this.tombstoneFile = new TombstoneFile(options);
    makePrivateDirectory(this.directory);
  }

  create(key: string, line: string | null, args: Uint8Array | null, urgent: boolean): void {
    if (!urgent && this.free() < this.options.minFreeBytes + (args?.byteLength ?? 0)) throw new NodedError('spool_full');
    try {
      if (args !== null) this.writeNew(key, 'args', args);
      if (line !== null) this.writeNew(key, 'call', Buffer.from(line));
    } catch (error) {
      this.unlink(key);
      throw this.refusal(key, errnoOf(error));
    }
  }

  putOnFile(key: string, line: string): void {
    try {
      this.writeNew(key, 'call', Buffer.from(line));
    } catch (error) {
      // Who makes it may have been killed before its line was written, or in the middle of it.
      if (errnoOf(error) !== 'EEXIST') this.options.log.warn({key, errno: errnoOf(error)}, `cannot write to the journal of a call: ${messageOf(error)}`);
      else if (readJournal(key, this.journal(key) ?? '') === null) this.append(key, `\n${line}`);
    }
  }

  /** What to say of a call whose files could not be made. */
  refusal(key: string, errno: string): NodedError {
    this.restoreDirectory(errno);
    this.options.log.warn({key, errno}, `cannot make the files of a call: ${errno}`);
    return new NodedError(fullErrnos.has(errno) ? 'spool_full' : 'spawner_unavailable', {message: `the files of the call could not be made: ${errno}`});
  }

  append(key: string, line: string): void {
    const bytes = Buffer.from(this.torn.has(key) ? `\n${line}` : line);
    try {
      const fd = openSync(this.path(key, 'call'), O_WRONLY | O_APPEND | O_NOFOLLOW);
      try {
        const written = writeSync(fd, bytes);
        if (written < bytes.length) throw new Error(`only ${written} of ${bytes.length} bytes were written`);
        this.torn.delete(key);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      this.torn.add(key);
      this.options.log.warn({key, errno: errnoOf(error)}, `cannot write to the journal of a call: ${messageOf(error)}`);
    }
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

  /** The whole stdout of a call that has ended, of `length` bytes. */
  readStdout(key: string, length: number): Buffer {
    const bytes = this.read(key, 'stdout', 0, length);
    if (length <= limits.maxRecentBytes && bytes.length === length && this.recent.get(key) === undefined) this.recent.keep(key, {stdout: bytes});
    return bytes;
  }

  /** Up to `length` bytes of stdout or stderr from `from` on. */
  read(key: string, stream: 'stdout' | 'stderr', from: number, length: number): Buffer {
    const kept = this.unspooled.get(key)?.[stream] ?? this.recent.get(key)?.[stream];
    if (kept !== undefined) return kept.subarray(from, from + length);
    let fd: number;
    try {
      fd = openSync(this.path(key, stream === 'stdout' ? 'out' : 'err'), O_RDONLY | O_NOFOLLOW);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return this.readNoted(key, stream).subarray(from, from + length);
      throw error;
    }
    try {
      const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, fstatSync(fd).size - from)));
      return bytes.length === 0 ? bytes : bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, from));
    } finally {
      closeSync(fd);
    }
  }

  /** What a journal says that the function wrote; nothing if it does not say. */
  private readNoted(key: string, stream: keyof NotedOutput): Buffer {
    const ended = readJournal(key, this.journal(key) ?? '')?.ended ?? null;
    return Buffer.from(ended !== null && 'noted' in ended ? (ended.noted?.[stream] ?? '') : '');
  }

  /** The first `length` bytes of stdout as a stream; for results that are too large to hold. */
  stream(key: string, length: number): ReadStream {
    return createReadStream('', {fd: this.openStdout(key), start: 0, end: length - 1, highWaterMark: limits.scanSliceBytes});
  }

  remove(key: string, sizes: OutputSizes | null = null): void {
    this.unspooled.delete(key);
    this.recent.delete(key);
    this.torn.delete(key);
    // After `trim` a call has no other files; to unlink what is not there costs more than what is.
    this.removing.add({key, left: sizes === null ? kinds : kinds.filter((kind) => kind === 'call' || (sizes.inJournal !== true && hasBytes(kind, sizes)))});
  }

  /** Removes now what is still to be removed: the daemon ends. */
  flush(): void {
    this.removing.flush();
  }

  bury(line: string): void {
    this.tombstoneFile.append(line);
  }

  tombstones(): Generator<string> {
    return this.tombstoneFile.lines();
  }

  /** Every journal on file; and removes what has none, which no call needs. */
  *journals(): Generator<{readonly key: string; readonly content: string}> {
    const names = readdirSync(this.directory);
    const keys = new Set(names.filter((name) => name.endsWith('.call')).map((name) => name.slice(0, -5)).filter(isKey));
    for (const name of names) {
      const [key = '', kind] = name.split('.');
      if (isKey(key) && !keys.has(key) && kinds.some((known) => known === kind)) this.unlinkOne(key, kind as Kind);
    }
    for (const key of keys) {
      const content = this.journal(key);
      if (content !== null) yield {key, content};
    }
  }

  /** Bytes that the filesystem still has for noded. */
  private free(): number {
    // Once a while is enough: min_free leaves room for what is written in between.
    if (monotonicMs() - this.freeCheckedAt > limits.freeCheckMs) {
      this.freeCheckedAt = monotonicMs();
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
    this.tombstoneFile.close();
    try {
      for (const path of [this.options.runDir, this.directory]) makePrivateDirectory(path);
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

  /** Null for what is no readable file: one bad journal must not keep noded from starting. */
  journal(key: string): string | null {
    try {
      const fd = openSync(this.path(key, 'call'), O_RDONLY | O_NOFOLLOW);
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

  /** The journal last: what is left of a call without one is swept at the next start. */
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
