/** The side of a measuring process: answers what the run asks over the IPC channel, and ends with it. */
import {readFileSync} from 'node:fs';

/** What a measuring process can do, by name. */
export type Handlers = {readonly [verb: string]: (request: never) => unknown};

interface Question {
  readonly id: number;
  readonly verb: string;
  readonly request: unknown;
}

async function answer(handlers: Handlers, {id, verb, request}: Question): Promise<void> {
  try {
    const handler = handlers[verb];
    if (handler === undefined) throw new Error(`no such measurement: ${verb}`);
    const value = await handler(request as never);
    process.send?.({id, value});
  } catch (error) {
    process.send?.({id, error: error instanceof Error ? (error.stack ?? error.message) : String(error)});
  }
}

/** Serves until the run goes away; `leave` then gives back what must not stay behind, and ends the process. */
export function serve(handlers: Handlers, leave: () => void = () => process.exit(0)): void {
  process.on('message', (question: Question) => void answer(handlers, question));
  process.once('disconnect', leave);
}

/** Wall clock in ms with a fraction: comparable to what date(1) says. */
export const wallClockMs = (): number => performance.timeOrigin + performance.now();

/** Resident memory of a process in KiB, from proc(5). */
export function residentKiB(pid: number | 'self'): number {
  return Number(/^VmRSS:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? Number.NaN);
}

/** Clock ticks per second of proc(5), on every architecture that Linux runs Node on. */
const ticksPerSecond = 100;

function cpuFieldsMs(pid: number, first: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[first]) + Number(fields[first + 1])) * 1000) / ticksPerSecond;
}

/** CPU time that a process itself has used, in ms; its children are not in it. */
export const cpuMs = (pid: number): number => cpuFieldsMs(pid, 11);

/** CPU time of those children that it has reaped, and of theirs, in ms. */
export const reapedCpuMs = (pid: number): number => cpuFieldsMs(pid, 13);
