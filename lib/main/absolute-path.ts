/** Paths as people type them, which begin at the working directory unless they say otherwise. */
import {resolve} from 'node:path';

/** Throws an Error, as one clear line, if `path` begins at a directory that is not there any more. */
export function absolutePath(path: string): string {
  try {
    return resolve(path);
  } catch {
    throw new Error(`${path}: cannot tell where this is: the working directory has been removed`);
  }
}
