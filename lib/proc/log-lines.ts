/**
 * The bytes of the log (doc/formats.md, "The log"): a head with a version, then lines of a checksum, the key of a
 * call and JSON. Every append begins with a newline: what somebody else could not finish costs that line alone.
 */
import {crc32} from 'node:zlib';
import {limits} from '../base/limits';

export const logVersion = 1;
/** Where the key stands in a line, behind checksum and space. */
export const keyAt = 8 + 1;
export const keyChars = 16;
/** Checksum, space, key, space. */
export const headChars = keyAt + keyChars + 1;
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

/** What each byte is worth as a lower-case hexadecimal digit; NaN if it is none. */
const digits = Float64Array.from({length: 256}, (_none, byte) => '0123456789abcdef'.indexOf(String.fromCharCode(byte))).map((value) => (value === -1 ? NaN : value));

/** False for a line that is damaged, or was never whole. A start looks at every line of the log, so no string is made. */
function isWhole(segment: Buffer, at: number, end: number): boolean {
  if (end - at <= headChars || end - at > headChars + limits.maxLineBytes + 1) return false;
  if (segment[at + 8] !== space || segment[end - 1] !== newline) return false;
  let sum = 0;
  for (let index = at; index < at + 8; index += 1) sum = sum * 16 + digits[segment[index]!]!;
  return sum === crc32(segment.subarray(at + keyAt, end - 1));
}

const openLine = (bytes: Buffer): LogLine => ({key: bytes.toString('latin1', keyAt, keyAt + keyChars), json: bytes.toString('utf8', headChars, bytes.length - 1), bytes});

/** The line that begins at this offset; null if it is damaged. */
export function lineAt(segment: Buffer, offset: number): LogLine | null {
  const end = lineEnd(segment, offset);
  return isWhole(segment, offset, end) ? openLine(segment.subarray(offset, end)) : null;
}

/** Where the line behind this offset begins, or all ends. */
export function lineEnd(segment: Buffer, from: number): number {
  const found = segment.indexOf(newline, from);
  return found === -1 ? segment.length : found + 1;
}

/** Where the whole lines of a segment begin; `damaged` is told of each other one. */
export function* lineStarts(segment: Buffer, damaged: () => void): Generator<number> {
  for (let at = lineEnd(segment, 0), end; at < segment.length; at = end) {
    end = lineEnd(segment, at);
    // Each write begins with a newline, which ends what another may have left torn.
    if (segment[at] === newline) continue;
    if (isWhole(segment, at, end)) yield at;
    else damaged();
  }
}

/** All whole lines of a segment; `damaged` is told of each other one. */
export function* linesOf(segment: Buffer, damaged: () => void): Generator<LogLine> {
  for (const at of lineStarts(segment, damaged)) yield openLine(segment.subarray(at, lineEnd(segment, at)));
}
