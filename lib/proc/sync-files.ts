/** fsync(2) and fdatasync(2) on threads: none of it takes time of the loop. */
import {constants} from 'node:fs';
import {open} from 'node:fs/promises';
import type {FileHandle} from 'node:fs/promises';

const {O_NOFOLLOW, O_RDONLY} = constants;

async function sync(path: string, how: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, O_RDONLY | O_NOFOLLOW);
  try {
    await how(file);
  } finally {
    await file.close();
  }
}

/** Resolves once the content of a file is on disk. */
export const syncFile = (path: string): Promise<void> => sync(path, (file) => file.datasync());

/** Resolves once the names in a directory are. */
export const syncDirectory = (path: string): Promise<void> => sync(path, (directory) => directory.sync());
