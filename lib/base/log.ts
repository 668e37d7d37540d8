/**
 * The logger and its bounded sink. A reader of the log that stops reading must not stop the daemon, nor
 * fill its memory: what does not fit into the queue is dropped, counted, and the count is logged.
 */
import {closeSync, constants, openSync, write, writeSync} from 'node:fs';
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
  private queue: string[] = [];
  private queuedBytes = 0;
  private dropped = 0;
  private writing = false;
  private fd: number;

  /** Without a file, standard error. */
  constructor(private readonly file: string | null) {
    this.fd = file === null ? 2 : openLog(file);
  }

  /** Lines that a slow reader has lost since the last one that was written. */
  get droppedLines(): number {
    return this.dropped;
  }

  write(line: string): void {
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
    closeSync(old);
  }

  /** Writes what is queued now, as far as the reader takes it: the process ends. */
  flush(): void {
    for (const line of this.queue.splice(0)) {
      try {
        writeSync(this.fd, line);
      } catch {
        return;
      }
    }
  }

  private writeNext(): void {
    if (this.dropped > 0 && this.queue.length === 0) {
      this.queue.push(`${JSON.stringify({level: 40, time: Date.now(), msg: `${this.dropped} log lines were dropped: the reader is too slow`})}\n`);
      this.dropped = 0;
    }
    if (this.queue.length === 0) return;
    const batch = Buffer.from(this.queue.splice(0).join(''));
    this.queuedBytes = batch.length;
    this.writing = true;
    this.writeRest(batch, 0);
  }

  private writeRest(batch: Buffer, from: number): void {
    write(this.fd, batch, from, batch.length - from, null, (error, written) => {
      const at = from + written;
      if (error !== null && errnoOf(error) === 'EAGAIN') {
        setTimeout(() => this.writeRest(batch, at), retryMs).unref();
      } else if (error === null && at < batch.length) {
        this.writeRest(batch, at);
      } else {
        // Any other error (EPIPE, ENOSPC) loses this batch: there is nobody to tell.
        this.writing = false;
        this.queuedBytes -= batch.length;
        this.writeNext();
      }
    });
  }
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

/** A pino logger over a sink; a person's lines on a terminal, JSON lines everywhere else. */
export function createLog(sink: LogSink, options: {readonly debug: boolean; readonly terminal: boolean}): Log {
  const {pino} = require('pino') as typeof import('pino'); // loaded late: the client library needs no logger
  const stream = {write: (line: string): void => sink.write(options.terminal ? forTerminal(line) : line)};
  return pino({level: options.debug ? 'debug' : 'info', base: null}, stream);
}
