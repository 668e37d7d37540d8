/**
 * The log of the run directory, `log/NUMBER.log` (doc/formats.md, "The log"): every fact of every call is a line of it,
 * appended by whoever knows it. noded begins each segment and tells the fork server of it; both append to the newest.
 * Only the oldest segment is ever removed, once what is still wanted of it stands in the newest: so no line of a call
 * outlives its tombstone.
 */
import {fstatSync} from 'node:fs';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {errnoOf, isExhausted, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import {inSlices} from '../call/slices';
import {closeFile, doNow} from './disk-work';
import type {DiskWork, Work} from './disk-work';
import {LineQueue} from './line-queue';
import {linesOf, logVersion, sealLine, segmentHead} from './log-lines';
import type {LogLine} from './log-lines';
import {Traces} from './log-scan';
import {NewestSegment, removedLog} from './newest-segment';
import {RunDirError, makePrivateDirectory} from './run-dir';
import {SegmentFiles} from './segment-files';
import {SegmentSync} from './segment-sync';
import type {Newest} from './segment-sync';

export interface CallLogOptions {
  readonly runDir: string;
  /** What was written can be waited for until it is on disk (`durable` of noded.conf(5)). */
  readonly durable?: boolean;
  readonly disk: DiskWork;
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
  private readonly newest: NewestSegment;
  private readonly queue: LineQueue;
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
    const sync = options.durable === true ? new SegmentSync(this.files.directory, () => this.newestToSync()) : null;
    this.sync = sync;
    this.newest = new NewestSegment(this.files, function* (number, fd) {
      if (sync === null) yield* closeFile(fd);
      else sync.retire(number, fd);
    });
    this.queue = new LineQueue(options, (lines) => this.write(lines));
    this.open();
  }

  /** The number of the newest segment: the one that is appended to. */
  get current(): number {
    return this.newest.number;
  }

  /** Bytes of all segments. */
  get bytes(): number {
    let sum = 0;
    for (const size of this.segments.values()) sum += size;
    return sum;
  }

  /** Appends a line in this turn of the loop, together with the others that come in it. A failure is logged and survived. */
  append(key: string, json: string): void {
    this.queue.add(sealLine(key, json));
  }

  /** Appends lines of one call as soon as can be, after what waits. With an error for `done` they are not on file. */
  put(key: string, lines: readonly string[], done: (error: Error | null) => void): void {
    this.queue.put(lines.map((json) => sealLine(key, json)).join(''), done);
  }

  /** Appends lines of one call before this returns. Throws the system's error; they are not on file then. */
  appendNow(key: string, lines: readonly string[]): void {
    this.flush();
    doNow(this.write(Buffer.from(lines.map((json) => sealLine(key, json)).join(''))));
  }

  /** Appends what waits. */
  flush(): void {
    this.queue.flush();
  }

  /**
   * Resolves once all lines that were appended until now are on file; and if that was asked for, on disk, the fork
   * server's too. Rejects with the error of a sync.
   */
  onDisk(): Promise<void> {
    if (this.sync !== null) return this.sync.done();
    this.flush();
    return this.options.disk.passed();
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
      await this.options.disk.passed();
      for (const number of this.segments.keys()) await inSlices(this.linesOf(number, await this.contentInTime(number)), take);
    });
  }

  /** What all its lines are about, by the key of the call, without reading them. */
  scan(): Traces {
    const traces = new Traces();
    for (const number of this.segments.keys()) {
      let damaged = 0;
      traces.scan(number, this.contentOf(number), () => (damaged += 1));
      this.tellOfDamage(number, damaged);
    }
    return traces;
  }

  /** What the fork server appends is not seen here: begins a new segment if it is time to. */
  *look(): Work<void> {
    yield* this.grown(yield* this.newest.size());
  }

  /** What is in a segment now; nothing, and a warning, if it cannot be read. Throws if the error is one that passes. */
  contentOf(number: number): Buffer {
    try {
      return this.files.read(number);
    } catch (error) {
      if (isExhausted(error)) throw error;
      this.options.log.warn({segment: number, errno: errnoOf(error)}, `cannot read a segment of the log of calls: ${messageOf(error)}`);
      return Buffer.alloc(0);
    }
  }

  /**
   * If it was removed under the running daemon, the next line goes to a new one. Not while a piece of work is under
   * way. At once: that it was removed is no answer of a disk that hangs.
   */
  restore(): void {
    if (fstatSync(this.newest.fd).nlink > 0) return;
    this.segments.clear();
    // Nobody minds what is appended to a file without a name.
    this.newest.number = -1;
    this.open();
    this.onSegment(this.current);
  }

  close(): void {
    doNow(closeFile(this.newest.fd));
  }

  private open(): void {
    makePrivateDirectory(this.files.directory);
    for (const [number, size] of this.files.sizes()) this.segments.set(number, size);
    const newest = [...this.segments.keys()].at(-1) ?? 0;
    if (newest > 0 && this.isOurs(newest)) doNow(this.newest.resume(newest));
    else doNow(this.begin(newest + 1));
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

  /** The same once there is something to read it with: without its lines calls would be lost that have ended. */
  private async contentInTime(number: number): Promise<Buffer> {
    for (let tries = 0; ; tries += 1) {
      try {
        return this.contentOf(number);
      } catch (error) {
        if (tries % limits.outputTries === 0) this.options.log.warn({segment: number}, `the log of calls cannot be read: ${messageOf(error)}; it is tried again`);
        await pause(limits.outputRetryMs, undefined, {ref: false});
      }
    }
  }

  private *begin(number: number): Work<void> {
    yield* this.newest.begin(number);
    this.segments.set(number, segmentHead.length);
  }

  private async newestToSync(): Promise<Newest> {
    this.flush();
    await this.options.disk.passed();
    return {fd: this.newest.fd, inUseFrom: this.inUseFrom};
  }

  private *write(lines: Buffer): Work<void> {
    const size = yield* this.newest.append(lines);
    if (size === 0) {
      try {
        this.restore();
      } catch {
        // The directory above it is gone too: whoever is told of this makes it first.
      }
      throw removedLog();
    }
    yield* this.grown(size);
  }

  private *grown(size: number): Work<void> {
    this.segments.set(this.current, size);
    if (size > limits.segmentBytes) yield* this.roll();
  }

  /** Without room for a new segment the old one goes on. */
  private *roll(): Work<void> {
    try {
      yield* this.begin(this.current + 1);
    } catch (error) {
      this.options.log.warn({errno: errnoOf(error)}, `cannot begin a segment of the log of calls: ${messageOf(error)}`);
      return;
    }
    this.onSegment(this.current);
    void this.removeOldest();
  }

  private get isWasteful(): boolean {
    const [oldest = Infinity] = this.segments.keys();
    return this.wanted !== null && oldest < this.current && oldest < this.inUseFrom && this.bytes > 2 * this.wanted.wantedBytes + 2 * limits.segmentBytes;
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
    const {disk} = this.options;
    let kept: Buffer[] = [];
    let failure: Error | null = null;
    const move = (): void => {
      const lines = Buffer.concat(kept);
      kept = [];
      if (lines.length > 0) disk.do(() => this.write(lines), (error) => (failure ??= error));
    };
    await inSlices(this.linesOf(oldest!, this.files.read(oldest!)), (line) => {
      if (this.wanted!.isWanted(line) && kept.push(line.bytes) >= limits.sliceSize) move();
    });
    move();
    await this.onDisk();
    if (failure === null) disk.do(() => this.files.remove(oldest!), (error) => (failure ??= error));
    await disk.passed();
    if (failure !== null) throw failure as Error;
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
