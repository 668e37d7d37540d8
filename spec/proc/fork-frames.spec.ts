import {expect} from 'chai';
import fc from 'fast-check';
import {bootId} from '../../lib/base/boot-clock';
import {FrameError, FrameReader, frameVersion, maxInlineArgsBytes, writeQuit, writeSignal, writeStart} from '../../lib/proc/fork-frames';
import type {ForkerFrame} from '../../lib/proc/fork-frames';
import {frame, u32, u64} from '../support/frames';

const key = '0123456789abcdef';
const maxFrameBytes = 128 * 1024;

const at = {atMs: 1764670000123, boot: {bootId, ms: 5_000_000_123}};
const moment = [u64(1764670000123n), u64(5_000_000_123n)] as const;

interface EndedFacts {
  readonly kind?: number;
  readonly code?: number;
  readonly stage?: number;
  readonly sizes?: readonly [bigint, bigint];
  /** What it wrote, if that goes along. */
  readonly noted?: string;
  /** Of a fork server of the version before: it does not tell the time since boot. */
  readonly old?: boolean;
}

const endedFrame = ({kind = 0, code = 0, stage = 0, sizes = [0n, 0n], noted, old = false}: EndedFacts): Buffer => {
  const [wall, boot] = moment;
  const flags = (noted === undefined ? 0 : 1) | (old ? 0 : 2);
  return frame('E', Buffer.concat([Buffer.from(key), Buffer.from([kind]), u32(code), Buffer.from([stage]), wall, ...[1n, 2n, 3n, ...sizes].map(u64), Buffer.from([flags]), ...(old ? [] : [boot]), Buffer.from(noted ?? '')]));
};

const samples: readonly (readonly [Buffer, ForkerFrame])[] = [
  [frame('N', Buffer.from('node_info')), {type: 'built_in', name: 'node_info'}],
  [frame('W', Buffer.concat([u32(frameVersion), u32(77)])), {type: 'welcome', version: frameVersion, pid: 77}],
  [frame('L', Buffer.concat([Buffer.from(key), u32(78), u64(123456789n), ...moment])), {type: 'live', key, pid: 78, startTime: 123456789, at}],
  [frame('A', Buffer.concat([Buffer.from(key), u32(79), u64(5n), ...moment])), {type: 'started', key, pid: 79, startTime: 5, at}],
  [frame('O', Buffer.concat([Buffer.from(key), Buffer.from([1]), Buffer.from('true')])), {type: 'output', key, stream: 'stdout', bytes: Buffer.from('true')}],
  [frame('O', Buffer.concat([Buffer.from(key), Buffer.from([2])])), {type: 'output', key, stream: 'stderr', bytes: Buffer.alloc(0)}],
  [frame('B', Buffer.from(key)), {type: 'busy', key}],
  [frame('G', u32(7)), {type: 'segment', number: 7}],
  [frame('M', Buffer.from('word')), {type: 'message', text: 'word'}],
  [endedFrame({code: 3, sizes: [10n, 20n]}), {type: 'ended', key, exitCode: 3, signal: null, errno: null, stage: '', ...at, stdoutBytes: 10, stderrBytes: 20, noted: null}],
  [endedFrame({kind: 1, code: 6}), {type: 'ended', key, exitCode: null, signal: 'SIGABRT', errno: null, stage: '', ...at, stdoutBytes: 0, stderrBytes: 0, noted: null}],
  [endedFrame({kind: 1, code: 40}), {type: 'ended', key, exitCode: null, signal: 'SIG40', errno: null, stage: '', ...at, stdoutBytes: 0, stderrBytes: 0, noted: null}],
  [endedFrame({kind: 2, code: 11, stage: 2}), {type: 'ended', key, exitCode: null, signal: null, errno: 'EAGAIN', stage: 'spawn', ...at, stdoutBytes: 0, stderrBytes: 0, noted: null}],
  [endedFrame({sizes: [2n ** 64n - 1n, 2n ** 64n - 1n]}), {type: 'ended', key, exitCode: 0, signal: null, errno: null, stage: '', ...at, stdoutBytes: null, stderrBytes: null, noted: null}],
  [endedFrame({sizes: [4n, 3n], noted: 'trueoh!'}), {type: 'ended', key, exitCode: 0, signal: null, errno: null, stage: '', ...at, stdoutBytes: 4, stderrBytes: 3, noted: {stdout: 'true', stderr: 'oh!'}}],
  [frame('W', Buffer.concat([u32(2), u32(77)])), {type: 'welcome', version: 2, pid: 77}],
  [frame('L', Buffer.concat([Buffer.from(key), u32(78), u64(123456789n)])), {type: 'live', key, pid: 78, startTime: 123456789, at: null}],
  [frame('A', Buffer.concat([Buffer.from(key), u32(79), u64(5n)])), {type: 'started', key, pid: 79, startTime: 5, at: null}],
  [endedFrame({old: true}), {type: 'ended', key, exitCode: 0, signal: null, errno: null, stage: '', ...at, boot: null, stdoutBytes: 0, stderrBytes: 0, noted: null}],
  [endedFrame({old: true, sizes: [4n, 3n], noted: 'trueoh!'}), {type: 'ended', key, exitCode: 0, signal: null, errno: null, stage: '', ...at, boot: null, stdoutBytes: 4, stderrBytes: 3, noted: {stdout: 'true', stderr: 'oh!'}}],
];

describe('frames from a fork server', () => {
  const all = Buffer.concat(samples.map(([bytes]) => bytes));
  const expected = samples.map(([, read]) => read);

  samples.forEach(([bytes, read], index) => {
    it(`are read: ${read.type} (${index})`, () => expect(new FrameReader().push(bytes)).to.deep.equal([read]));
  });

  it('are the same wherever the stream is cut in two', () => {
    for (let at = 0; at <= all.length; at += 1) {
      const reader = new FrameReader();
      expect([...reader.push(all.subarray(0, at)), ...reader.push(all.subarray(at))]).to.deep.equal(expected);
    }
  });

  it('are the same in pieces of any size', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({min: 1, max: 60}), {minLength: 1, maxLength: 20}), (sizes) => {
        const reader = new FrameReader();
        const read: ForkerFrame[] = [];
        for (let at = 0, piece = 0; at < all.length; piece += 1) {
          const end = at + sizes[piece % sizes.length]!;
          read.push(...reader.push(all.subarray(at, end)));
          at = end;
        }
        expect(read).to.deep.equal(expected);
      }),
    );
  });

  const malformed: readonly (readonly [string, Buffer])[] = [
    ['of no bytes', u32(0)],
    ['over the limit', u32(maxFrameBytes + 1)],
    ['of 4 GiB', u32(2 ** 32 - 1)],
    ['of an unknown type', frame('?', Buffer.alloc(16))],
    ['with no name of a function', frame('N', Buffer.alloc(0))],
    ['with a name that no function may have', frame('N', Buffer.from('../version'))],
    ['with a name that is too long', frame('N', Buffer.from('x'.repeat(65)))],
    ['with a welcome cut short', frame('W', Buffer.alloc(7))],
    ['with a welcome and more', frame('W', Buffer.alloc(9))],
    ['with a start cut short', frame('A', Buffer.concat([Buffer.from(key), Buffer.alloc(11)]))],
    ['with an end cut short', frame('E', Buffer.concat([Buffer.from(key), Buffer.alloc(54)]))],
    ['with an end and less output than it says', endedFrame({sizes: [4n, 0n], noted: 'tru'})],
    ['with an end and more output than it says', endedFrame({sizes: [4n, 0n], noted: 'true!'})],
    ['with output of no stream', frame('O', Buffer.from(key))],
    ['with a key that is none', frame('B', Buffer.from('../../etc/passwd'))],
  ];
  for (const [title, bytes] of malformed) {
    it(`are refused ${title}`, () => expect(() => new FrameReader().push(bytes)).to.throw(FrameError));
  }

  it('never make it throw anything but a FrameError', () => {
    fc.assert(
      fc.property(fc.uint8Array({maxLength: 200}), fc.constantFrom(...'NWLAOEBMX'), (body, type) => {
        try {
          new FrameReader().push(frame(type, Buffer.from(body)));
        } catch (error) {
          expect(error).to.be.instanceOf(FrameError);
        }
      }),
    );
  });

  it('wait for the rest of one that is as large as may be', () => {
    const text = 'x'.repeat(maxFrameBytes - 1);
    const bytes = frame('M', Buffer.from(text));
    const reader = new FrameReader();
    expect(reader.push(bytes.subarray(0, -1))).to.deep.equal([]);
    expect(reader.push(bytes.subarray(-1))).to.deep.equal([{type: 'message', text}]);
  });
});

describe('frames to a fork server', () => {
  const spec = {name: 'f', program: '/bin/true', maxRunning: null, maxOutputBytes: 9, killAfterMs: null, urgent: false, leaveRunning: false, user: null, nice: null, config: null};

  /** Types and bodies of frames in a row. */
  function cut(bytes: Buffer): {readonly type: string; readonly body: Buffer}[] {
    const frames: {readonly type: string; readonly body: Buffer}[] = [];
    for (let at = 0; at < bytes.length; ) {
      const size = bytes.readUInt32LE(at);
      expect(size).to.be.within(1, maxFrameBytes);
      frames.push({type: bytes.toString('latin1', at + 4, at + 5), body: bytes.subarray(at + 5, at + 4 + size)});
      at += 4 + size;
    }
    return frames;
  }

  it('say what to start, with which user, limit, environment and arguments', () => {
    const [start] = cut(writeStart({key, spec: {...spec, user: {uid: 7, gid: 8, home: '/'}, nice: -5, leaveRunning: true}, env: ['A=1', 'B=2'], spooled: true, args: Buffer.from('[1]'), accepted: '{"é":1}\n', lastTry: true}));
    const flags = 1 | 2 | 4 | 16 | 64;
    const body = Buffer.concat([Buffer.from(key), Buffer.from([flags]), u32(7), u32(8), u32(2 ** 32 - 5), u64(10n), Buffer.from('/bin/true\0'), Buffer.from([2]), Buffer.from('A=1\0B=2\0'), u32(3), Buffer.from('[1]'), Buffer.from([9, 0]), Buffer.from('{"é":1}\n')]);
    expect(start).to.deep.equal({type: 'S', body});
  });

  it('bring arguments of any size in bounded parts, in order, before the start', () => {
    for (const size of [0, 1, maxInlineArgsBytes, maxInlineArgsBytes + 1, 3 * maxInlineArgsBytes + 7]) {
      const args = Buffer.from(Array.from({length: size}, (_, index) => index % 251));
      const frames = cut(writeStart({key, spec, env: [], spooled: false, args, accepted: null, lastTry: false}));
      const parts = frames.slice(0, -1);
      expect(frames.at(-1)?.type).to.equal('S');
      expect(parts.map(({type}) => type).join('')).to.equal('P'.repeat(size <= maxInlineArgsBytes ? 0 : Math.ceil(size / maxInlineArgsBytes)));
      if (parts.length > 0) expect(Buffer.concat(parts.map(({body}) => body.subarray(16))).equals(args)).to.equal(true);
    }
  });

  it('say whom to signal and how, and when to quit', () => {
    expect(cut(Buffer.concat([writeSignal(key, 'terminate'), writeSignal(key, 'kill'), writeQuit()]))).to.deep.equal([
      {type: 'K', body: Buffer.from(`${key}\x01`)},
      {type: 'K', body: Buffer.from(`${key}\x02`)},
      {type: 'Q', body: Buffer.alloc(0)},
    ]);
  });
});
