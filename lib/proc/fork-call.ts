/** What a daemon knows of the calls that its fork server has. */
import type {SpawnSink} from '../call/spawner';
import type {StartFrame} from './fork-frames';

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

/** A call of an earlier daemon that the fork server still runs. */
export interface LiveCall {
  readonly pid: number;
  readonly startTime: number;
}
