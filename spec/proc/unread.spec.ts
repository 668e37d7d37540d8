import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {limits} from '../../lib/base/limits';
import {acceptedLine, endedLine} from '../../lib/call/journal';
import {tombstoneLine} from '../../lib/call/tombstones';
import {segmentHead, sealLine} from '../../lib/proc/log-lines';
import {readLog} from '../../lib/proc/recovery';
import type {OnFile} from '../../lib/proc/recovery';
import {Spool} from '../../lib/proc/spool';
import {Unread} from '../../lib/proc/unread';
import {turn} from '../support/clock';
import {acceptance} from '../support/fake-host';
import {loseDescriptors} from '../support/no-descriptors';

const keyOf = (number: number): string => number.toString(16).padStart(16, '0');
const atMs = 1_764_670_000_000;

describe('calls on file that are unread', () => {
  let runDir: string;
  let warnings: string[];
  beforeEach(() => {
    runDir = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-unread-')));
    fs.mkdirSync(join(runDir, 'log'), {mode: 0o700});
    warnings = [];
  });
  afterEach(() => fs.rmSync(runDir, {recursive: true}));

  const callLines = (number: number): readonly string[] => [
    acceptedLine(acceptance({key: keyOf(number), requestId: `request-${number}`, acceptedAtMs: atMs + number}), false),
    endedLine({exitCode: 0, signal: null, noted: {stdout: String(number), stderr: ''}, atMs: atMs + number, boot: null}),
  ];
  const buriedLine = (number: number): string =>
    tombstoneLine({key: keyOf(number), callId: `1:0:${(atMs / 1000).toFixed(3)}:${keyOf(number)}`, fnName: 'f', role: 'master', requestId: `request-${number}`, outcome: 'ok', buriedAtMs: atMs + number, buriedBoot: null});
  const writeSegment = (segment: number, calls: readonly (readonly [number, readonly string[]])[]): void => {
    const lines = calls.flatMap(([number, texts]) => texts.map((text) => sealLine(keyOf(number), text)));
    fs.writeFileSync(join(runDir, 'log', `${String(segment).padStart(10, '0')}.log`), `${segmentHead}${lines.join('\n')}`);
  };
  const numbers = (from: number, to: number): number[] => Array.from({length: to - from}, (_none, number) => from + number);

  interface Reading {
    readonly unread: Unread;
    readonly read: string[];
    readonly orders: number[];
  }
  const log = {warn: (_fields: object, message: string): void => void warnings.push(message)};
  function look(): OnFile {
    const spool = new Spool({runDir, minFreeBytes: 0, log});
    const onFile = readLog({spool, isLive: () => false});
    expect(onFile.open).to.deep.equal([]);
    return onFile;
  }
  function open(onFile = look()): Reading {
    const read: string[] = [];
    const orders: number[] = [];
    const unread = new Unread(onFile.settled, onFile.last, onFile.reader, {
      call: ({accepted: {key}}, order) => {
        read.push(key);
        orders.push(order);
      },
      tombstone: ({key}) => read.push(`buried ${key}`),
      nothing: (key) => read.push(`nothing ${key}`),
      log,
    });
    return {unread, read, orders};
  }

  it('are read in order of acceptance, in slices, also where older ones were copied behind younger ones', async () => {
    writeSegment(2, numbers(2000, 4000).map((number) => [number, callLines(number)]));
    writeSegment(3, numbers(0, 2000).map((number) => [number, callLines(number)]));
    const {unread, read, orders} = open();
    expect(read.length).to.be.at.most(limits.sliceFreeItems);
    expect([unread.last, unread.calls + read.length]).to.deep.equal([4000, 4000]);
    await unread.done;
    expect(read).to.deep.equal(numbers(0, 4000).map(keyOf));
    expect(orders).to.deep.equal(numbers(1, 4001));
    expect(unread).to.include({calls: 0, tombstones: 0});
  });

  it('are read at once, by key or by request ID, when somebody asks for them, and not again', async () => {
    writeSegment(1, numbers(0, 500).map((number) => [number, number % 2 === 0 ? callLines(number) : [...callLines(number), buriedLine(number)]]));
    const {unread, read} = open();
    read.length = 0;
    unread.read(keyOf(400));
    unread.readRequest('master', 'request-499');
    unread.readRequest('operator', 'request-498');
    unread.read(keyOf(5000));
    unread.read(keyOf(400));
    expect(read).to.deep.equal([keyOf(400), `buried ${keyOf(499)}`]);
    await turn();
    await unread.done;
    expect(new Set(read).size).to.equal(read.length);
    expect(read).to.have.length(500 - limits.sliceFreeItems);
  });

  it('are none where their first line is damaged, and no tombstones where that is, which is said', async () => {
    writeSegment(1, [[1, callLines(1)], [2, [buriedLine(2)]], [3, callLines(3)]]);
    const path = join(runDir, 'log/0000000001.log');
    fs.writeFileSync(path, fs.readFileSync(path, 'utf8').replace('request-1', 'request-9').replace('request-2', 'request-8'));
    const {unread, read} = open();
    await unread.done;
    expect(read).to.deep.equal([keyOf(3)]);
    expect(warnings).to.deep.equal(['lines of the log of calls are damaged']);
  });

  it('are none that stand in a segment that cannot be read any more, which is said', async () => {
    writeSegment(1, numbers(0, 100).map((number) => [number, callLines(number)]));
    writeSegment(2, numbers(100, 200).map((number) => [number, callLines(number)]));
    const {unread, read} = open();
    fs.rmSync(join(runDir, 'log/0000000002.log'));
    await unread.done;
    expect(read.filter((key) => !key.startsWith('nothing'))).to.deep.equal(numbers(0, 100).map(keyOf));
    expect(warnings).to.deep.equal(["cannot read a segment of the log of calls: ENOENT: no such file or directory, open '" + join(runDir, 'log/0000000002.log') + "'"]);
  });

  it('stay unread while there is no descriptor to read them with, and are read when there is one', async () => {
    writeSegment(1, numbers(0, 100).map((number) => [number, number % 2 === 0 ? callLines(number) : [...callLines(number), buriedLine(number)]]));
    const onFile = look();
    const regain = await loseDescriptors(join(runDir, 'gate'));
    const {unread, read} = open(onFile);
    const refusals = [() => unread.read(keyOf(0)), () => unread.readRequest('master', 'request-1')].map((ask) => {
      try {
        return ask();
      } catch (error) {
        return error;
      }
    });
    const failure = await unread.pass.catch((error: unknown) => error);
    const seen = {calls: unread.calls, tombstones: unread.tombstones, read: read.length};
    await regain();
    for (const refusal of [...refusals, failure]) expect(refusal).to.include({code: 'spawner_unavailable', started: 'unknown'});
    expect(seen).to.deep.equal({calls: 50, tombstones: 50, read: 0});
    await unread.done;
    expect(read).to.deep.equal(numbers(0, 100).map((number) => (number % 2 === 0 ? '' : 'buried ') + keyOf(number)));
    expect(new Set(warnings).size).to.equal(1);
    expect(warnings[0]).to.match(/^the log of calls cannot be read: EMFILE.*; it is tried again$/);
  });
});
