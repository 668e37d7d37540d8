/**
 * Which ended calls are kept, and which goes first when there are too many of them or their files
 * are too large: the oldest delivered one, then the oldest (DESIGN.md section 5). JavaScript's Set keeps
 * insertion order and deletes in constant time, so each queue is one.
 */
import {limits} from '../base/limits';
import {writtenOf} from '../base/outcome';
import type {Call} from './call-record';

export interface RetentionLimits {
  readonly maxResults: number;
  readonly maxSpoolBytes: number;
}

export class Retention {
  private readonly undelivered = new Set<Call>();
  private readonly delivered = new Set<Call>();
  /** Of those that run, whose results nobody will ask for; and those of them that have ended. */
  private readonly abandoned = new WeakSet<Call>();
  private readonly unwanted = new Set<Call>();
  private bytes = 0;
  /** Calls that ended while older ones were still being read back; else null. */
  private younger: Call[] | null = null;

  constructor(private readonly max: RetentionLimits) {}

  get size(): number {
    return this.undelivered.size + this.delivered.size;
  }

  /** From now on, until `settle`, nothing is surplus, and only those that `restore` brings back are the oldest. */
  expectOlder(): void {
    this.younger = [];
  }

  /** One of those that are being read back, in order of acceptance. */
  restore(call: Call): void {
    this.undelivered.add(call);
    this.bytes += bytesOf(call);
  }

  /** All have been read back: those that came meanwhile are the youngest. */
  settle(): void {
    for (const call of this.younger!) {
      for (const queue of [this.undelivered, this.delivered]) if (queue.delete(call)) queue.add(call);
    }
    this.younger = null;
  }

  /** Bytes that the files of ended calls occupy: stdout and stderr. */
  get spoolBytes(): number {
    return this.bytes;
  }

  /** Whoever started this call will not ask for it: it goes as soon as it ends, unless somebody else waits for that. */
  abandon(call: Call): void {
    this.abandoned.add(call);
  }

  /** `awaited`: somebody is about to read its result. */
  add(call: Call, awaited: boolean): void {
    this.younger?.push(call);
    this.undelivered.add(call);
    if (this.abandoned.has(call) && !awaited) this.unwanted.add(call);
    this.bytes += bytesOf(call);
  }

  remove(call: Call): void {
    this.unwanted.delete(call);
    if (this.undelivered.delete(call) || this.delivered.delete(call)) this.bytes -= bytesOf(call);
  }

  /** The first delivery counts; a result that was read again is not younger. */
  markDelivered(call: Call): void {
    if (this.undelivered.delete(call)) this.delivered.add(call);
  }

  /** The calls that must go now, as long as there are any and each is removed. The last one stays, however large: somebody is about to read it. */
  *surplus(): Generator<Call> {
    for (let call = this.next(); call !== undefined; call = this.next()) yield call;
  }

  /** The log is about twice as large as what is wanted of it. */
  private get occupied(): number {
    return this.bytes + this.size * 2 * limits.keptCallBytes;
  }

  private next(): Call | undefined {
    const [unwanted] = this.unwanted;
    if (unwanted !== undefined) return unwanted;
    if (this.younger !== null || this.size <= 1 || (this.size <= this.max.maxResults && this.occupied <= this.max.maxSpoolBytes)) return undefined;
    const [oldest] = this.delivered.size > 0 ? this.delivered : this.undelivered;
    return oldest;
  }
}

const inBlocks = (bytes: number): number => Math.ceil(bytes / limits.blockBytes) * limits.blockBytes;

/** Of what stands in the log there are no files. That of the arguments is gone by then: only the function process reads it. */
function bytesOf({ending}: Call): number {
  const {stdoutBytes, stderrBytes, inJournal} = writtenOf(ending!);
  return inJournal === true ? 0 : inBlocks(stdoutBytes) + inBlocks(stderrBytes);
}
