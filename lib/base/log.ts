/**
 * The logger and its bounded sink. A reader of the log that stops reading must not stop the daemon, nor
 * fill its memory: what does not fit into the queue is dropped, counted, and the count is logged.
 */
import {closeSync, constants, fstatSync, openSync, write, writeSync} from 'node:fs';
import {Socket} from 'node:net';
import {setTimeout as pause} from 'node:timers/promises';
import {monotonicMs} from './duration';
import {errnoOf} from './errors';
import {limits} from './limits';

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const retryMs = 100;

/** Writes lines to a descriptor in the background, in order. */
export class LogSink {
  private readonly queue: string[] = [];
  private queuedBytes = 0;
  private dropped = 0;
  private writing = false;
  /** What a slow reader has not taken yet of the present batch, between two attempts. */
  private waiting: {readonly rest: Buffer; readonly timer: NodeJS.Timeout} | null = null;
  /** Descriptors of files that were rotated away while a write was under way. */
  private readonly replaced: number[] = [];
  private fd: number;

  /** Without a file, standard error. What is written are lines of `format`. */
  constructor(
    private readonly file: string | null,
    private readonly format: (line: string) => string = (line) => line,
  ) {
    this.fd = file === null ? openStandardError() : openLog(file);
  }

  /** Lines that a slow reader has lost since the last one that was written. */
  get droppedLines(): number {
    return this.dropped;
  }

  write(json: string): void {
    const line = this.format(json);
    if (this.queuedBytes + line.length > limits.maxLogQueueBytes) {
      this.dropped += 1;
      return;
    }
    this.queue.push(line);
    this.queuedBytes += line.length;
    if (!this.writing) this.writeNext();
  }

  /** Opens the file anew, after a rotation. Throws if it cannot be opened; then the old one stays. */
  reopen(): void {
    if (this.file === null) return;
    const old = this.fd;
    this.fd = openLog(this.file);
    // A thread may still have to write to the old one: its number must not become that of another file before.
    if (this.writing) this.replaced.push(old);
    else closeSync(old);
  }

  /** Resolves when no write is under way, so that what is flushed comes after it; or when that takes too long. */
  async settle(): Promise<void> {
    for (const due = monotonicMs() + limits.logSettleMs; this.writing && this.waiting === null && monotonicMs() < due; ) await pause(limits.logSettlePollMs);
  }

  /** Writes what is queued now, as far as the reader takes it: the process ends. */
  flush(): void {
    clearTimeout(this.waiting?.timer);
    const rest = this.waiting?.rest ?? Buffer.alloc(0);
    this.waiting = null;
    const bytes = Buffer.concat([rest, Buffer.from(this.queue.splice(0).join('') + this.droppedLine())]);
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.fd, bytes, at);
    } catch {
      // The reader is slow or gone, and nobody is there to tell.
    }
  }

  private droppedLine(): string {
    if (this.dropped === 0) return '';
    const line = this.format(`${JSON.stringify({level: 40, time: Date.now(), msg: `${this.dropped} log lines were dropped: the reader is too slow`})}\n`);
    this.dropped = 0;
    return line;
  }

  private writeNext(): void {
    const lines = this.queue.splice(0).join('');
    const batch = Buffer.from(lines === '' ? this.droppedLine() : lines);
    this.writing = batch.length > 0;
    this.queuedBytes = batch.length;
    if (this.writing) this.writeRest(batch);
  }

  private writeRest(rest: Buffer): void {
    this.waiting = null;
    write(this.fd, rest, 0, rest.length, null, (error, written) => {
      for (const fd of this.replaced.splice(0)) closeSync(fd);
      if (error !== null && errnoOf(error) === 'EAGAIN') {
        this.waiting = {rest, timer: setTimeout(() => this.writeRest(rest), retryMs).unref()};
      } else if (error === null && written < rest.length) {
        this.writeRest(rest.subarray(written));
      } else {
        // Any other error (EPIPE, ENOSPC) loses this batch: there is nobody to tell.
        this.writeNext();
      }
    });
  }
}

/** Keeps the handle of a standard error that is a socket from being collected, which would close it. */
let standardError: Socket | undefined;

/**
 * A reader that stands still must block no thread, because the process cannot even end then. A pipe is
 * opened anew for that: O_NONBLOCK belongs to the open file, so whoever shares the pipe notices nothing. A
 * socket (journald's) cannot be opened; it belongs to noded alone, and libuv makes it non-blocking.
 */
function openStandardError(): number {
  try {
    const stats = fstatSync(2);
    if (stats.isFIFO()) return openSync('/proc/self/fd/2', constants.O_WRONLY | constants.O_NONBLOCK);
    if (stats.isSocket()) standardError ??= new Socket({fd: 2, readable: false, writable: true}).on('error', () => {}).unref();
  } catch {
    // Another user's pipe, or no standard error at all: as it is, then.
  }
  return 2;
}

function openLog(file: string): number {
  return openSync(file, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o640);
}

const levelNames: Readonly<Record<number, string>> = {20: 'debug', 30: 'info', 40: 'warning', 50: 'error', 60: 'fatal'};

/** One line of JSON as a person at a terminal reads it. */
export function forTerminal(line: string): string {
  const {level, time, msg, ...fields} = JSON.parse(line) as Record<string, unknown> & {level: number; time: number; msg: string};
  const facts = Object.entries(fields).map(([name, value]) => ` ${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return `${new Date(time).toISOString()} ${levelNames[level] ?? level}: ${msg}${facts.join('')}\n`;
}

/** sd-daemon(3): the journal takes the priority of a line from there, and not into it. */
const priorities: Readonly<Record<number, number>> = {20: 7, 30: 6, 40: 4, 50: 3, 60: 2};

/** What is put before a line of this level, or of an error, for systemd's journal to know; nothing where standard error goes anywhere else. */
export function journalPrefix(level = 50): string {
  return goesToJournal() ? `<${priorities[level] ?? 6}>` : '';
}

/** systemd.exec(5): JOURNAL_STREAM names the socket, and may have been inherited from somebody with another standard error. */
function goesToJournal(): boolean {
  const {JOURNAL_STREAM} = process.env;
  if (JOURNAL_STREAM === undefined) return false;
  try {
    const {dev, ino} = fstatSync(2);
    return JOURNAL_STREAM === `${dev}:${ino}`;
  } catch {
    return false; // there is none
  }
}

/** A line of JSON, or what was made of it, as standard error is to have it. */
export function forJournal(json: string, line = json): string {
  return `${journalPrefix(Number(/^\{"level":(\d+)/.exec(json)?.[1]))}${line}`;
}

/** Where lines go; a LogSink, or several of them. */
export interface LineSink {
  write(line: string): void;
}

/** A pino logger over a sink, which gets lines of JSON. */
export function createLog(sink: LineSink, {debug}: {readonly debug: boolean}): Log {
  const {pino} = require('pino') as typeof import('pino'); // loaded late: the client library needs no logger
  return pino({level: debug ? 'debug' : 'info', base: null}, sink);
}
