/**
 * Calls and tombstones that are on file and have not been read yet. A noded that starts knows their keys and request IDs,
 * listens, and reads them one after the other; what is asked for is read at once.
 */
import {setTimeout as pause} from 'node:timers/promises';
import {NodedError, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {UnreadCalls} from '../call/call-index';
import {Journal, parseLine} from '../call/journal';
import type {JournalRecord, Line} from '../call/journal';
import {inSlices} from '../call/slices';
import {readTombstone} from '../call/tombstones';
import type {Tombstone} from '../call/tombstones';
import type {CallLog} from './call-log';
import {lineAt} from './log-lines';
import type {Trace, Traces} from './log-scan';

/** The lines of traces, from the log. */
export class TraceReader {
  /** Some segments, as they were read last: what is read one after the other stands side by side. */
  private readonly segments = new Map<number, Buffer>();

  constructor(
    private readonly log: CallLog,
    readonly traces: Traces,
  ) {}

  /** Throws spawner_unavailable if the system has nothing to read them with. */
  *lines(trace: Trace): Generator<Line> {
    for (const {segment, offset} of this.traces.placesOf(trace)) {
      const line = lineAt(this.segment(segment), offset);
      const parsed = line === null ? null : parseLine(line.json);
      if (parsed !== null) yield parsed;
    }
  }

  /** Null if nothing of it was started after all: its first line has no meaning, or cannot be read any more. */
  record(trace: Trace): JournalRecord | null {
    const journal = new Journal(trace.key);
    for (const line of this.lines(trace)) journal.take(line);
    return journal.record;
  }

  tombstone(trace: Trace): Tombstone | null {
    for (const line of this.lines(trace)) if (line.event === 'buried') return readTombstone(trace.key, line);
    return null;
  }

  private segment(number: number): Buffer {
    const kept = this.segments.get(number);
    if (kept !== undefined) return kept;
    const [oldest] = this.segments.keys();
    if (this.segments.size >= limits.segmentsInMemory) this.segments.delete(oldest!);
    const segment = this.read(number);
    this.segments.set(number, segment);
    return segment;
  }

  private read(number: number): Buffer {
    try {
      return this.log.contentOf(number);
    } catch (error) {
      throw new NodedError('spawner_unavailable', {started: 'unknown', message: `the log of calls cannot be read: ${messageOf(error)}`});
    }
  }
}

/** Who is told of what was read. */
export interface UnreadSink {
  readonly log: {warn(fields: object, message: string): void};
  call(record: JournalRecord, order: number): void;
  tombstone(tombstone: Tombstone): void;
  /** The first line of this call has no meaning, or cannot be read any more: it is none. */
  nothing(key: string): void;
}

export class Unread implements UnreadCalls {
  private readonly byRole = new Map<string, Map<string, Trace>>();
  calls = 0;
  tombstones = 0;
  readonly done: Promise<void>;
  pass: Promise<void> = Promise.resolve();

  /** `placed` are in order of acceptance, calls that have ended and tombstones; `last` is the place of the last of all. */
  constructor(
    placed: readonly Trace[],
    readonly last: number,
    private readonly reader: TraceReader,
    private readonly sink: UnreadSink,
  ) {
    for (const trace of placed) {
      trace.isUnread = true;
      if (trace.requestId !== null) this.requestsOf(trace.role).set(trace.requestId, trace);
      if (trace.isBuried) this.tombstones += 1;
      else this.calls += 1;
    }
    this.done = this.readAll(placed);
  }

  /**
   * What cannot be read now stays unread, and is tried again: its request ID must not run again, nor its files be
   * removed.
   */
  private async readAll(placed: readonly Trace[]): Promise<void> {
    for (;;) {
      this.pass = inSlices(placed, (trace) => this.readTrace(trace));
      try {
        return await this.pass;
      } catch (error) {
        if (!(error instanceof NodedError)) throw error;
        this.sink.log.warn({calls: this.calls}, `${messageOf(error)}; it is tried again`);
        await pause(limits.rereadMs, undefined, {ref: false});
      }
    }
  }

  read(key: string): void {
    const trace = this.reader.traces.get(key);
    if (trace !== undefined) this.readTrace(trace);
  }

  readRequest(role: string, requestId: string): void {
    const trace = this.byRole.get(role)?.get(requestId);
    if (trace !== undefined) this.readTrace(trace);
  }

  private requestsOf(role: string): Map<string, Trace> {
    let requests = this.byRole.get(role);
    if (requests === undefined) this.byRole.set(role, (requests = new Map()));
    return requests;
  }

  private readTrace(trace: Trace): void {
    if (!trace.isUnread) return;
    if (trace.isBuried) this.readTombstone(trace);
    else this.readCall(trace);
  }

  private readTombstone(trace: Trace): void {
    const tombstone = this.reader.tombstone(trace);
    trace.isUnread = false;
    this.tombstones -= 1;
    if (tombstone !== null) this.sink.tombstone(tombstone);
  }

  private readCall(trace: Trace): void {
    const record = this.reader.record(trace);
    trace.isUnread = false;
    this.calls -= 1;
    if (record === null) this.sink.nothing(trace.key);
    else this.sink.call(record, trace.order);
  }
}
