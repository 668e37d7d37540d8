import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {limits} from '../../lib/base/limits';
import {CallLog} from '../../lib/proc/call-log';
import type {Wanted} from '../../lib/proc/call-log';
import {DiskWork, doNow} from '../../lib/proc/disk-work';
import {linesOf, sealLine, segmentHead} from '../../lib/proc/log-lines';
import {RunDirError} from '../../lib/proc/run-dir';
import {linesOnFile, logOf} from '../support/journals';
import {loseDescriptors} from '../support/no-descriptors';
import {until} from '../support/until';

const key = '0123456789abcdef';
const other = 'fedcba9876543210';

describe('the log of calls', () => {
  let runDir: string;
  let warnings: string[];
  let log: CallLog;
  let disk: DiskWork;

  const open = (): CallLog => new CallLog({runDir, disk, log: {warn: (_fields, message) => void warnings.push(message)}});
  const segments = (): string[] => fs.readdirSync(join(runDir, 'log')).sort();
  const path = (number: number): string => join(runDir, 'log', `${String(number).padStart(10, '0')}.log`);
  const read = async (one = log): Promise<string[]> => {
    const lines: string[] = [];
    await one.readAll(({key: its, json}) => lines.push(`${its} ${json}`));
    return lines;
  };
  /** Lines of one call that fill so many segments. */
  const fill = (count: number, its = key): void => {
    const line = JSON.stringify({event: 'filler', pad: 'x'.repeat(4000)});
    for (let bytes = 0; bytes < count * limits.segmentBytes; bytes += line.length) log.appendNow(its, [line]);
  };

  beforeEach(() => {
    runDir = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-log-')));
    warnings = [];
    disk = new DiskWork();
    log = open();
  });
  afterEach(() => {
    log.close();
    fs.rmSync(runDir, {recursive: true, force: true});
  });

  it('is a directory of segments that nobody else may read, whatever the umask', () => {
    expect((fs.statSync(join(runDir, 'log')).mode & 0o7777).toString(8)).to.equal('700');
    expect(segments()).to.deep.equal(['0000000001.log']);
    expect((fs.statSync(path(1)).mode & 0o7777).toString(8)).to.equal('600');
    expect(fs.readFileSync(path(1), 'utf8')).to.equal(segmentHead);
  });

  it('has what is appended in one turn of the loop in one write, and before that what must be there now', async () => {
    log.append(key, '{"n":1}');
    log.append(other, '{"n":2}');
    expect(logOf(runDir)).to.deep.equal([]);
    log.appendNow(key, ['{"n":3}', '{"é":4}']);
    log.append(key, '{"n":5}');
    await new Promise((resolve) => setImmediate(resolve));
    expect(fs.readFileSync(path(1), 'utf8')).to.equal(`${segmentHead}\n${sealLine(key, '{"n":1}')}${sealLine(other, '{"n":2}')}\n${sealLine(key, '{"n":3}')}${sealLine(key, '{"é":4}')}\n${sealLine(key, '{"n":5}')}`);
    expect(await read()).to.deep.equal([`${key} {"n":1}`, `${other} {"n":2}`, `${key} {"n":3}`, `${key} {"é":4}`, `${key} {"n":5}`]);
  });

  it('goes on where an earlier noded was, behind a line that was cut short', async () => {
    log.appendNow(key, ['{"n":1}']);
    fs.appendFileSync(path(1), sealLine(key, '{"n":2}').slice(0, -9));
    const next = open();
    next.appendNow(key, ['{"n":3}']);
    expect(await read(next)).to.deep.equal([`${key} {"n":1}`, `${key} {"n":3}`]);
    expect(warnings).to.deep.equal(['lines of the log of calls are damaged']);
    next.close();
  });

  it('loses a damaged line, wherever the damage is, and no other', () => {
    const [before, line, after] = [sealLine(key, '{"n":1}'), sealLine(key, '{"n":2}'), sealLine(other, '{"n":3}')];
    const at = segmentHead.length + 1 + before.length;
    for (let byte = 0; byte < line.length - 1; byte += 1) {
      const bytes = Buffer.from(`${segmentHead}\n${before}${line}${after}`);
      bytes[at + byte]! ^= 1;
      let damaged = 0;
      const found = [...linesOf(bytes, () => (damaged += 1))].map(({json}) => json);
      expect([found, damaged], `byte ${byte}`).to.deep.equal([['{"n":1}', '{"n":3}'], damaged]);
      expect(damaged, `byte ${byte}`).to.be.within(1, 2);
    }
    expect([...linesOf(Buffer.from('no log at all'), () => {})]).to.deep.equal([]);
    const long = sealLine(key, 'x'.repeat(limits.maxLineBytes + 1));
    expect([...linesOf(Buffer.from(`${segmentHead}${long}${after}`), () => {})].map(({json}) => json), 'too long').to.deep.equal(['{"n":3}']);
  });

  it('begins another segment when one is full, and says so', () => {
    const told: number[] = [];
    log.onSegment = (number) => told.push(number);
    fill(2.5);
    expect(told).to.deep.equal([2, 3]);
    expect(segments()).to.have.length(3);
    expect(log.current).to.equal(3);
    expect(log.bytes).to.equal(segments().reduce((sum, name) => sum + fs.statSync(join(runDir, 'log', name)).size, 0));
  });

  it('sees at a look what the fork server has appended', () => {
    fs.appendFileSync(path(1), Buffer.alloc(limits.segmentBytes));
    expect(log.current).to.equal(1);
    doNow(log.look());
    expect(log.current).to.equal(2);
    expect(log.bytes).to.be.above(limits.segmentBytes);
  });

  describe('when little of it is wanted', () => {
    const wanted = (...keys: readonly string[]): Wanted => ({isWanted: (line) => keys.includes(line.key), wantedBytes: 0});

    it('is rid of the oldest segments, whose wanted lines are copied to the newest', async () => {
      log.appendNow(other, ['{"n":1}', '{"n":2}']);
      fill(5);
      log.compact(wanted(other));
      await until('the oldest have gone', () => segments().length <= 3);
      expect(segments()[0]).to.not.equal('0000000001.log');
      expect(linesOnFile(runDir, other)).to.deep.equal(['{"n":1}', '{"n":2}']);
      fill(3);
      await until('they have gone again', () => segments().length <= 3);
      expect(linesOnFile(runDir, other)).to.deep.equal(['{"n":1}', '{"n":2}']);
      expect(await read(open())).to.include(`${other} {"n":1}`);
    });

    it('keeps what the fork server may still append to', async () => {
      log.usedFrom(0);
      fill(5);
      log.compact(wanted());
      await read(); // after it in its turn
      expect(segments()).to.have.length(6);
      log.usedFrom(3);
      fill(1);
      await until('what it has left is gone', () => segments()[0] === '0000000003.log');
    });

    it('keeps a segment that cannot be read or copied, and says so', async () => {
      log.appendNow(other, ['{"n":1}']);
      fill(5);
      fs.renameSync(path(1), `${path(1)}.away`);
      fs.mkdirSync(path(1));
      log.compact(wanted(other));
      await until('it is told', () => warnings.length > 0);
      expect(warnings[0]).to.match(/^cannot compact the log of calls: EISDIR/);
      fs.rmdirSync(path(1));
      fs.renameSync(`${path(1)}.away`, path(1));
      fill(1);
      await until('it has gone', () => segments().length <= 3);
      expect(linesOnFile(runDir, other)).to.deep.equal(['{"n":1}']);
    });
  });

  it('is read when there is a descriptor to read it with', async () => {
    log.appendNow(key, ['{"n":1}']);
    const regain = await loseDescriptors(join(runDir, 'gate'));
    const reading = read();
    await until('it was tried', () => warnings.length > 0);
    await regain();
    expect(await reading).to.deep.equal([`${key} {"n":1}`]);
    expect(warnings).to.have.length(1);
    expect(warnings[0]).to.match(/^the log of calls cannot be read: EMFILE.*; it is tried again$/);
  });

  it('that was removed is begun anew: the line of that moment is not on file, the next one is', async () => {
    const told: number[] = [];
    log.onSegment = (number) => told.push(number);
    fs.rmSync(join(runDir, 'log'), {recursive: true});
    expect(() => log.appendNow(key, ['{"n":1}'])).to.throw('ENOENT');
    log.appendNow(key, ['{"n":2}']);
    expect(await read()).to.deep.equal([`${key} {"n":2}`]);
    expect(told).to.deep.equal([1]);
    fs.rmSync(join(runDir, 'log'), {recursive: true});
    log.append(key, '{"n":3}');
    log.flush();
    expect(warnings).to.deep.equal(['cannot write to the log of calls: ENOENT: the log was removed']);
  });

  it('that is durable is on disk once that was waited for; segments are closed when nobody appends to them, and their names synced', async () => {
    log.close();
    log = new CallLog({runDir, disk, durable: true, log: {warn: (_fields, message) => void warnings.push(message)}});
    const openSegments = (): string[] => fs.readdirSync('/proc/self/fd').map((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return ''; // the descriptor of the listing itself
      }
    }).filter((target) => target.startsWith(join(runDir, 'log'))).sort();
    log.usedFrom(1);
    fill(2);
    const count = segments().length;
    expect(openSegments()).to.have.length(count);
    log.append(key, '{"n":1}');
    await log.onDisk();
    expect(linesOnFile(runDir, key).at(-1)).to.equal('{"n":1}');
    expect(openSegments()).to.have.length(count);
    log.usedFrom(count);
    await log.onDisk();
    expect(openSegments()).to.deep.equal([path(count)]);
    fs.rmSync(join(runDir, 'log'), {recursive: true});
    expect(() => log.appendNow(key, ['{"n":2}'])).to.throw('ENOENT');
    await log.onDisk();
    expect(openSegments()).to.deep.equal([path(1)]);
    // Nobody knows then.
    log.usedFrom(Infinity);
    fill(1);
    fs.renameSync(join(runDir, 'log'), join(runDir, 'elsewhere'));
    const problem = await log.onDisk().then(() => null, (error: NodeJS.ErrnoException) => error.code);
    expect(problem).to.equal('ENOENT');
    fs.renameSync(join(runDir, 'elsewhere'), join(runDir, 'log'));
    await log.onDisk();
  });

  it('of a later noded is left alone', () => {
    fs.writeFileSync(path(1), segmentHead.replace(/\d/, '9'));
    expect(open).to.throw(RunDirError, 'was written by a later noded (version 9 of the log)');
  });

  it('may have a segment that is no file, or has no head: it is said, and another one is begun', async () => {
    log.appendNow(key, ['{"n":1}']);
    fs.symlinkSync('/etc/passwd', path(2));
    const next = open();
    expect(warnings[0]).to.match(/^cannot go on with a segment of the log of calls: ELOOP/);
    next.appendNow(key, ['{"n":2}']);
    expect(next.current).to.equal(3);
    expect(await read(next)).to.deep.equal([`${key} {"n":1}`, `${key} {"n":2}`]);
    expect(warnings[1]).to.match(/^cannot read a segment of the log of calls: ELOOP/);
    next.close();
    fs.writeFileSync(path(4), '');
    const last = open();
    expect(last.current).to.equal(5);
    last.close();
  });
});
