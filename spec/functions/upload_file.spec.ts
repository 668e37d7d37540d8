import {createHash} from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import {expect} from 'chai';
import {describeManifest, endLeftovers, errorIn, errorOf, makeDirectory, resultOf, startFunction, until}
  from './run-function';

interface Uploaded {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

describe('the function upload_file', () => {
  let root: string;
  let allowed: string;
  let file: string;
  let config: Record<string, unknown>;

  beforeEach(() => {
    root = makeDirectory();
    allowed = path.join(root, 'allowed');
    file = path.join(allowed, 'file');
    fs.mkdirSync(path.join(allowed, 'below'), {recursive: true});
    fs.mkdirSync(path.join(root, 'allowed-not'));
    config = {directories: [allowed]};
  });

  afterEach(() => {
    endLeftovers();
    fs.rmSync(root, {recursive: true});
  });

  const upload = (args: object): Promise<Uploaded> => resultOf<Uploaded>('upload_file', args, {config});
  const refusal = (args: object): Promise<string> => errorOf('upload_file', args, {config});
  const everything = (): string[] => fs.readdirSync(root, {recursive: true, encoding: 'utf8'}).sort();
  const modeOf = (name: string): number => fs.statSync(name).mode & 0o7777;

  it('writes text as UTF-8 and tells its size and digest', async () => {
    const content = 'é€😀\n';
    const sha256 = createHash('sha256').update(content).digest('hex');
    expect(await upload({path: file, content})).to.deep.equal({path: file, bytes: 10, sha256});
    expect(fs.readFileSync(file, 'utf8')).to.equal(content);
  });

  it('writes bytes given as base64', async () => {
    const bytes = Buffer.from([0, 255, 128, 10]);
    await upload({path: path.join(allowed, 'below', 'bytes'), content_base64: bytes.toString('base64')});
    expect(fs.readFileSync(path.join(allowed, 'below', 'bytes'))).to.deep.equal(bytes);
  });

  it('writes an empty file', async () => {
    expect((await upload({path: file, content_base64: ''})).bytes).to.equal(0);
  });

  it('gives mode, owner, group and time as asked', async () => {
    const {username, uid, gid} = os.userInfo();
    await upload({path: file, content: '', mode: '0640', owner: username, group: String(gid), mtime: 1234567890.5});
    const stat = fs.statSync(file);
    expect([modeOf(file), stat.uid, stat.gid, stat.mtimeMs]).to.deep.equal([0o640, uid, gid, 1234567890500]);
  });

  it('makes a new file private unless told otherwise', async () => {
    await upload({path: file, content: 'secret'});
    expect(modeOf(file)).to.equal(0o600);
  });

  it('replaces a file as a whole, keeps its mode, and drops its setuid bit', async () => {
    fs.writeFileSync(file, 'old');
    fs.chmodSync(file, 0o4751);
    const before = fs.openSync(file, 'r');
    await upload({path: file, content: 'new'});
    expect(fs.readFileSync(before, 'utf8')).to.equal('old');
    fs.closeSync(before);
    expect([fs.readFileSync(file, 'utf8'), modeOf(file)]).to.deep.equal(['new', 0o751]);
  });

  it('leaves nothing but the file', async () => {
    await upload({path: file, content: 'x'});
    expect(everything()).to.deep.equal(['allowed', 'allowed-not', 'allowed/below', 'allowed/file']);
  });

  it('follows a link that leads into an allowed directory', async () => {
    fs.symlinkSync(allowed, path.join(root, 'way'));
    await upload({path: path.join(root, 'way', 'file'), content: 'x'});
    expect(fs.readFileSync(file, 'utf8')).to.equal('x');
  });

  describe('refuses, and changes nothing:', () => {
    let before: string[];

    beforeEach(() => {
      fs.symlinkSync(path.join(root, 'allowed-not'), path.join(allowed, 'out'));
      fs.symlinkSync(path.join(root, 'allowed-not', 'target'), path.join(allowed, 'link'));
      before = everything();
    });

    afterEach(() => expect(everything()).to.deep.equal(before));

    it('everything as long as no directory is configured', async () => {
      const args = {path: file, content: ''};
      expect(await errorOf('upload_file', args)).to.contain('no directory is allowed');
      expect(await errorOf('upload_file', args, {config: {directories: []}})).to.contain('no directory is allowed');
    });

    it('everything if the configuration is wrong', async () => {
      for (const directories of ['/', ['relative'], [1], null]) {
        const error = await errorOf('upload_file', {path: file, content: ''}, {config: {directories}});
        expect(error).to.contain('configuration');
      }
    });

    const outside = ['allowed-not/file', 'file', 'allowed/out/file'];
    for (const name of outside) {
      it(`${name}, which is not below an allowed directory`, async () => {
        expect(await refusal({path: path.join(root, name), content: ''})).to.contain('not below');
      });
    }

    for (const name of ['/allowed/../file', '/allowed/below/../file', '/allowed/./file', '/allowed//file', '/allowed/']) {
      it(`the path ${name}`, async () => {
        expect(await refusal({path: root + name, content: ''})).to.contain('component');
      });
    }

    it('a target that is a directory or a link', async () => {
      for (const name of ['below', 'link', 'out']) {
        expect(await refusal({path: path.join(allowed, name), content: ''})).to.contain('not a regular file');
      }
    });

    it('a directory that is missing', async () => {
      expect(await refusal({path: path.join(allowed, 'missing', 'file'), content: ''})).to.contain('ENOENT');
    });

    it('setuid, setgid and sticky bits, and modes that are none', async () => {
      for (const mode of ['4755', '02755', '1777', '644 ', '888', '', 420]) {
        expect(await refusal({path: file, content: '', mode})).to.contain('mode');
      }
    });

    it('an owner or group that does not exist or is no name', async () => {
      for (const owner of ['noded-no-such-user', '-1', 'root:root', '', 4294967295, 1.5, null]) {
        expect(await refusal({path: file, content: '', owner})).to.contain('owner');
      }
      expect(await refusal({path: file, content: '', group: 'noded-no-such-group'})).to.contain('no such group');
    });

    it('content that is missing, doubled or broken', async () => {
      const bad = [{}, {content: '', content_base64: ''}, {content: 1}, {content: '\ud800'}, {content_base64: 'YQ'},
        {content_base64: 'YQ=='.repeat(2)}, {content_base64: ' YQ=='}, {content_base64: null}];
      for (const part of bad) expect(await refusal({path: file, ...part})).to.contain('content');
    });

    it('arguments that are not an object, not JSON or unknown', async () => {
      for (const args of ['null', '[]', '', '{"path": ']) {
        errorIn(await startFunction('upload_file', args, {config}).ended);
      }
      expect(await refusal({path: file, content: '', setuid: true})).to.contain('setuid');
      expect(await refusal({path: 'file', content: ''})).to.contain('absolute');
    });

    it('content over the limit of file sizes, halfway', async () => {
      const args = {path: file, content: 'x'.repeat(10_000)};
      expect(await errorOf('upload_file', args, {config, maxFileBlocks: 8})).to.contain('EFBIG');
    });
  });

  it('leaves the old file or the new one, and nothing else, wherever SIGTERM comes', async () => {
    const text = JSON.stringify({path: file, content: 'n'.repeat(12_000_000)});
    for (let round = 0; round < 5; round += 1) {
      fs.writeFileSync(file, 'old');
      const running = startFunction('upload_file', text, {config});
      await until('a temporary file', () => fs.readdirSync(allowed).length === 3 || fs.statSync(file).size > 3);
      running.signalGroup('SIGTERM');
      const ended = await running.ended;
      const isNew = fs.statSync(file).size === 12_000_000;
      expect(isNew || fs.readFileSync(file, 'utf8') === 'old').to.equal(true);
      if (ended.code === 0) expect(isNew).to.equal(true);
      else expect(ended).to.include({signal: 'SIGTERM', stdout: ''});
      expect(fs.readdirSync(allowed).sort()).to.deep.equal(['below', 'file']);
    }
  });

  describeManifest('upload_file', [
    {path: '/a', content: ''},
    {path: '/a', content_base64: 'YQ==', mode: '0644', owner: 'root', group: 0, mtime: 1.5},
  ], [
    {path: '/a'},
    {path: 'a', content: ''},
    {path: '/a', content: '', content_base64: ''},
    {path: '/a', content: '', mode: '4755'},
    {path: '/a', content: '', owner: '-R'},
    {path: '/a', content: '', more: 1},
    [],
  ]);
});
