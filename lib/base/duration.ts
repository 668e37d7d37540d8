/** Seconds on the wire, milliseconds in code, and the clock that deadlines are read from. */
import {limits} from './limits';

/** An instant on the monotonic clock, in ms. Wall clocks jump (NTP, suspended machines): never use them for deadlines. */
export function monotonicMs(): number {
  return performance.now();
}

/** The wall clock in ms since the epoch: for display and for journals only. */
export function wallMs(): number {
  return Date.now();
}

/** Seconds to ms, clamped to [0, maxMs]. The caller has checked that it is a finite number >= 0. */
export function secondsToMs(seconds: number, maxMs: number = limits.maxDurationMs): number {
  return Math.min(seconds * 1000, maxMs);
}

/** Ms to seconds with ms precision, as they stand on the wire. */
export function msToSeconds(ms: number): number {
  return Math.round(ms) / 1000;
}

/** The delay to give to setTimeout: never NaN or negative, and never over 2^31 - 1, where it would fire at once. */
export function timerDelayMs(ms: number): number {
  return Math.min(Math.max(Math.ceil(ms), 0), limits.maxTimerMs);
}
