/** Directories of this machine in memory, and on a disk: the fork server works in two ways. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import {isInMemory} from '../../lib/proc/run-dir';

export type Medium = 'memory' | 'disk';

function isUsable(path: string, medium: Medium): boolean {
  try {
    fs.accessSync(path, fs.constants.W_OK);
    return isInMemory(path) === (medium === 'memory');
  } catch {
    return false;
  }
}

/** Where to make directories on such a medium; undefined if this machine has none. Under CI it must have both. */
export function placeOn(medium: Medium): string | undefined {
  const place = [os.tmpdir(), '/dev/shm', '/run', '/var/tmp'].find((path) => isUsable(path, medium));
  if (place === undefined && process.env.CI === 'true') throw new Error(`no directory of this machine is on this medium: ${medium}`);
  return place;
}
