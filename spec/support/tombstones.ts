import {parseLine} from '../../lib/call/journal';
import {readTombstone} from '../../lib/call/tombstones';
import type {Tombstone} from '../../lib/call/tombstones';

/** The tombstone that a line of the log tells of; null for a line that is none. */
export function tombstoneOf({key, line}: {readonly key: string; readonly line: string}): Tombstone | null {
  const parsed = parseLine(line);
  return parsed === null ? null : readTombstone(key, parsed);
}
