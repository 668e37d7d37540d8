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

  /** The first line of the journal that it is to make, if it is to make one. */
  firstLine(accepted: string | null): string | null {
    return accepted === null ? null : `${accepted}\n`;
  }

  started({key, spooled, start}: Running, {pid, startTime, at}: LiveCall): void {
    if (!spooled) return;
    if (start?.accepted != null) this.spool.append(key, start.accepted);
    this.spool.append(key, startedLine({pid, startTime, bootId, ...(at ?? momentNow())}));
  }

  ended({key, spooled, start}: Running, ended: EndedLine, {noted, stdoutBytes}: EndedFrame): void {
    if (!spooled) return;
    // Of a start that failed nothing is in the log yet.
    if (start?.accepted != null) this.spool.append(key, start.accepted);
    this.spool.putOnFile(key, endedLine({...ended, ...(noted === null ? {} : {noted}), ...(stdoutBytes === null ? {stdoutLost: true} : {})}));
    this.spool.earlier.remove(key);
  }
}
