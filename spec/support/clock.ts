/** The clock of specs that let time pass: timers, Date and performance are fake, setImmediate and promises are real. */
import * as sinon from 'sinon';

export type FakeClock = sinon.SinonFakeTimers;

/** What the wall clock shows when a fake clock is set; the monotonic clock shows 0. */
export const wallStartMs = 1_764_670_000_123;

/** Restore it in an `afterEach`: everything in the process goes by it. */
export function setFakeClock(): FakeClock {
  return sinon.useFakeTimers({now: wallStartMs, toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance']});
}

/** One turn of the event loop: what was put off by setImmediate before has been done after it. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
