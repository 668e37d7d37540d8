/**
 * The frames between noded and a fork server: a little-endian u32 length of what follows, a byte of type,
 * a body. libexec/noded-forker.c has the table of them. Bounded on both sides; a malformed one ends the
 * connection and nothing else.
 */
import {constants} from 'node:os';
import type {FunctionSpec} from '../call/spawner';

export const frameVersion = 1;
const maxFrameBytes = 128 * 1024;
const keyBytes = 16;

const flags = {leaveRunning: 1, user: 2, nice: 4, unspooled: 8, inline: 16} as const;
const stages = ['', 'slot', 'open', 'program', 'fork', 'setup', 'exec'];

export interface StartFrame {
  readonly key: string;
  readonly spec: FunctionSpec;
  readonly env: readonly string[];
  readonly spooled: boolean;
  /** Arguments that go along; null if they are in `<key>.args`. */
  readonly args: Uint8Array | null;
}

export type ForkerFrame =
  | {readonly type: 'welcome'; readonly version: number; readonly pid: number}
  | {readonly type: 'live'; readonly key: string; readonly pid: number; readonly startTime: number}
  | {readonly type: 'started'; readonly key: string; readonly pid: number; readonly startTime: number}
  | {readonly type: 'output'; readonly key: string; readonly stream: 'stdout' | 'stderr'; readonly bytes: Buffer}
  | EndedFrame
  | {readonly type: 'message'; readonly text: string};

export interface EndedFrame {
  readonly type: 'ended';
  readonly key: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Of a start that failed. */
  readonly errno: string | null;
  readonly stage: string;
  readonly endedAtMs: number;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
}

/** Synonyms that Node does not use when it names the signal that ended a process. */
const synonyms = new Set(['SIGIOT', 'SIGPOLL', 'SIGUNUSED']);
const signalNames = new Map(Object.entries(constants.signals).filter(([name]) => !synonyms.has(name)).map(([name, number]) => [number as number, name]));
const errnoNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number as number, name]));

function frame(type: string, body: Buffer): Buffer {
  const head = Buffer.allocUnsafe(5);
  head.writeUInt32LE(1 + body.length, 0);
  head.write(type, 4, 'latin1');
  return Buffer.concat([head, body]);
}

export function writeStart({key, spec, env, spooled, args}: StartFrame): Buffer {
  const bits =
    (spec.leaveRunning ? flags.leaveRunning : 0) |
    (spec.user === null ? 0 : flags.user) |
    (spec.nice === null ? 0 : flags.nice) |
    (spooled ? 0 : flags.unspooled) |
    (args === null ? 0 : flags.inline);
  const strings = Buffer.from(`${spec.program}\0`);
  const variables = Buffer.from(env.map((variable) => `${variable}\0`).join(''));
  const numbers = Buffer.allocUnsafe(21);
  numbers.writeUInt8(bits, 0);
  numbers.writeUInt32LE(spec.user?.uid ?? 0, 1);
  numbers.writeUInt32LE(spec.user?.gid ?? 0, 5);
  numbers.writeInt32LE(spec.nice ?? 0, 9);
  numbers.writeBigUInt64LE(BigInt(spec.maxOutputBytes) + 1n, 13);
  const size = Buffer.allocUnsafe(4);
  size.writeUInt32LE(args?.byteLength ?? 0);
  return frame('S', Buffer.concat([Buffer.from(key, 'latin1'), numbers, strings, Buffer.from([env.length]), variables, size, args ?? Buffer.alloc(0)]));
}

export function writeSignal(key: string, what: 'terminate' | 'kill'): Buffer {
  return frame('K', Buffer.concat([Buffer.from(key, 'latin1'), Buffer.from([what === 'kill' ? 2 : 1])]));
}

export function writeQuit(): Buffer {
  return frame('Q', Buffer.alloc(0));
}

/** Bytes of the arguments that a start frame takes along; more goes into a file. */
export const maxInlineArgsBytes = 64 * 1024;

/** A frame that this version of noded does not know, or that is not one at all. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

const keyOf = (body: Buffer): string => body.toString('latin1', 0, keyBytes);

function readEnded(body: Buffer): EndedFrame {
  const at = keyBytes;
  const kind = body.readUInt8(at);
  const code = body.readInt32LE(at + 1);
  return {
    type: 'ended',
    key: keyOf(body),
    exitCode: kind === 0 ? code : null,
    signal: kind === 1 ? (signalNames.get(code) ?? `SIG${code}`) : null,
    errno: kind === 2 ? (errnoNames.get(code) ?? 'EUNKNOWN') : null,
    stage: stages[body.readUInt8(at + 5)] ?? '',
    endedAtMs: Number(body.readBigInt64LE(at + 6)),
    stdoutBytes: Number(body.readBigUInt64LE(at + 38)),
    stderrBytes: Number(body.readBigUInt64LE(at + 46)),
  };
}

function readFrame(type: string, body: Buffer): ForkerFrame {
  switch (type) {
    case 'W':
      return {type: 'welcome', version: body.readUInt32LE(0), pid: body.readUInt32LE(4)};
    case 'L':
    case 'A': {
      const [pid, startTime] = [body.readUInt32LE(keyBytes), Number(body.readBigUInt64LE(keyBytes + 4))];
      return {type: type === 'L' ? 'live' : 'started', key: keyOf(body), pid, startTime};
    }
    case 'O':
      return {type: 'output', key: keyOf(body), stream: body.readUInt8(keyBytes) === 1 ? 'stdout' : 'stderr', bytes: Buffer.from(body.subarray(keyBytes + 1))};
    case 'E':
      return readEnded(body);
    case 'M':
      return {type: 'message', text: body.toString()};
    default:
      throw new FrameError(`a frame of the unknown type ${JSON.stringify(type)}`);
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
      frames.push(this.read(bytes.subarray(at + 4, at + 4 + size)));
      at += 4 + size;
    }
    this.rest = bytes.subarray(at);
    return frames;
  }

  private read(bytes: Buffer): ForkerFrame {
    try {
      return readFrame(String.fromCharCode(bytes[0]!), bytes.subarray(1));
    } catch (error) {
      throw error instanceof FrameError ? error : new FrameError('a frame that is too short');
    }
  }
}
