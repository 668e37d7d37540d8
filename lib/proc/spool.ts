/**
 * What is on file of calls (DESIGN.md section 5): their lines in the log, and in `<run_dir>/calls/` what they are given
 * and what they write, as far as that is too much for a line. What is little is read at once, what may be large in slices.
 */
import {createReadStream} from 'node:fs';
import type {ReadStream} from 'node:fs';
import {join} from 'node:path';
import {monotonicMs} from '../base/duration';
import {NodedError, errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {KnownSizes, OutputSizes} from '../base/outcome';
import {Journal, parseLine} from '../call/journal';
import type {CallFiles, JournalRecord, NotedOutput} from '../call/journal';
import {Slices} from '../call/slices';
import {CallLog} from './call-log';
import {DiskWork, filesystemStats} from './disk-work';
import type {Work} from './disk-work';
import {EarlierJournals} from './earlier-journals';
import {RecentOutputs} from './recent-outputs';
import type {Output} from './recent-outputs';
import {makePrivateDirectory} from './run-dir';
import {SpoolFiles, fileKinds, hasBytes} from './spool-files';
import type {CallStreams, FileKind} from './spool-files';

/** Errors that mean: no room, or no way to get any. */
const fullErrnos = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EFBIG', 'EIO', 'ENOENT', 'EACCES']);

export interface SpoolOptions {
  readonly runDir: string;
  readonly minFreeBytes: number;
  /** Calls and what came of them survive a power cut (`durable` of noded.conf(5)). */
  readonly durable?: boolean;
  readonly log: {warn(fields: object, message: string): void};
}

export class Spool implements CallFiles {
  readonly disk = new DiskWork();
  readonly files: SpoolFiles;
  /** What comes of the files of calls that are being made. */
  private readonly making = new Map<string, Promise<void>>();
  /** Output of urgent calls that had no files. */
  private readonly unspooled = new Map<string, Output>();
  /** Little output, which stands in the log and is not read from there: text, because a Buffer takes more than it holds. */
  private readonly noted = new Map<string, NotedOutput>();
  readonly log: CallLog;
  readonly earlier: EarlierJournals;
  private readonly removing = new Slices<{readonly key: string; readonly left: readonly FileKind[]}>(({key, left}) => this.files.remove(key, left));
  readonly recent = new RecentOutputs();
  private freeBytes = Infinity;
  private freeCheckedAt = -Infinity;
  private isLooking = false;

  constructor(private readonly options: SpoolOptions) {
    this.files = new SpoolFiles(join(options.runDir, 'calls'), {disk: this.disk, log: options.log});
    this.log = new CallLog({...options, disk: this.disk});
    this.earlier = new EarlierJournals(options, this.log);
  }

  /** What is on the disk has been taken over, and somebody may wait for an answer from now on. */
  useThread(): void {
    // The first call shall be refused if there is no room.
    this.free();
    this.disk.useThread();
  }

  create(key: string, line: string | null, args: Uint8Array | null, urgent: boolean): void {
    // An urgent call that finds no room where it thought there was would have no result.
    if (urgent) this.freeCheckedAt = -Infinity;
    const least = urgent ? limits.leastFreeBytes : Math.max(limits.leastFreeBytes, this.options.minFreeBytes);
    if (this.free() < least + (args?.byteLength ?? 0)) throw new NodedError('spool_full');
    if (line === null && args === null) return;
    let failure: Error | null | undefined;
    const made = new Promise<void>((resolve, reject) => {
      this.make(key, line, args, (error) => {
        failure = error;
        if (error !== null) this.files.remove(key);
        this.making.delete(key);
        if (error === null) resolve();
        else reject(error);
      });
    });
    made.catch(() => {}); // whoever started the call hears of it here, or asks
    if (failure === undefined) this.making.set(key, made);
    else if (failure !== null) throw this.refusal(key, errnoOf(failure));
  }

  /** Resolves once the files of a call have been made. Rejects with the system's error; nothing is left then. */
  made(key: string): Promise<void> {
    return this.making.get(key) ?? Promise.resolve();
  }

  private make(key: string, line: string | null, args: Uint8Array | null, done: (error: Error | null) => void): void {
    const putLine = (): void => (line === null ? done(null) : this.log.put(key, [line], done));
    if (args === null) putLine();
    else this.disk.do(() => this.files.write(key, 'args', args), (error) => (error === null ? putLine() : done(error)));
  }

  putOnFile(key: string, line: string, done: () => void = () => {}): void {
    this.log.put(key, [line], (error) => {
      if (error !== null) this.options.log.warn({key, errno: errnoOf(error)}, `cannot write to the log of calls: ${messageOf(error)}`);
      done();
    });
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

  /** What to say of a call whose files could not be made. */
  refusal(key: string, errno: string): NodedError {
    this.restoreDirectory(errno);
    this.options.log.warn({key, errno}, `cannot make the files of a call: ${errno}`);
    return new NodedError(fullErrnos.has(errno) ? 'spool_full' : 'spawner_unavailable', {message: `the files of the call could not be made: ${errno}`});
  }

  openStreams(key: string, done: (error: Error | null, streams?: CallStreams) => void): void {
    this.disk.do(() => this.files.openStreams(key), done);
  }

  openStdout(key: string): number {
    return this.files.open(key, 'out');
  }

  /** Sizes at this moment; 0 for a file that is not there. */
  sizes(key: string): OutputSizes {
    const kept = this.unspooled.get(key);
    if (kept !== undefined) return {stdoutBytes: kept.stdout.length, stderrBytes: kept.stderr.length};
    return {stdoutBytes: this.files.size(key, 'out') ?? 0, stderrBytes: this.files.size(key, 'err') ?? 0};
  }

  /** Whether the file that the function process got as stdout is still there. */
  hasStdout(key: string): boolean {
    return this.files.size(key, 'out') !== null;
  }

  /** After the end: nobody reads the arguments any more, and an empty file says no more than none. */
  trim(key: string, {stdoutBytes, stderrBytes}: KnownSizes): void {
    this.files.remove(key, ['args', ...(stdoutBytes === 0 ? (['out'] as const) : []), ...(stderrBytes === 0 ? (['err'] as const) : [])]);
  }

  /** What a function wrote whose call has no files, or whose files nobody waits for. */
  keepUnspooled(key: string, output: Output): void {
    this.unspooled.set(key, output);
  }

  hasUnspooled(key: string): boolean {
    return this.unspooled.has(key);
  }

  /** Makes files of that, for the next noded. A failure is logged and survived. */
  putUnspooledOnFile(key: string): void {
    const {stdout, stderr} = this.unspooled.get(key) ?? {stdout: Buffer.alloc(0), stderr: Buffer.alloc(0)};
    this.files.remove(key, ['args']);
    for (const [kind, bytes] of [['out', stdout], ['err', stderr]] as const) {
      if (bytes.length === 0) continue;
      this.disk.do(() => this.files.write(key, kind, bytes), (error) => {
        if (error !== null) this.options.log.warn({key, errno: errnoOf(error)}, `cannot keep what an urgent function wrote: ${messageOf(error)}`);
      });
    }
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
    return this.files.read(key, stream === 'stdout' ? 'out' : 'err', from, length);
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
    const left = sizes === null ? fileKinds : sizes.inJournal === true ? [] : fileKinds.filter((kind) => hasBytes(kind, sizes));
    if (left.length === 0) return;
    const removal = (): void => this.removing.add({key, left});
    // A power cut in between would leave a call without its result.
    if (this.options.durable === true) void this.onDisk().then(removal, removal);
    else removal();
  }

  /** Does what is still to be written and removed: the daemon ends. Resolves when it is done. */
  flush(): Promise<void> {
    this.log.flush();
    this.removing.flush();
    return this.disk.passed();
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

  /** Bytes that the filesystem still has for noded. */
  private free(): number {
    // Once a while is enough: min_free leaves room for what is written in between. Of a disk that hangs it is what was
    // known last.
    if (!this.isLooking && monotonicMs() - this.freeCheckedAt > limits.freeCheckMs) {
      this.freeCheckedAt = monotonicMs();
      this.isLooking = true;
      this.disk.do(() => this.look(), () => (this.isLooking = false));
    }
    return this.freeBytes;
  }

  private *look(): Work<void> {
    yield* this.log.look();
    try {
      const {bavail, bsize} = yield* filesystemStats(this.files.directory);
      this.freeBytes = bavail * bsize;
    } catch (error) {
      // What is not there has no room. On a thread that is known too late: what the call itself writes refuses it, and
      // not the next one.
      this.freeBytes = this.disk.isThreaded && errnoOf(error) === 'ENOENT' ? Infinity : 0;
      this.restoreDirectory(errnoOf(error));
    }
  }

  /** Somebody removed the directory under the running daemon: this call is refused, the next one shall have one. */
  private restoreDirectory(errno: string): void {
    if (errno !== 'ENOENT') return;
    this.freeCheckedAt = -Infinity;
    this.disk.do(() => this.makeDirectories(), (error) => {
      if (error !== null) this.options.log.warn({}, messageOf(error));
    });
  }

  /** Has no steps that could wait: that something was removed is no answer of a disk that hangs. */
  private *makeDirectories(): Work<void> {
    for (const path of [this.options.runDir, this.files.directory]) makePrivateDirectory(path);
    this.log.restore();
  }
}
