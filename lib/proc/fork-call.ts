/** What a daemon knows of the calls that its fork server has. */
import type {Moment} from '../base/boot-clock';
import {monotonicMs} from '../base/duration';
import {limits} from '../base/limits';
import type {SpawnSink} from '../call/spawner';
import type {EndedFrame, OutputFrame, StartFrame} from './fork-frames';

/** A call that the fork server has. */
export interface Running {
  readonly key: string;
  readonly leaveRunning: boolean;
  readonly maxOutputBytes: number;
  readonly spooled: boolean;
  readonly sink: SpawnSink;
  /** What it is started with; null once it runs. */
  start: Omit<StartFrame, 'lastTry'> | null;
  tries: number;
  /** The hardest signal that was asked for: it is sent again when nobody knows whether it arrived. */
  wanted: 'terminate' | 'kill' | null;
  pid: number;
  startTime: number;
  stdout: Buffer;
  stderr: Buffer;
}

type RunningFacts = Pick<Running, 'key' | 'leaveRunning' | 'maxOutputBytes' | 'spooled' | 'sink' | 'start'>;

const nothing = Buffer.alloc(0);
export const newRunning = ({key, leaveRunning, maxOutputBytes, spooled, sink, start}: RunningFacts): Running => ({key, leaveRunning, maxOutputBytes, spooled, sink, start, tries: 1, wanted: null, pid: 0, startTime: 0, stdout: nothing, stderr: nothing});

/** A call whose process the fork server has started. */
export interface LiveCall {
  readonly pid: number;
  readonly startTime: number;
  /** Null if its fork server does not say. */
  readonly at: Moment | null;
}

/** What a fork server tells of the ends of calls that nobody has taken over yet. */
export class EarlyEnds {
  private readonly frames = new Map<string, (EndedFrame | OutputFrame)[]>();

  add(frame: EndedFrame | OutputFrame): void {
    const those = this.frames.get(frame.key);
    if (those === undefined) this.frames.set(frame.key, [frame]);
    else those.push(frame);
  }

  /** Gives them in their order, and forgets them. */
  take(key: string): readonly (EndedFrame | OutputFrame)[] {
    const those = this.frames.get(key) ?? [];
    this.frames.delete(key);
    return those;
  }
}

/** Calls that ended lately: their fork server may have died after that, and before it had killed what they left behind. */
export class RecentEnds {
  private readonly endedAt = new Map<string, number>();

  add(key: string): void {
    const now = monotonicMs();
    for (const [old, at] of this.endedAt) {
      if (now - at <= limits.leftoverMemoryMs) break;
      this.endedAt.delete(old);
    }
    this.endedAt.set(key, now);
  }

  /** Gives their keys, and forgets them. */
  take(): readonly string[] {
    const keys = [...this.endedAt.keys()];
    this.endedAt.clear();
    return keys;
  }
}
