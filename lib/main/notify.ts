/**
 * sd_notify(3), when systemd asks for it by NOTIFY_SOCKET. Node has no datagram sockets of the Unix kind,
 * so systemd-notify(1), which is there wherever systemd is, sends the messages; the unit therefore says
 * NotifyAccess=all. (npm's sd-notify would have to be compiled on every node.)
 */
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {messageOf} from '../base/errors';
import type {Log} from '../base/log';

/** Messages that wait for the one before them; if systemd-notify(1) hangs, there is nobody to tell. */
const maxQueued = 16;

const watchdogNews = 'WATCHDOG=1';

export class Notifier {
  private readonly enabled = process.env.NOTIFY_SOCKET !== undefined;
  private watchdog: NodeJS.Timeout | undefined;
  private readonly queue: (readonly string[])[] = [];
  private sending = false;

  constructor(private readonly log: Log) {}

  ready(status: string): void {
    this.send('READY=1', `STATUS=${status}`, `MAINPID=${process.pid}`);
    const watchdogMs = Number(process.env.WATCHDOG_USEC ?? 0) / 1000;
    // A timer of the loop: when the loop stands still, so does the watchdog's news.
    if (this.enabled && watchdogMs > 0) this.watchdog ??= setInterval(() => this.keepAlive(), watchdogMs / 2).unref();
  }

  reloading(): void {
    this.send('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
  }

  stopping(status: string): void {
    this.send('STOPPING=1', `STATUS=${status}`);
  }

  /** One that waits says enough; and while systemd-notify(1) hangs they must not take the places of what else is to be said. */
  private keepAlive(): void {
    if (!this.queue.some(([first]) => first === watchdogNews)) this.send(watchdogNews);
  }

  private send(...assignments: readonly string[]): void {
    if (!this.enabled || this.queue.length >= maxQueued) return;
    this.queue.push(assignments);
    if (!this.sending) this.sendNext();
  }

  /** One after the other: a READY=1 that overtook its RELOADING=1 would leave the unit reloading for ever. */
  private sendNext(): void {
    const assignments = this.queue.shift();
    this.sending = assignments !== undefined;
    if (assignments === undefined) return;
    let child: ChildProcess;
    try {
      child = spawn('systemd-notify', assignments, {stdio: 'ignore'});
    } catch (error) {
      this.complain(error);
      return this.sendNext();
    }
    const next = (): void => {
      child.removeAllListeners('error').removeAllListeners('exit');
      this.sendNext();
    };
    child.once('exit', next);
    // Without a process there is no 'exit'.
    child.once('error', (error) => {
      this.complain(error);
      next();
    });
  }

  private complain(error: unknown): void {
    this.log.warn({}, `systemd-notify: ${messageOf(error)}`);
  }
}
