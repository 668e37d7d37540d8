import {expect} from 'chai';
import {bootId} from '../../lib/base/boot-clock';
import {signalName} from '../../lib/base/outcome';
import {FrameReader, frameVersion, maxInlineArgsBytes, writeQuit, writeSegment, writeSignal, writeStart} from '../../lib/proc/fork-frames';
import type {ForkerFrame} from '../../lib/proc/fork-frames';
import {linesOf, sealLine, segmentHead} from '../../lib/proc/log-lines';
import {functionSpec} from '../support/fake-spawner';
import {golden} from '../support/golden';
import type {EndedSample, ForkServerSample, NodedSample, StartSample} from '../support/golden';

const flags = {leaveRunning: 1, user: 2, nice: 4, unspooled: 8, inline: 16, parts: 32, lastTry: 64};

function made(sample: NodedSample): Buffer {
  if (sample.type === 'S') return startOf(sample);
  if (sample.type === 'K') return writeSignal(sample.key, sample.signal);
  if (sample.type === 'G') return writeSegment(sample.segment);
  if (sample.type === 'Q') return writeQuit();
  // A part is never alone: the end of larger arguments.
  const args = Buffer.concat([Buffer.alloc(maxInlineArgsBytes, ' '), Buffer.from(sample.args)]);
  const first = writeStart({key: sample.key, spec: functionSpec(), env: [], spooled: true, args, accepted: null, lastTry: false});
  const at = 4 + first.readUInt32LE(0);
  return first.subarray(at, at + 4 + first.readUInt32LE(at));
}

function startOf({key, flags: bits, uid, gid, nice, file_bytes: fileBytes, program, env, args, accepted}: StartSample): Buffer {
  const has = (flag: keyof typeof flags): boolean => (bits & flags[flag]) !== 0;
  const user = has('user') ? {uid, gid, home: '/'} : null;
  const spec = functionSpec({program, user, nice: has('nice') ? nice : null, leaveRunning: has('leaveRunning'), maxOutputBytes: fileBytes - 1});
  const given = has('parts') ? Buffer.alloc(maxInlineArgsBytes + 1, ' ') : has('inline') ? Buffer.from(args) : null;
  const bytes = writeStart({key, spec, env, spooled: !has('unspooled'), args: given, accepted: accepted === '' ? null : accepted, lastTry: has('lastTry')});
  return bytes.subarray(bytes.lastIndexOf(`S${key}`) - 4);
}

const momentOf = ({wall_ms: atMs, boot_ms: ms}: {readonly wall_ms: number; readonly boot_ms: number}): object => ({atMs, boot: {bootId, ms}});

function endedOf(sample: EndedSample): object {
  const {key, kind, code, stage, stdout_bytes: stdoutBytes, stderr_bytes: stderrBytes, noted} = sample;
  return {
    ...{type: 'ended', key, ...momentOf(sample), stdoutBytes, stderrBytes},
    exitCode: kind === 0 ? code : null,
    signal: kind === 1 ? signalName(code) : null,
    errno: kind === 2 ? 'EAGAIN' : null,
    stage: ['', 'open', 'spawn', 'exec', 'journal'][stage],
    noted: noted === null ? null : {stdout: noted.slice(0, stdoutBytes!), stderr: noted.slice(stdoutBytes!)},
  };
}

function expected(sample: ForkServerSample): object {
  switch (sample.type) {
    case 'N': return {type: 'built_in', name: sample.function};
    case 'W': return {type: 'welcome', version: sample.version, pid: sample.pid};
    case 'L':
    case 'A': return {type: sample.type === 'L' ? 'live' : 'started', key: sample.key, pid: sample.pid, startTime: sample.start_time, at: momentOf(sample)};
    case 'O': return {type: 'output', key: sample.key, stream: sample.stream, bytes: Buffer.from(sample.text)};
    case 'E': return endedOf(sample);
    case 'B': return {type: 'busy', key: sample.key};
    case 'G': return {type: 'segment', number: sample.segment};
    case 'M': return {type: 'message', text: sample.text};
  }
}

describe('the golden samples, by noded', () => {
  for (const sample of golden.from_noded) {
    it(`makes the frame: ${sample.name}`, () => expect(made(sample).toString('hex')).to.equal(sample.hex));
  }
  for (const sample of golden.from_fork_server) {
    it(`reads the frame: ${sample.name}`, () => expect(new FrameReader().push(Buffer.from(sample.hex, 'hex'))).to.deep.equal([expected(sample) as ForkerFrame]));
  }

  it('are of its version', () => expect(golden.from_fork_server.find(({type}) => type === 'W')).to.include({version: frameVersion}));

  it('makes and reads the lines of a segment', () => {
    expect(Buffer.from(segmentHead).toString('hex')).to.equal(golden.log_head_hex);
    for (const {key, json, hex} of golden.log_lines) expect(Buffer.from(sealLine(key, json)).toString('hex')).to.equal(hex);
    const segment = Buffer.from(golden.log_head_hex + golden.log_lines.map(({hex}) => `0a${hex}`).join(''), 'hex');
    const lines = [...linesOf(segment, () => expect.fail('a line is damaged'))];
    expect(lines.map(({key, json}) => [key, json])).to.deep.equal(golden.log_lines.map(({key, json}) => [key, json]));
  });
});
