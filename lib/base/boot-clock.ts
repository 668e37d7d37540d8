/**
 * The clock that what outlives the daemon goes by: time since the machine's boot (CLOCK_BOOTTIME). It is never set, goes
 * on while the machine sleeps, and is the same for the next noded and for a fork server.
 */
import {readFileSync} from 'node:fs';
import * as os from 'node:os';
import {monotonicMs, wallMs} from './duration';

/** An instant of one boot, in ms since that. */
export interface BootTime {
  readonly bootId: string;
  readonly ms: number;
}

/** An instant as a journal has it: by the wall clock, and by the boot clock where that is known. */
export interface Moment {
  readonly atMs: number;
  readonly boot: BootTime | null;
}

export const momentOf = ({atMs, boot}: Moment): Moment => ({atMs, boot});

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return '';
  }
}

/** The machine's present boot: a pid or a boot time of another one means nothing. Empty where the system has no such thing. */
export const bootId = readOrEmpty('/proc/sys/kernel/random/boot_id');

/** Containers may be shown an uptime of their own in place of the kernel's (lxcfs); fork servers go by the kernel's. */
const isKernels = bootId !== '' && !readOrEmpty('/proc/self/mountinfo').includes(' /proc/uptime ');

/** What the monotonic clock lacks of the boot clock; looked at again now and then, and when the machine may have slept. */
let read = {aheadMs: 0, monotonicMs: -Infinity, wallAheadMs: 0};
const readAgainMs = 1_000;
const sleptMs = 100;

/** Now, since boot. At most 10 ms too little, never too much: so finely the system tells it. */
export function bootMs(): number {
  const now = monotonicMs();
  const wallAheadMs = wallMs() - now;
  if (now < read.monotonicMs || now - read.monotonicMs > readAgainMs || Math.abs(wallAheadMs - read.wallAheadMs) > sleptMs) {
    read = {aheadMs: os.uptime() * 1000 - monotonicMs(), monotonicMs: now, wallAheadMs};
  }
  return now + read.aheadMs;
}

export function momentNow(): Moment {
  return {atMs: wallMs(), boot: isKernels ? {bootId, ms: Math.round(bootMs())} : null};
}

/**
 * Ms since a moment, never negative. By the boot clock if it is of this boot. Else by the wall clock, which may have been
 * set; but what was before this boot is at least as old as the boot.
 */
export function ageMs({atMs, boot}: Moment): number {
  const wallAgeMs = Math.max(0, wallMs() - atMs);
  if (boot === null || !isKernels) return wallAgeMs;
  if (boot.bootId !== bootId) return Math.max(wallAgeMs, bootMs());
  return Math.max(0, bootMs() - boot.ms);
}

/** Ms from one moment to another, never negative; by the clock of their boot, if it is one. */
export function spanMs(from: Moment, to: Moment): number {
  if (from.boot !== null && from.boot.bootId === to.boot?.bootId) return Math.max(0, to.boot.ms - from.boot.ms);
  return Math.max(0, to.atMs - from.atMs);
}
