/** The highest resident memory of a process, from proc(5). */
import {readFileSync, writeFileSync} from 'node:fs';

/** Forgets the highest so far: it is counted from what is resident now. */
export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

export function peakKiB(pid: number): number {
  return Number(/^VmHWM:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? Number.NaN);
}
