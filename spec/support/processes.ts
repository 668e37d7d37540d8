/** What proc(5) says of the processes that specs have started. */
import {readFileSync, readdirSync} from 'node:fs';
import {errnoOf} from '../../lib/base/errors';
import {startTimeOf} from '../../lib/proc/process-tree';
import {until} from './until';

function environmentOf(pid: number): string {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}`;
  } catch {
    return ''; // gone, or a kernel thread
  }
}

/** All living processes. A zombie has no environment any more and is not among those found by one. */
export function allProcesses(): number[] {
  return readdirSync('/proc').map(Number).filter(Number.isInteger);
}

/** Living processes with this `NAME=value` in the environment that they were started with. One that is in the middle of execve(2) has none. */
export function processesWith(variable: string): number[] {
  return allProcesses().filter((pid) => environmentOf(pid).includes(`\0${variable}\0`));
}

/** Whether noded started it as a function, or a function did. */
export function isFunctionProcess(pid: number): boolean {
  return environmentOf(pid).includes('\0NODED_CALL_KEY=');
}

/** Fork servers that live in this run directory; there should be one at most. */
export function forkServersIn(runDir: string): number[] {
  return allProcesses().filter((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
      const program = words.findIndex((word) => /\/noded-(forker|ganeti)$/.test(word));
      if (program === -1 || words[program + 1] !== runDir || !isAlive(pid)) return false;
      // A function that noded-ganeti has forked has its command line, but a name of its own.
      return words[program]?.endsWith('/noded-forker') === true || readFileSync(`/proc/${pid}/comm`, 'latin1') === 'noded-ganeti\n';
    } catch {
      return false; // gone
    }
  });
}

/** Waits until no fork server lives in this run directory: the end of its connection is heard before the kernel is done with it. */
export async function noForkServerIn(runDir: string): Promise<void> {
  await until('the fork server has gone', () => forkServersIn(runDir).length === 0);
}

/** Its children, zombies included. Empty if it is gone. */
export function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').split(' ').filter((word) => word !== '').map(Number));
  } catch {
    return []; // gone, or a thread of it is
  }
}

/** Whether it runs; a zombie does not. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

const ownStart = startTimeOf(process.pid);

/**
 * Throws unless specs may have started it. A pid comes from a file, an answer or a search, and where these were wrong
 * it must not reach kill(2): 0 is this whole run and who began it, the rest are somebody else's processes.
 */
function ours(pid: number): number {
  const start = Number.isInteger(pid) && pid > 1 && pid !== process.pid ? startTimeOf(pid) : ownStart;
  // In the same tick of 10 ms comes who began this run; nothing that it starts comes so soon.
  if (start !== 0 && start <= ownStart) throw new Error(`${pid} is no process that these specs have started`);
  return pid;
}

/** A signal to a process that specs have started. Throws if it is none, or has ended. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  process.kill(ours(pid), signal);
}

/** SIGKILL to a process that may have ended meanwhile. */
export function kill(pid: number): void {
  ignoreEnded(() => signalProcess(pid, 'SIGKILL'));
}

/** A signal to the group of such a process, which may have ended meanwhile. */
export function signalGroup(leader: number, signal: NodeJS.Signals): void {
  ignoreEnded(() => process.kill(-ours(leader), signal));
}

function ignoreEnded(send: () => void): void {
  try {
    send();
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

/** Memory of a process that is in RAM. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;
}

/**
 * The bits of signals 32 and 33 in the masks of /proc/PID/status. They are glibc's own: posix_spawn(3) of whoever
 * started noded leaves them ignored, and sigaction(3) refuses to reset them.
 */
export const glibcSignals = 0b11n << 31n;
