/** The log of ganeti-noded(8): Ganeti's file and Ganeti's lines, which other programs read; and syslog, where asked for. */
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {monotonicMs} from '../base/duration';
import {messageOf} from '../base/errors';
import {limits} from '../base/limits';
import {LogSink, forJournal} from '../base/log';
import type {LineSink} from '../base/log';
import type {SyslogUse} from './ganeti-options';

/** pino's levels in Ganeti's words, and in the numbers of syslog's priorities with the facility daemon. */
const levels: Readonly<Record<number, readonly [word: string, priority: number]>> = {20: ['DEBUG', 31], 30: ['INFO', 30], 40: ['WARNING', 28], 50: ['ERROR', 27], 60: ['CRITICAL', 26]};

interface Entry {
  readonly time: Date;
  readonly level: readonly [word: string, priority: number];
  readonly text: string;
}

function readEntry(line: string): Entry {
  const {level, time, msg, ...fields} = JSON.parse(line) as Record<string, unknown> & {level: number; time: number; msg: string};
  const facts = Object.entries(fields).map(([name, value]) => ` ${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return {time: new Date(time), level: levels[level] ?? levels[60]!, text: `${msg}${facts.join('')}`.replaceAll('\n', ' ')};
}

const digits = (value: number, count: number): string => String(value).padStart(count, '0');

/** `2026-11-22 07:02:14,930: ganeti-noded pid=3616 INFO …`, in local time. */
export function ganetiLine(line: string): string {
  const {time, level: [word], text} = readEntry(line);
  const date = `${time.getFullYear()}-${digits(time.getMonth() + 1, 2)}-${digits(time.getDate(), 2)}`;
  const clock = `${digits(time.getHours(), 2)}:${digits(time.getMinutes(), 2)}:${digits(time.getSeconds(), 2)},${digits(time.getMilliseconds(), 3)}`;
  return `${date} ${clock}: ganeti-noded pid=${process.pid} ${word} ${text}\n`;
}

/** syslog, by a logger(1) that reads lines: Node has no datagram sockets of the Unix kind. Never debug messages, as in Ganeti. */
class Syslog implements LineSink {
  private logger: ChildProcess | null = null;
  private startedAt = -Infinity;

  write(line: string): void {
    const {level: [word, priority], text} = readEntry(line);
    if (word === 'DEBUG') return;
    const stdin = this.reach()?.stdin;
    // A logger that takes nothing must not fill the memory.
    if (stdin && stdin.writableLength < limits.maxLogQueueBytes) stdin.write(`<${priority}>${word} ${text}\n`);
  }

  /** With standard input at its end it writes what it has, and goes. */
  close(): void {
    this.logger?.stdin?.end();
  }

  private reach(): ChildProcess | null {
    if (this.logger !== null || monotonicMs() - this.startedAt < limits.syslogRetryMs) return this.logger;
    this.startedAt = monotonicMs();
    try {
      const logger = spawn('logger', ['--prio-prefix', `--id=${process.pid}`, '--tag', 'ganeti-noded'], {stdio: ['pipe', 'ignore', 'ignore']});
      const gone = (): void => void (this.logger = null);
      logger.once('error', gone).once('exit', gone);
      logger.stdin.on('error', () => {}); // its end is told by 'exit'
      logger.unref();
      this.logger = logger;
    } catch {
      this.logger = null; // no process to be had: the next line tries again, later
    }
    return this.logger;
  }
}

export interface GanetiLogOptions {
  readonly file: string;
  readonly syslog: SyslogUse;
  readonly foreground: boolean;
  readonly debug: boolean;
}

/** All that a line goes to. */
export class GanetiSink implements LineSink {
  private readonly sinks: LogSink[] = [];
  private readonly syslog: Syslog | null;

  /** Throws if the file cannot be written to, unless there is another place for the log. */
  constructor({file, syslog, foreground, debug}: GanetiLogOptions) {
    this.syslog = syslog === 'no' ? null : new Syslog();
    let problem: string | null = null;
    try {
      if (syslog !== 'only') this.sinks.push(new LogSink(file, ganetiLine));
    } catch (error) {
      if (!foreground && syslog === 'no') throw error;
      problem = messageOf(error);
    }
    if (foreground && (debug || problem !== null)) this.sinks.push(new LogSink(null, (line) => forJournal(line, ganetiLine(line))));
    if (problem !== null) this.write(JSON.stringify({level: 50, time: Date.now(), msg: `no log file: ${problem}`}));
  }

  write(line: string): void {
    this.syslog?.write(line);
    for (const sink of this.sinks) sink.write(line);
  }

  reopen(): void {
    for (const sink of this.sinks) sink.reopen();
  }

  async settle(): Promise<void> {
    await Promise.all(this.sinks.map((sink) => sink.settle()));
  }

  flush(): void {
    for (const sink of this.sinks) sink.flush();
    this.syslog?.close();
  }
}
