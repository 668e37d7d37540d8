/**
 * The log of the run directory, `log/NUMBER.log` (doc/formats.md, "The log"): every fact of every call is a line of it,
 * appended by whoever knows it. noded begins each segment and tells the fork server of it; both append to the newest.
 * Only the oldest segment is ever removed, once what is still wanted of it stands in the newest: so no line of a call
 * outlives its tombstone.
 */
import {closeSync, constants, fstatSync, openSync, writeSync} from 'node:fs';
import {join} from 'node:path';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import {inSlices} from '../call/slices';
import {linesOf, logVersion, sealLine, segmentHead} from './log-lines';
import type {LogLine} from './log-lines';
import {Traces} from './log-scan';
import {RunDirError, makePrivateDirectory} from './run-dir';
import {SegmentFiles} from './segment-files';
import {SegmentSync} from './segment-sync';
import type {Newest} from './segment-sync';

const {O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY} = constants;

const systemError = (code: string, message: string): Error => Object.assign(new Error(`${code}: ${message}`), {code});

/** Of one write: a line must not be cut in two by somebody else's. */
function writeWhole(fd: number, bytes: Buffer): void {
  const written = bytes.length === 0 ? 0 : writeSync(fd, bytes);
  if (written < bytes.length) throw systemError('ENOSPC', `only ${written} of ${bytes.length} bytes were written`);
}

export interface CallLogOptions {
  readonly runDir: string;
  /** What was written can be waited for until it is on disk (`durable` of noded.conf(5)). */
  readonly durable?: boolean;
  readonly log: {warn(fields: object, message: string): void};
}

/** What is still wanted of the log, while it is compacted. */
export interface Wanted {
  isWanted(line: LogLine): boolean;
  /** About so many bytes of lines are wanted in all. */
  readonly wantedBytes: number;
}

export class CallLog {
  private readonly files: SegmentFiles;
  /** Sizes of the segments by their numbers, the oldest first; that of the newest is as it was at the last look. */
  private readonly segments = new Map<number, number>();
  private newest = 0;
  private fd = -1;
  private queue: string[] = [];
  private readonly sync: SegmentSync | null;
  private wanted: Wanted | null = null;
  /** One after the other: what reads all segments, and what removes one. */
  private turn: Promise<void> = Promise.resolve();
  /** The oldest segment that a fork server may still append to; it says which one it has. */
  private inUseFrom = Infinity;
  /** Told of each new segment. */
  onSegment: (number: number) => void = () => {};

  constructor(private readonly options: CallLogOptions) {
    this.files = new SegmentFiles(join(options.runDir, 'log'));
    this.sync = options.durable === true ? new SegmentSync(this.files.directory, () => this.newestToSync()) : null;
    this.open();
  }

  /** The number of the newest segment: the one that is appended to. */
  get current(): number {
    return this.newest;
  }

  /** Bytes of all segments. */
  get bytes(): number {
    let sum = 0;
    for (const size of this.segments.values()) sum += size;
    return sum;
  }

  /** Appends a line in this turn of the loop, together with the others that come in it. A failure is logged and survived. */
  append(key: string, json: string): void {
    if (this.queue.push(sealLine(key, json)) === 1) setImmediate(() => this.flush());
  }

  /** Appends lines of one call now, after what waits. Throws the system's error; they are not on file then. */
  appendNow(key: string, lines: readonly string[]): void {
    this.flush();
    this.write(Buffer.from(lines.map((json) => sealLine(key, json)).join('')));
  }

  /** Appends what waits. */
  flush(): void {
    if (this.queue.length === 0) return;
    const lines = Buffer.from(this.queue.join(''));
    this.queue = [];
    try {
      this.write(lines);
    } catch (error) {
      this.options.log.warn({errno: errnoOf(error)}, `cannot write to the log of calls: ${messageOf(error)}`);
    }
  }

  /** Resolves once all lines that were appended until now are on disk, the fork server's too; at once if nobody asked for that. */
  onDisk(): Promise<void> {
    return this.sync?.done() ?? Promise.resolve();
  }

  /** The fork server appends to this segment now, and to no older one; `Infinity` if there is none. */
  usedFrom(number: number): void {
    this.inUseFrom = number;
  }

  /** From now on segments are removed once little of them is wanted. */
  compact(wanted: Wanted): void {
    this.wanted = wanted;
    void this.removeOldest();
  }

  /** All lines, the oldest segment first: a slice of them at a time. Damaged ones are told of, and cost themselves alone. */
  async readAll(take: (line: LogLine) => void): Promise<void> {
    await this.inTurn(async () => {
      this.flush();
      for (const {number, content} of this.contents()) await inSlices(this.linesOf(number, content), take);
    });
  }

  /** What all its lines are about, by the key of the call, without reading them. */
  scan(): Traces {
    const traces = new Traces();
    for (const {number, content} of this.contents()) {
      let damaged = 0;
      traces.scan(number, content, () => (damaged += 1));
      this.tellOfDamage(number, damaged);
    }
    return traces;
  }

  /** What the fork server appends is not seen here: begins a new segment if it is time to. */
  look(): void {
    const {size} = fstatSync(this.fd);
    this.segments.set(this.newest, size);
    if (size > limits.segmentBytes) this.roll();
  }

  /** Gives each segment, the oldest first. One that cannot be read is told of. */
  private *contents(): Generator<{readonly number: number; readonly content: Buffer}> {
    for (const number of this.segments.keys()) yield {number, content: this.contentOf(number)};
  }

  /** What is in a segment now; nothing, if it cannot be read. */
  contentOf(number: number): Buffer {
    try {
      return this.files.read(number);
    } catch (error) {
      this.options.log.warn({segment: number, errno: errnoOf(error)}, `cannot read a segment of the log of calls: ${messageOf(error)}`);
      return Buffer.alloc(0);
    }
  }

  /** If it was removed under the running daemon, the next line goes to a new one. */
  restore(): void {
    if (fstatSync(this.fd).nlink > 0) return;
    this.segments.clear();
    // Nobody minds what is appended to a file without a name.
    this.newest = -1;
    this.open();
    this.onSegment(this.newest);
  }

  close(): void {
    closeSync(this.fd);
  }

  private open(): void {
    makePrivateDirectory(this.files.directory);
    for (const [number, size] of this.files.sizes()) this.segments.set(number, size);
    const newest = [...this.segments.keys()].at(-1) ?? 0;
    if (newest > 0 && this.isOurs(newest)) this.use(newest, O_WRONLY | O_APPEND | O_NOFOLLOW);
    else this.begin(newest + 1);
  }

  /** Whether lines may be appended to a segment that is there. Throws a RunDirError for one of a later version: what it tells is not known here. */
  private isOurs(number: number): boolean {
    try {
      const version = this.files.version(number);
      if (version !== null && version > logVersion) throw new RunDirError('unusable', `${this.files.path(number)} was written by a later noded (version ${version} of the log)`);
      return version === logVersion;
    } catch (error) {
      if (error instanceof RunDirError) throw error;
      this.options.log.warn({segment: number, errno: errnoOf(error)}, `cannot go on with a segment of the log of calls: ${messageOf(error)}`);
      return false;
    }
  }

  private begin(number: number): void {
    this.use(number, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, segmentHead);
    this.segments.set(number, segmentHead.length);
  }

  /** Appends go there from now on; if that cannot be, to where they went before. */
  private use(number: number, flags: number, head = ''): void {
    const fd = openSync(this.files.path(number), flags, 0o600);
    try {
      writeWhole(fd, Buffer.from(head));
    } catch (error) {
      closeSync(fd);
      this.files.remove(number);
      throw error;
    }
    if (this.fd !== -1) this.retire();
    this.fd = fd;
    this.newest = number;
  }

  /** Something else is the newest segment from now on. */
  private retire(): void {
    if (this.sync === null) closeSync(this.fd);
    else this.sync.retire(this.newest, this.fd);
  }

  private newestToSync(): Newest {
    this.flush();
    return {fd: this.fd, inUseFrom: this.inUseFrom};
  }

  private write(lines: Buffer): void {
    const {nlink, size} = fstatSync(this.fd);
    if (nlink === 0) {
      this.restore();
      throw systemError('ENOENT', 'the log was removed');
    }
    const bytes = Buffer.concat([Buffer.from('\n'), lines]);
    writeWhole(this.fd, bytes);
    this.segments.set(this.newest, size + bytes.length);
    if (size + bytes.length > limits.segmentBytes) this.roll();
  }

  /** Without room for a new segment the old one goes on. */
  private roll(): void {
    try {
      this.begin(this.newest + 1);
    } catch (error) {
      this.options.log.warn({errno: errnoOf(error)}, `cannot begin a segment of the log of calls: ${messageOf(error)}`);
      return;
    }
    this.onSegment(this.newest);
    void this.removeOldest();
  }

  private get isWasteful(): boolean {
    const [oldest = Infinity] = this.segments.keys();
    return this.wanted !== null && oldest < this.newest && oldest < this.inUseFrom && this.bytes > 2 * this.wanted.wantedBytes + 2 * limits.segmentBytes;
  }

  private async removeOldest(): Promise<void> {
    try {
      await this.inTurn(async () => {
        while (this.isWasteful) await this.moveOldest();
      });
    } catch (error) {
      // On a full disk nothing can be copied: it is tried again with the next segment.
      this.options.log.warn({errno: errnoOf(error)}, `cannot compact the log of calls: ${messageOf(error)}`);
    }
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.turn.then(work);
    this.turn = done.catch(() => {});
    return done;
  }

  private async moveOldest(): Promise<void> {
    const [oldest] = this.segments.keys();
    let kept: Buffer[] = [];
    const move = (): void => {
      if (kept.length > 0) this.write(Buffer.concat(kept));
      kept = [];
    };
    await inSlices(this.linesOf(oldest!, this.files.read(oldest!)), (line) => {
      if (this.wanted!.isWanted(line) && kept.push(line.bytes) >= limits.sliceSize) move();
    });
    move();
    await this.onDisk();
    this.files.remove(oldest!);
    this.segments.delete(oldest!);
  }

  private *linesOf(number: number, content: Buffer): Generator<LogLine> {
    let damaged = 0;
    yield* linesOf(content, () => (damaged += 1));
    this.tellOfDamage(number, damaged);
  }

  private tellOfDamage(segment: number, lines: number): void {
    if (lines > 0) this.options.log.warn({segment, lines}, 'lines of the log of calls are damaged');
  }
}
