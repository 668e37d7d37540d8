/**
 * A fork server of before the log, with calls: an upgrade found it at work. It makes a journal of each call; what it
 * reports goes to the log from here, and its journals are removed when their calls have ended.
 */
import {bootId, momentNow} from '../base/boot-clock';
import {endedLine, startedLine} from '../call/journal';
import type {EndedLine} from '../call/journal';
import type {LiveCall, Running} from './fork-call';
import type {EndedFrame} from './fork-frames';
import type {Spool} from './spool';

export class EarlierForker {
  constructor(private readonly spool: Spool) {}

  /** The first line of the journal that it is to make. */
  firstLine(accepted: string): string {
    return `${accepted}\n`;
  }

  started(running: Running, {pid, startTime, at}: LiveCall): void {
    const {key, spooled} = running;
    if (!spooled) return;
    this.accepted(running);
    this.spool.append(key, startedLine({pid, startTime, bootId, ...(at ?? momentNow())}));
  }

  ended(running: Running, ended: EndedLine, {noted, stdoutBytes}: EndedFrame): void {
    const {key, spooled} = running;
    if (!spooled) return;
    this.accepted(running);
    this.spool.putOnFile(key, endedLine({...ended, ...(noted === null ? {} : {noted}), ...(stdoutBytes === null ? {stdoutLost: true} : {})}));
    this.spool.earlier.remove(key);
  }

  /** Once: with the start, or with the end of a start that failed. */
  private accepted({key, start}: Running): void {
    if (start !== null && start.accepted !== null) this.spool.append(key, start.accepted);
  }
}
