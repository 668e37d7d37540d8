/** Whether a file could have been put or changed by somebody else (DESIGN.md section 6; after OpenSSH's safe_path). */
import {lstatSync, realpathSync} from 'node:fs';
import type {Stats} from 'node:fs';
import {dirname} from 'node:path';

const sticky = 0o1000;
const writableByOthers = 0o002;
const writableByGroup = 0o020;

function complaint(path: string, stats: Stats, uid: number, isParent: boolean): string | null {
  if (stats.uid !== 0 && stats.uid !== uid) return `${path} belongs to uid ${stats.uid}, not to root or to noded's user`;
  // In a sticky directory such as /tmp others may add names, but not replace this one.
  if (isParent && (stats.mode & sticky) !== 0) return null;
  if ((stats.mode & writableByOthers) !== 0) return `${path} may be written by everyone`;
  if ((stats.mode & writableByGroup) !== 0 && stats.gid !== 0 && stats.gid !== process.getgid?.()) return `${path} may be written by group ${stats.gid}`;
  return null;
}

/** What is unsafe about the owner or mode of a path or of a directory above it, or null. Throws if it cannot be looked at. */
export function unsafePath(path: string): string | null {
  const uid = process.getuid?.() ?? 0;
  const real = realpathSync(path);
  const own = complaint(real, lstatSync(real), uid, false);
  if (own !== null) return own;
  for (let child = real, parent = dirname(real); parent !== child; child = parent, parent = dirname(parent)) {
    const found = complaint(parent, lstatSync(parent), uid, true);
    if (found !== null) return found;
  }
  return null;
}
