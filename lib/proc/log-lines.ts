/**
 * The bytes of the log (doc/formats.md, "The log"): a head with a version, then lines of a checksum, the key of a
 * call and JSON. Every append begins with a newline: what somebody else could not finish costs that line alone.
 */
import {crc32} from 'node:zlib';
import {limits} from '../base/limits';

export const logVersion = 1;
const keyChars = 16;
/** Checksum, space, key, space. */
const headChars = 8 + 1 + keyChars + 1;
const newline = 10;
const space = 32;

export const segmentHead = `noded log ${logVersion}\n`;

/** Far more than the head of any version. */
export const maxHeadBytes = 32;

/** The version in the head of a segment, or in its first `maxHeadBytes`; null for one whose head could not be written, which has no lines yet. */
export function versionOf(segment: Buffer): number | null {
  const version = /^noded log (\d+)\n/.exec(segment.toString('latin1', 0, maxHeadBytes))?.[1];
  return version === undefined ? null : Number(version);
}

const checksum = (bytes: Buffer | string): string => crc32(bytes).toString(16).padStart(8, '0');

/** A line of the log, with its newline. */
export function sealLine(key: string, json: string): string {
  const text = `${key} ${json}`;
  return `${checksum(text)} ${text}\n`;
}

export interface LogLine {
  readonly key: string;
  readonly json: string;
  /** As it stands in the log, with its newline. */
  readonly bytes: Buffer;
}

/** Null for a line that is damaged, or was never whole. */
function openLine(bytes: Buffer): LogLine | null {
  if (bytes.length <= headChars || bytes.length > headChars + limits.maxLineBytes + 1) return null;
  if (bytes[8] !== space || bytes.toString('latin1', 0, 8) !== checksum(bytes.subarray(9, -1))) return null;
  return {key: bytes.toString('latin1', 9, 9 + keyChars), json: bytes.toString('utf8', headChars, bytes.length - 1), bytes};
}

/** All whole lines of a segment; `damaged` is told of each other one. */
export function* linesOf(segment: Buffer, damaged: () => void): Generator<LogLine> {
  for (let at = segment.indexOf(newline) + 1; at > 0 && at < segment.length; ) {
    const found = segment.indexOf(newline, at);
    const end = found === -1 ? segment.length : found + 1;
    if (end > at + 1) {
      const line = found === -1 ? null : openLine(segment.subarray(at, end));
      if (line === null) damaged();
      else yield line;
    }
    at = end;
  }
}
