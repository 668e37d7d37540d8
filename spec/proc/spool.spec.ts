import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {NodedError} from '../../lib/base/errors';
import {limits} from '../../lib/base/limits';
import {drawKey} from '../../lib/call/call-id';
import {acceptedLine} from '../../lib/call/journal';
import {RunDirError} from '../../lib/proc/run-dir';
import {Spool} from '../../lib/proc/spool';
import type {CallStreams} from '../../lib/proc/spool-files';
import {acceptance} from '../support/fake-host';
import {until} from '../support/until';
import {linesOnFile, recordOnFile} from '../support/journals';

describe('the spool', () => {
  let runDir: string;
  let calls: string;
  let spool: Spool;
  let warnings: string[];
  let key: string;

  const newSpool = (minFreeBytes = 0): Spool => new Spool({runDir, minFreeBytes, log: {warn: (_fields, message) => void warnings.push(message)}});
  const path = (kind: string): string => join(calls, `${key}.${kind}`);
  const create = (args = '[]', urgent = false): void => spool.create(key, '{"event":"accepted"}', Buffer.from(args), urgent);
  const codeOf = (act: () => void): string => {
    try {
      act();
    } catch (error) {
      expect(error).to.be.instanceOf(NodedError);
      return (error as NodedError).code;
    }
    return 'none';
  };
  /** Opened in memory: at once. */
  const openStreams = (): CallStreams => {
    let opened: CallStreams | undefined;
    spool.openStreams(key, (error, streams) => {
      if (error !== null) throw error;
      opened = streams;
    });
    return opened!;
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
        const streams = openStreams();
        for (const fd of Object.values(streams)) fs.closeSync(fd as number);
      } finally {
        process.umask(before);
      }
      expect(mode(calls)).to.equal('700');
      expect(['args', 'out', 'err'].map((kind) => mode(path(kind)))).to.deep.equal(['600', '600', '600']);
    });

    it('hold arguments byte for byte, and the log the lines', () => {
      create('{"\u00e9":1}');
      spool.append(key, '{"event":"started"}');
      spool.putOnFile(key, '{"event":"ended"}');
      expect(fs.readFileSync(path('args'), 'utf8')).to.equal('{"\u00e9":1}');
      expect(linesOnFile(runDir, key)).to.deep.equal(['{"event":"accepted"}', '{"event":"started"}', '{"event":"ended"}']);
    });

    it('are open as they should be: arguments to read, output to append', () => {
      create();
      const {stdin, stdout, stderr} = openStreams();
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
      expect(fs.readdirSync(calls)).to.deep.equal([`${key}.out`]);
    });

    it('are all gone after remove, or after flush at the latest', async () => {
      const keys = Array.from({length: 3 * limits.sliceSize}, () => {
        key = drawKey();
        create();
        return key;
      });
      for (const each of keys.slice(1)) spool.remove(each);
      await until('the slices are done', () => fs.readdirSync(calls).length === 1);
      spool.remove(keys[0]!);
      void spool.flush();
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

    it("is not followed by a new call's .args", () => {
      fs.symlinkSync(target, path('args'));
      expect(codeOf(() => create())).to.equal('spawner_unavailable');
      expect(fs.readdirSync(calls)).to.deep.equal([]);
    });

    for (const kind of ['out', 'err']) {
      it(`is not followed by the process's .${kind}, and leaves no file open`, () => {
        create();
        fs.symlinkSync(target, path(kind));
        const before = fs.readdirSync('/proc/self/fd').length;
        expect(() => openStreams()).to.throw('EEXIST');
        expect(fs.readdirSync('/proc/self/fd').length).to.equal(before);
      });
    }

    it('is not followed by a reader of results', () => {
      create();
      fs.symlinkSync(target, path('out'));
      expect(() => spool.read(key, 'stdout', 0, 10)).to.throw('ELOOP');
      expect(() => spool.openStdout(key)).to.throw('ELOOP');
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

    it('survives reads of calls whose files are gone', () => {
      create();
      fs.rmSync(calls, {recursive: true});
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

  it('sweeps the files of calls that are not on file, and nothing else', () => {
    create();
    const other = drawKey();
    for (const kind of ['args', 'out', 'err']) fs.writeFileSync(join(calls, `${other}.${kind}`), 'x');
    fs.writeFileSync(join(calls, 'note'), 'x');
    spool.files.sweep((known) => known === key);
    expect(fs.readdirSync(calls).sort()).to.deep.equal([`${key}.args`, 'note'].sort());
  });

  it('keeps little output in memory, as bytes of what the log has, until its call is removed', () => {
    spool.keepNoted(key, {stdout: '[1]', stderr: 'note'});
    expect(spool.sizes(key)).to.deep.equal({stdoutBytes: 0, stderrBytes: 0});
    expect([spool.readStdout(key, 3), spool.read(key, 'stderr', 1, 2)].map(String)).to.deep.equal(['[1]', 'ot']);
    spool.remove(key, {stdoutBytes: 3, stderrBytes: 4, inJournal: true});
    expect(spool.readStdout(key, 3)).to.have.length(0);
  });

  describe('what is on file of calls whose fork server died', () => {
    it('is found among all others, also in a journal of before the log, which goes', async () => {
      const keys = [drawKey(), drawKey(), drawKey()];
      for (const each of keys.slice(0, 2)) spool.putOnFile(each, acceptedLine(acceptance({key: each}), false));
      fs.writeFileSync(join(calls, `${keys[2]}.call`), `${acceptedLine(acceptance({key: keys[2]!}), true)}\n{"event":"ended","exit_code":3}\n{"event":"outc`);
      const found = await spool.find(new Set(keys.slice(1)));
      expect([...found.keys()]).to.have.members(keys.slice(1));
      expect(found.get(keys[2]!)).to.deep.include({leaveRunning: true}).and.nested.include({'ended.exitCode': 3});
      expect(fs.readdirSync(calls)).to.deep.equal([]);
      expect(recordOnFile(runDir, keys[2]!)).to.deep.equal(found.get(keys[2]!));
    });
  });
});
