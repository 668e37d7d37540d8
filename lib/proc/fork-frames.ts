/**
 * The frames between noded and a fork server: a little-endian u32 length of what follows, a byte of type,
 * a body. libexec/noded-forker.c has the table of them. Bounded on both sides; a malformed one ends the
 * connection and nothing else.
 */
import {bootId} from '../base/boot-clock';
import type {BootTime, Moment} from '../base/boot-clock';
import {errnoName} from '../base/errors';
import {signalName} from '../base/outcome';
import {isKey} from '../call/call-id';
import type {NotedOutput} from '../call/journal';
import type {FunctionSpec} from '../call/spawner';
import {namePattern} from './catalog';

/**
 * Of this noded's fork servers. One of version 3 makes a journal of each call, in the place of lines of the log; one of
 * version 2 has no moments but the wall clock's at an end, too. Their calls are taken over all the same.
 */
export const frameVersion = 4;
export const isKnownVersion = (version: number): boolean => version >= 2 && version <= frameVersion;
export const writesLog = (version: number): boolean => version >= 4;
const maxFrameBytes = 128 * 1024;
const keyBytes = 16;

const flags = {leaveRunning: 1, user: 2, nice: 4, unspooled: 8, inline: 16, parts: 32, lastTry: 64} as const;
const stages = ['', 'open', 'spawn', 'exec', 'journal'];

export interface StartFrame {
  readonly key: string;
  readonly spec: FunctionSpec;
  readonly env: readonly string[];
  readonly spooled: boolean;
  /** Arguments that go along; null if they are in `<key>.args`. */
  readonly args: Uint8Array | null;
  /** The first line of the call, sealed, which the fork server is to append; null if it is there, or is to be none. */
  readonly accepted: string | null;
  /** Report a program that is being written as a failure, and not as busy. */
  readonly lastTry: boolean;
}

export type ForkerFrame =
  | {readonly type: 'built_in'; readonly name: string}
  | {readonly type: 'welcome'; readonly version: number; readonly pid: number}
  | LiveFrame<'live'>
  | LiveFrame<'started'>
  | OutputFrame
  | EndedFrame
  | {readonly type: 'busy'; readonly key: string}
  | {readonly type: 'segment'; readonly number: number}
  | {readonly type: 'message'; readonly text: string};

/** A process that runs. */
interface LiveFrame<T> {
  readonly type: T;
  readonly key: string;
  readonly pid: number;
  readonly startTime: number;
  /** Null if the fork server does not say. */
  readonly at: Moment | null;
}

/** What a function wrote that had no files. */
export interface OutputFrame {
  readonly type: 'output';
  readonly key: string;
  readonly stream: 'stdout' | 'stderr';
  readonly bytes: Buffer;
}

export interface EndedFrame extends Moment {
  readonly type: 'ended';
  readonly key: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Of a start that failed. */
  readonly errno: string | null;
  readonly stage: string;
  /** Null if the file has gone. */
  readonly stdoutBytes: number | null;
  readonly stderrBytes: number | null;
  /** What it wrote, if that stands in its `ended` line and in no files: plain ASCII. */
  readonly noted: NotedOutput | null;
}

/** Length and type. */
const headBytes = 5;
/** What stands in a start frame's text where its numbers go: one write of one string costs a fifth of ten. */
const numbersPlace = '\0'.repeat(21);
const countPlace = '\0';

function frame(type: string, body: Buffer): Buffer {
  const head = Buffer.allocUnsafe(headBytes);
  head.writeUInt32LE(1 + body.length, 0);
  head.write(type, 4, 'latin1');
  return Buffer.concat([head, body]);
}

/** Bytes of the arguments that a start frame takes along; more goes into a file, or into frames before it. */
export const maxInlineArgsBytes = 64 * 1024;

function writeParts(key: string, args: Uint8Array): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < args.byteLength; at += maxInlineArgsBytes) {
    frames.push(frame('P', Buffer.concat([Buffer.from(key, 'latin1'), args.subarray(at, at + maxInlineArgsBytes)])));
  }
  return Buffer.concat(frames);
}

export function writeStart(start: StartFrame): Buffer {
  const {key, args} = start;
  if (args === null || args.byteLength <= maxInlineArgsBytes) return writeOneStart(start, 0);
  return Buffer.concat([writeParts(key, args), writeOneStart({...start, args: null}, flags.parts)]);
}

function writeOneStart({key, spec, env, spooled, args, accepted, lastTry}: StartFrame, more: number): Buffer {
  const bits =
    (spec.leaveRunning ? flags.leaveRunning : 0) |
    (spec.user === null ? 0 : flags.user) |
    (spec.nice === null ? 0 : flags.nice) |
    (spooled ? 0 : flags.unspooled) |
    (args === null ? 0 : flags.inline) |
    (lastTry ? flags.lastTry : 0) |
    more;
  const text = `${key}${numbersPlace}${spec.program}\0${countPlace}${env.length === 0 ? '' : `${env.join('\0')}\0`}`;
  const tail = accepted ?? '';
  const [textBytes, argsBytes, tailBytes] = [Buffer.byteLength(text), args?.byteLength ?? 0, Buffer.byteLength(tail)];
  const bytes = Buffer.allocUnsafe(headBytes + textBytes + 4 + argsBytes + 2 + tailBytes);
  bytes.writeUInt32LE(bytes.length - 4, 0);
  bytes.write('S', 4, 'latin1');
  bytes.write(text, headBytes);
  let at = headBytes + keyBytes;
  bytes.writeUInt8(bits, at);
  bytes.writeUInt32LE(spec.user?.uid ?? 0, at + 1);
  bytes.writeUInt32LE(spec.user?.gid ?? 0, at + 5);
  bytes.writeInt32LE(spec.nice ?? 0, at + 9);
  bytes.writeBigUInt64LE(BigInt(spec.maxOutputBytes) + 1n, at + 13);
  bytes[headBytes + keyBytes + numbersPlace.length + Buffer.byteLength(spec.program) + 1] = env.length;
  at = headBytes + textBytes;
  bytes.writeUInt32LE(argsBytes, at);
  if (args !== null) bytes.set(args, at + 4);
  at += 4 + argsBytes;
  bytes.writeUInt16LE(tailBytes, at);
  bytes.write(tail, at + 2);
  return bytes;
}

export function writeSignal(key: string, what: 'terminate' | 'kill'): Buffer {
  return frame('K', Buffer.concat([Buffer.from(key, 'latin1'), Buffer.from([what === 'kill' ? 2 : 1])]));
}

/** The segment of the log that is appended to from now on. */
export function writeSegment(number: number): Buffer {
  const body = Buffer.allocUnsafe(4);
  body.writeUInt32LE(number);
  return frame('G', body);
}

export function writeQuit(): Buffer {
  return frame('Q', Buffer.alloc(0));
}

/** A frame that this version of noded does not know, or that is not one at all. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** Bytes of the bodies: exactly so many, or at least so many where the rest is text or output. */
const bodySizes: Readonly<Record<string, readonly [bytes: number, how: 'exactly' | 'at least', orExactly?: number]>> = {
  N: [1, 'at least'],
  W: [8, 'exactly'],
  L: [keyBytes + 28, 'exactly', keyBytes + 12],
  A: [keyBytes + 28, 'exactly', keyBytes + 12],
  O: [keyBytes + 1, 'at least'],
  E: [keyBytes + 55, 'at least'],
  B: [keyBytes, 'exactly'],
  G: [4, 'exactly'],
  M: [0, 'at least'],
};

function checkSize(type: string, bytes: number): void {
  const size = bodySizes[type];
  if (size === undefined) throw new FrameError(`a frame of the unknown type ${JSON.stringify(type)}`);
  const [wanted, how, orExactly] = size;
  if (how === 'exactly' ? bytes !== wanted && bytes !== orExactly : bytes < wanted) throw new FrameError(`a frame of type ${type} with ${bytes} bytes instead of ${how} ${wanted}`);
}

function keyOf(body: Buffer): string {
  const key = body.toString('latin1', 0, keyBytes);
  if (!isKey(key)) throw new FrameError('a frame without a key');
  return key;
}

/** Little numbers; those that are none stand for an unknown size. */
function readSize(body: Buffer, at: number): number | null {
  const high = body.readUInt32LE(at + 4);
  return high === 0xffff_ffff ? null : high * 2 ** 32 + body.readUInt32LE(at);
}

/** A fork server and its daemon live in one boot. */
const readBoot = (body: Buffer, at: number): BootTime => ({bootId, ms: Number(body.readBigInt64LE(at))});

function readNoted(body: Buffer, at: number, stdoutBytes: number, stderrBytes: number): NotedOutput {
  if (body.length !== at + stdoutBytes + stderrBytes) throw new FrameError(`a frame of type E with ${body.length - at} bytes of output instead of ${stdoutBytes + stderrBytes}`);
  return {stdout: body.toString('latin1', at, at + stdoutBytes), stderr: body.toString('latin1', at + stdoutBytes)};
}

function nameOf(body: Buffer): string {
  const name = body.toString('latin1');
  if (!namePattern.test(name)) throw new FrameError('a frame with a name that no function may have');
  return name;
}

function readLive<T>(type: T, body: Buffer): LiveFrame<T> {
  return {type, key: keyOf(body), pid: body.readUInt32LE(keyBytes), startTime: Number(body.readBigUInt64LE(keyBytes + 4)), at: body.length > keyBytes + 12 ? {atMs: Number(body.readBigInt64LE(keyBytes + 12)), boot: readBoot(body, keyBytes + 20)} : null};
}

function readEnded(body: Buffer): EndedFrame {
  const at = keyBytes;
  const kind = body.readUInt8(at);
  const code = body.readInt32LE(at + 1);
  const stdoutBytes = readSize(body, at + 38);
  const stderrBytes = readSize(body, at + 46);
  const flags = body.readUInt8(at + 54);
  const hasBoot = (flags & 2) !== 0;
  return {
    type: 'ended',
    key: keyOf(body),
    exitCode: kind === 0 ? code : null,
    signal: kind === 1 ? signalName(code) : null,
    errno: kind === 2 ? errnoName(code) : null,
    stage: stages[body.readUInt8(at + 5)] ?? '',
    atMs: Number(body.readBigInt64LE(at + 6)),
    boot: hasBoot ? readBoot(body, at + 55) : null,
    stdoutBytes,
    stderrBytes,
    noted: (flags & 1) !== 0 ? readNoted(body, at + (hasBoot ? 63 : 55), stdoutBytes ?? 0, stderrBytes ?? 0) : null,
  };
}

function readFrame(type: string, body: Buffer): ForkerFrame {
  checkSize(type, body.length);
  switch (type) {
    case 'N':
      return {type: 'built_in', name: nameOf(body)};
    case 'W':
      return {type: 'welcome', version: body.readUInt32LE(0), pid: body.readUInt32LE(4)};
    case 'L':
      return readLive('live', body);
    case 'A':
      return readLive('started', body);
    case 'O':
      return {type: 'output', key: keyOf(body), stream: body.readUInt8(keyBytes) === 1 ? 'stdout' : 'stderr', bytes: Buffer.from(body.subarray(keyBytes + 1))};
    case 'E':
      return readEnded(body);
    case 'B':
      return {type: 'busy', key: keyOf(body)};
    case 'G':
      return {type: 'segment', number: body.readUInt32LE(0)};
    default:
      return {type: 'message', text: body.toString()};
  }
}

/** Cuts what arrives into frames. */
export class FrameReader {
  private rest: Buffer = Buffer.alloc(0);

  /** The whole frames so far, in order. Throws a FrameError for a malformed one. */
  push(chunk: Buffer): readonly ForkerFrame[] {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    const frames: ForkerFrame[] = [];
    let at = 0;
    while (bytes.length - at >= 4) {
      const size = bytes.readUInt32LE(at);
      if (size === 0 || size > maxFrameBytes) throw new FrameError(`a frame of ${size} bytes`);
      if (bytes.length - at - 4 < size) break;
      frames.push(readFrame(String.fromCharCode(bytes[at + 4]!), bytes.subarray(at + 5, at + 4 + size)));
      at += 4 + size;
    }
    this.rest = bytes.subarray(at);
    return frames;
  }
}
