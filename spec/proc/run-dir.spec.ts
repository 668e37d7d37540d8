import {expect} from 'chai';
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {RunDirError, RunDirLock, makePrivateDirectory} from '../../lib/proc/run-dir';
import {describeAsRoot} from '../support/as-root';

describe('the run directory', () => {
  let root: string;
  let path: string;
  beforeEach(() => {
    root = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-run-')));
    path = join(root, 'run');
  });
  afterEach(() => fs.rmSync(root, {recursive: true}));

  const complaint = (act: () => void): [kind: string, message: string] => {
    try {
      act();
    } catch (error) {
      expect(error).to.be.instanceOf(RunDirError);
      return [(error as RunDirError).kind, (error as Error).message];
    }
    throw new Error('there is nothing to complain of');
  };
  const mode = (): string => (fs.statSync(path).mode & 0o777).toString(8);

  it('is made for noded\'s user alone, and may be there already', () => {
    makePrivateDirectory(path);
    makePrivateDirectory(path);
    expect(mode()).to.equal('700');
  });

  it('is not made where the directory above is missing, and neither is that one', () => {
    const above = path;
    path = join(path, 'a');
    const [kind, message] = complaint(() => makePrivateDirectory(path));
    expect(kind).to.equal('unusable');
    expect(message).to.include('ENOENT').and.to.include(path);
    expect(fs.existsSync(above)).to.equal(false);
  });

  const unusable: readonly (readonly [title: string, make: () => void, expected: RegExp])[] = [
    ['is a file', () => fs.writeFileSync(path, ''), /EEXIST|is not a directory/],
    ['is a link to a directory', () => fs.symlinkSync(root, path), /is not a directory$/],
    ['may be read by a group', () => (fs.mkdirSync(path), fs.chmodSync(path, 0o740)), /has mode 740; it must be 700$/],
    ['lies where everyone may write', () => (fs.mkdirSync(path, {mode: 0o700}), fs.chmodSync(root, 0o777)), /may be written by everyone$/],
    ['lies below a file', () => (fs.writeFileSync(path, ''), (path = join(path, 'run'))), /ENOTDIR/],
  ];
  for (const [title, make, expected] of unusable) {
    it(`is refused if it ${title}`, () => {
      make();
      const [kind, message] = complaint(() => makePrivateDirectory(path));
      expect(kind).to.equal('unusable');
      expect(message).to.match(expected);
    });
  }

  describe('its lock', () => {
    const locks: RunDirLock[] = [];
    const lock = (): RunDirLock => {
      const one = new RunDirLock(path);
      locks.push(one);
      return one;
    };
    const file = (): string => join(path, 'lock');
    beforeEach(() => makePrivateDirectory(path));
    afterEach(() => locks.splice(0).forEach((one) => one.release()));

    it('is held by one, whose pid the others are told', () => {
      lock();
      expect(complaint(lock)).to.deep.equal(['locked', `${path} is in use by another noded, pid ${process.pid}`]);
    });

    it('can be had again after it was given back', () => {
      lock();
      locks.pop()!.release();
      lock();
    });

    it('is not held by what its holder starts', async () => {
      lock();
      const child = spawn('sleep', ['60'], {stdio: 'ignore'});
      await once(child, 'spawn');
      locks.pop()!.release();
      try {
        lock();
      } finally {
        child.kill('SIGKILL');
      }
    });

    it('is held although somebody has removed its file', () => {
      lock();
      fs.unlinkSync(file());
      expect(complaint(lock)).to.deep.equal(['locked', `${path} is in use by another noded`]);
      expect(fs.existsSync(file()), 'a file of the other').to.equal(false);
    });

    it('is respected where an earlier version has it on the file only', async () => {
      const holder = spawn('flock', ['-x', file(), '-c', 'echo held; read end'], {stdio: ['pipe', 'pipe', 'ignore']});
      await once(holder.stdout, 'data');
      expect(complaint(lock)[0]).to.equal('locked');
      holder.stdin.end('\n');
      await once(holder, 'exit');
      lock();
    });

    it('says that its file was removed, and makes it again', async () => {
      const mine = lock();
      expect(await mine.look()).to.equal(null);
      fs.unlinkSync(file());
      expect(await mine.look()).to.match(/^somebody has removed .*lock: nothing may clean the run directory of a noded$/);
      expect(fs.readFileSync(file(), 'utf8')).to.equal(`${process.pid}\n`);
      expect(await mine.look()).to.equal(null);
    });

    it('says that its file is another\'s, or cannot be made again', async () => {
      const mine = lock();
      fs.unlinkSync(file());
      const holder = spawn('flock', ['-x', file(), '-c', 'echo held; read end'], {stdio: ['pipe', 'pipe', 'ignore']});
      await once(holder.stdout, 'data');
      expect(await mine.look()).to.match(/it cannot be locked again: another noded has one there now$/);
      holder.stdin.end('\n');
      await once(holder, 'exit');
      fs.rmSync(path, {recursive: true});
      expect(await mine.look()).to.match(/it cannot be locked again: .*ENOENT/);
    });

    it('is on the directory that is there, once the first was removed with all that was in it', async () => {
      const mine = lock();
      fs.rmSync(path, {recursive: true});
      makePrivateDirectory(path);
      expect(await mine.look()).to.match(/^somebody has removed .*run, and with it all calls; the local socket is there again after a restart$/);
      expect(complaint(lock)).to.deep.equal(['locked', `${path} is in use by another noded, pid ${process.pid}`]);
      expect(await mine.look()).to.equal(null);
    });

    it('is not taken through a link', () => {
      fs.symlinkSync('/etc/hostname', join(path, 'lock'));
      expect(complaint(lock)[1]).to.match(/ELOOP/);
    });

    it('cannot be had without flock(1), and that is said', () => {
      const before = process.env.PATH;
      process.env.PATH = '/nonexistent';
      try {
        expect(complaint(lock)).to.deep.equal(['unusable', `flock(1) of util-linux could not lock ${path}: ENOENT`]);
      } finally {
        process.env.PATH = before;
      }
    });
  });
});

describeAsRoot('the run directory of somebody else', () => {
  it('is refused', () => {
    const path = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-run-')));
    try {
      fs.chownSync(path, 65534, 0);
      expect(() => makePrivateDirectory(path)).to.throw(RunDirError, `${path} belongs to uid 65534, not to noded's user`);
    } finally {
      fs.rmSync(path, {recursive: true});
    }
  });
});
