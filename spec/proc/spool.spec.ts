import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {NodedError} from '../../lib/base/errors';
import {limits} from '../../lib/base/limits';
import {drawKey} from '../../lib/call/call-id';
import {acceptedLine, readJournal} from '../../lib/call/journal';
import {RunDirError} from '../../lib/proc/run-dir';
import {Spool} from '../../lib/proc/spool';
import {acceptance} from '../support/fake-host';
import {until} from '../support/until';

describe('the spool', () => {
  let runDir: string;
  let calls: string;
  let spool: Spool;
  let warnings: string[];
  let key: string;

  const newSpool = (minFreeBytes = 0): Spool => new Spool({runDir, minFreeBytes, log: {warn: (_fields, message) => void warnings.push(message)}});
  const path = (kind: string): string => join(calls, `${key}.${kind}`);
  const create = (args = '[]', urgent = false): void => spool.create(key, '{"event":"accepted"}\n', Buffer.from(args), urgent);
  const codeOf = (act: () => void): string => {
    try {
      act();
    } catch (error) {
      expect(error).to.be.instanceOf(NodedError);
      return (error as NodedError).code;
    }
    return 'none';
  };
  const mode = (file: string): string => (fs.statSync(file).mode & 0o7777).toString(8);

  beforeEach(() => {
    runDir = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-spool-')));
    calls = join(runDir, 'calls');
    warnings = [];
    key = drawKey();
    spool = newSpool();
  });
  afterEach(() => fs.rmSync(runDir, {recursive: true, force: true}));

  describe('the files of a call', () => {
    it('may be read by nobody else, whatever the umask', () => {
      const before = process.umask(0);
      try {
        create();
        const streams = spool.openStreams(key);
        for (const fd of Object.values(streams)) fs.closeSync(fd as number);
        spool.bury('{}\n');
      } finally {
        process.umask(before);
      }
      expect(mode(calls)).to.equal('700');
      expect(['args', 'call', 'out', 'err'].map((kind) => mode(path(kind)))).to.deep.equal(['600', '600', '600', '600']);
      expect(mode(join(runDir, 'tombstones'))).to.equal('600');
    });

    it('have a first line whoever made them, and one only', () => {
      const line = acceptedLine(acceptance({key}), false);
      for (const left of [null, '', line.slice(0, 20), line.trimEnd(), line, `${line}{"event":"started"}\n`]) {
        fs.rmSync(path('call'), {force: true});
        if (left !== null) fs.writeFileSync(path('call'), left);
        spool.putOnFile(key, line);
        const content = fs.readFileSync(path('call'), 'utf8');
        expect(readJournal(key, content)?.accepted.key, content).to.equal(key);
        expect(content.split('\n').filter((one) => one === line.trimEnd()), content).to.have.length(1);
      }
      expect(warnings).to.deep.equal([]);
    });

    it('hold arguments and journal byte for byte', () => {
      create('{"\u00e9":1}');
      spool.append(key, '{"event":"started"}\n');
      expect(fs.readFileSync(path('args'), 'utf8')).to.equal('{"\u00e9":1}');
      expect(fs.readFileSync(path('call'), 'utf8')).to.equal('{"event":"accepted"}\n{"event":"started"}\n');
    });

    it('are open as they should be: arguments to read, output to append', () => {
      create();
      const {stdin, stdout, stderr} = spool.openStreams(key);
      const flags = [stdin, stdout, stderr].map((fd) => Number.parseInt(/^flags:\s*(\d+)/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))![1]!, 8));
      for (const fd of [stdin, stdout, stderr]) fs.closeSync(fd);
      expect(flags.map((flag) => flag & 3)).to.deep.equal([fs.constants.O_RDONLY, fs.constants.O_WRONLY, fs.constants.O_WRONLY]);
      expect(flags.map((flag) => (flag & fs.constants.O_APPEND) !== 0)).to.deep.equal([false, true, true]);
    });

    it('are read from where it is said, and no further than they are', () => {
      create();
      fs.writeFileSync(path('out'), '0123456789');
      expect([spool.read(key, 'stdout', 2, 3), spool.read(key, 'stdout', 8, 100), spool.read(key, 'stdout', 11, 5), spool.read(key, 'stderr', 0, 5)].map(String)).to.deep.equal(['234', '89', '', '']);
      expect(spool.sizes(key)).to.deep.equal({stdoutBytes: 10, stderrBytes: 0});
    });

    it('shrink to what says something once the call has ended', () => {
      create();
      for (const kind of ['out', 'err']) fs.writeFileSync(path(kind), '');
      fs.writeFileSync(path('out'), '1');
      spool.trim(key, spool.sizes(key));
      expect(fs.readdirSync(calls).sort()).to.deep.equal([`${key}.call`, `${key}.out`]);
    });

    it('are all gone after remove, or after flush at the latest', async () => {
      const keys = Array.from({length: 3 * limits.sliceSize}, () => {
        key = drawKey();
        create();
        return key;
      });
      for (const each of keys.slice(1)) spool.remove(each);
      await until('the slices are done', () => fs.readdirSync(calls).length === 2);
      spool.remove(keys[0]!);
      spool.flush();
      expect(fs.readdirSync(calls)).to.deep.equal([]);
    });
  });

  describe('a link that somebody has planted', () => {
    let target: string;
    beforeEach(() => {
      target = join(runDir, 'precious');
      fs.writeFileSync(target, 'precious');
    });
    afterEach(() => expect(fs.readFileSync(target, 'utf8')).to.equal('precious'));

    for (const kind of ['args', 'call']) {
      it(`is not followed by a new call's .${kind}`, () => {
        fs.symlinkSync(target, path(kind));
        expect(codeOf(() => create())).to.equal('spawner_unavailable');
        expect(fs.readdirSync(calls)).to.deep.equal([]);
      });
    }

    for (const kind of ['out', 'err']) {
      it(`is not followed by the process's .${kind}, and leaves no file open`, () => {
        create();
        fs.symlinkSync(target, path(kind));
        const before = fs.readdirSync('/proc/self/fd').length;
        expect(() => spool.openStreams(key)).to.throw('EEXIST');
        expect(fs.readdirSync('/proc/self/fd').length).to.equal(before);
      });
    }

    it('is not followed by an append', () => {
      create();
      fs.unlinkSync(path('call'));
      fs.symlinkSync(target, path('call'));
      spool.append(key, 'x\n');
      expect(warnings).to.have.length(1);
      expect(warnings[0]).to.match(/journal.*ELOOP/);
    });

    it('is not followed by a reader of results', () => {
      create();
      fs.symlinkSync(target, path('out'));
      expect(() => spool.read(key, 'stdout', 0, 10)).to.throw('ELOOP');
      expect(() => spool.openStdout(key)).to.throw('ELOOP');
    });

    it('is not followed by a tombstone', () => {
      fs.symlinkSync(target, join(runDir, 'tombstones'));
      spool.bury('{}\n');
      expect(warnings[0]).to.match(/tombstone.*ELOOP/);
    });
  });

  describe('its directory', () => {
    it('must be private', () => {
      fs.chmodSync(calls, 0o750);
      expect(newSpool).to.throw(RunDirError, 'has mode 750; it must be 700');
    });

    it('is made again if somebody removes it: one call is refused, the next one has files', () => {
      fs.rmSync(calls, {recursive: true});
      expect(codeOf(() => create())).to.equal('spool_full');
      expect(codeOf(() => create())).to.equal('none');
      expect(mode(calls)).to.equal('700');
    });

    it('is made again with the whole run directory', () => {
      fs.rmSync(runDir, {recursive: true});
      expect(codeOf(() => create())).to.equal('spool_full');
      expect(codeOf(() => create())).to.equal('none');
      expect(mode(runDir)).to.equal('700');
    });

    it('survives appends and reads of calls whose files are gone', () => {
      create();
      fs.rmSync(calls, {recursive: true});
      spool.append(key, 'x\n');
      expect(warnings).to.have.length(1);
      expect(spool.sizes(key)).to.deep.equal({stdoutBytes: 0, stderrBytes: 0});
      expect(spool.hasStdout(key)).to.equal(false);
    });
  });

  it('refuses calls when less than min_free would be left, but not urgent ones', () => {
    const {bavail, bsize} = fs.statfsSync(runDir);
    spool = newSpool(bavail * bsize * 2);
    expect(codeOf(() => create())).to.equal('spool_full');
    expect(fs.readdirSync(calls)).to.deep.equal([]);
    expect(codeOf(() => create('[]', true))).to.equal('none');
  });

  describe('what it finds at a start', () => {
    it('is every journal, and no file that has none', () => {
      create();
      const other = drawKey();
      for (const kind of ['args', 'out', 'err']) fs.writeFileSync(join(calls, `${other}.${kind}`), 'x');
      fs.writeFileSync(join(calls, 'note'), 'x');
      expect([...newSpool().journals()]).to.deep.equal([{key, content: '{"event":"accepted"}\n'}]);
      expect(fs.readdirSync(calls).sort()).to.deep.equal([`${key}.args`, `${key}.call`, 'note'].sort());
    });

    it('is read no further than a journal can be long', () => {
      create();
      fs.appendFileSync(path('call'), 'x'.repeat(2 * limits.maxJournalBytes));
      expect([...newSpool().journals()][0]!.content).to.have.length(limits.maxJournalBytes);
    });

    it('may hold a journal that cannot be read: it is said, and the others are there', () => {
      create();
      fs.symlinkSync('/etc/passwd', join(calls, '0123456789abcdef.call'));
      fs.mkdirSync(join(calls, 'fedcba9876543210.call'));
      fs.mkdirSync(join(calls, '00000000aaaaaaaa.out'));
      expect([...newSpool().journals()].map((journal) => journal.key)).to.deep.equal([key]);
      expect(warnings.filter((warning) => /ELOOP|EISDIR|EPERM/.test(warning))).to.have.length(3);
    });
  });

  describe('tombstones', () => {
    it('are read back, the older file first, without empty lines', () => {
      spool.bury('{"n":1}\n');
      spool.bury('{"n":2}\n');
      fs.writeFileSync(join(runDir, 'tombstones.old'), '{"n":0}\n');
      expect([...newSpool().tombstones()]).to.deep.equal(['{"n":0}', '{"n":1}', '{"n":2}']);
    });

    it('begin a new line behind one that was cut short', () => {
      fs.writeFileSync(join(runDir, 'tombstones'), '{"n":1}\n{"n":');
      spool.bury('{"n":3}\n');
      expect([...newSpool().tombstones()]).to.deep.equal(['{"n":1}', '{"n":', '{"n":3}']);
    });

    it('are put aside when their file is large, once', () => {
      const file = join(runDir, 'tombstones');
      spool.bury('{"n":1}\n');
      fs.truncateSync(file, limits.maxTombstoneFileBytes + 1);
      spool = newSpool();
      for (const n of [2, 3, 4]) spool.bury(`{"n":${n}}\n`);
      expect(fs.statSync(`${file}.old`).size).to.be.above(limits.maxTombstoneFileBytes);
      expect(fs.statSync(file).size).to.be.below(100);
      expect([...newSpool().tombstones()].slice(-3)).to.deep.equal(['{"n":2}', '{"n":3}', '{"n":4}']);
    });
  });
});
