/** What many calls must not leave behind on a node: descriptors, zombies, files of the spool, memory. */
import {readFileSync, readdirSync} from 'node:fs';
import {join} from 'node:path';
import {childrenOf, forkServersIn, residentBytes} from './processes';
import {until} from './until';

export interface Leftovers {
  readonly descriptors: {readonly daemon: number; readonly forkServer: number};
  /** Processes that have ended and that nobody has reaped. */
  readonly zombies: readonly number[];
  readonly spoolFiles: readonly string[];
  readonly residentBytes: {readonly daemon: number; readonly forkServer: number};
}

const descriptorsOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

function isZombie(pid: number): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false; // reaped meanwhile
  }
}

export function leftovers(daemon: number, runDir: string): Leftovers {
  const [forkServer, ...others] = forkServersIn(runDir);
  if (forkServer === undefined || others.length > 0) throw new Error('there must be one fork server');
  return {
    descriptors: {daemon: descriptorsOf(daemon), forkServer: descriptorsOf(forkServer)},
    zombies: [daemon, forkServer].flatMap(childrenOf).filter(isZombie),
    spoolFiles: readdirSync(join(runDir, 'calls')),
    residentBytes: {daemon: residentBytes(daemon), forkServer: residentBytes(forkServer)},
  };
}

/** What of it is more than before, in words; empty if all is well. Memory is left to whoever knows how much is much. */
export function complaints(before: Leftovers, after: Leftovers): string[] {
  return [
    ...(['daemon', 'forkServer'] as const).flatMap((who) => (after.descriptors[who] > before.descriptors[who] ? [`${who} has ${after.descriptors[who]} descriptors, and had ${before.descriptors[who]}`] : [])),
    ...(after.zombies.length > 0 ? [`zombies: ${after.zombies.join(', ')}`] : []),
    ...(after.spoolFiles.length > before.spoolFiles.length ? [`files of the spool: ${after.spoolFiles.slice(0, 10).join(', ')}`] : []),
  ];
}

/** The last connections close, and the last processes are reaped, after their answers: so it looks again, for some seconds. */
export async function settled(daemon: number, runDir: string, before: Leftovers): Promise<Leftovers> {
  let now = before;
  const isQuiet = (): boolean => {
    now = leftovers(daemon, runDir);
    return complaints(before, now).length === 0;
  };
  await until('nothing is left behind', isQuiet).catch(() => {}); // told by the complaints
  return now;
}
