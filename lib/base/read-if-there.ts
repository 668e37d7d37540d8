import {readFileSync} from 'node:fs';
import {errnoOf} from './errors';

/** The text of a file; empty if there is none. Throws any other error of the system. */
export function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}
