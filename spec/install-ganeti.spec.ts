/** `make install-ganeti` in a root with a dpkg of its own: there and back, twice, and from every half of it. */
import {execFileSync, spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {expect} from 'chai';

const checkout = join(__dirname, '..');
const place = '/usr/sbin/ganeti-noded';
const ours = '/usr/lib/noded/bin/ganeti-noded';
/** What Debian's package has there. */
const packaged = '../share/ganeti/default/ganeti-noded';

describe('make install-ganeti', function () {
  this.timeout(120_000);
  let root: string;

  const make = (what: string): void => void execFileSync('make', [what, `DESTDIR=${root}`, 'PREFIX=/usr'], {cwd: checkout, stdio: 'pipe'});
  const divert = (...words: string[]): string => execFileSync('dpkg-divert', [`--root=${root}`, ...words], {encoding: 'utf8'});
  const target = (path: string): string | null => {
    try {
      return fs.readlinkSync(join(root, path));
    } catch {
      return null;
    }
  };
  const state = (): {here: string | null; aside: string | null; diverted: boolean} => ({
    here: target(place),
    aside: target(`${place}.distrib`),
    diverted: divert('--truename', place).trim() !== place,
  });
  const installed = {here: ours, aside: packaged, diverted: true};
  const original = {here: packaged, aside: null, diverted: false};

  beforeEach(() => {
    root = fs.mkdtempSync(join(os.tmpdir(), 'noded-install-'));
    for (const directory of ['usr/sbin', 'var/lib/dpkg/info', 'var/lib/dpkg/updates', 'etc/dpkg/dpkg.cfg.d']) fs.mkdirSync(join(root, directory), {recursive: true});
    fs.writeFileSync(join(root, 'var/lib/dpkg/status'), '');
    fs.symlinkSync(packaged, join(root, place));
  });
  afterEach(() => fs.rmSync(root, {recursive: true, force: true}));

  it('puts noded in the place of the package\'s program, which steps aside, and installs what it needs', () => {
    make('install-ganeti');
    expect(state()).to.deep.equal(installed);
    for (const file of [ours, '/usr/lib/noded/lib/main/ganeti-noded.js', '/usr/lib/noded/libexec/noded-ganeti', '/usr/share/man/man8/ganeti-noded.8']) expect(fs.existsSync(join(root, file)), file).to.equal(true);
  });

  it('may be done again, and undone, and undone again', () => {
    for (let round = 0; round < 2; round += 1) {
      make('install-ganeti');
      expect(state()).to.deep.equal(installed);
    }
    for (let round = 0; round < 2; round += 1) {
      make('uninstall-ganeti');
      expect(state()).to.deep.equal(original);
    }
  });

  it('is undone with make uninstall', () => {
    make('install-ganeti');
    make('uninstall');
    expect(state()).to.deep.equal(original);
    expect(fs.existsSync(join(root, '/usr/lib/noded'))).to.equal(false);
  });

  const halves: Readonly<Record<string, () => void>> = {
    'the diversion is noted and nothing has moved': () => void divert('--local', '--no-rename', '--divert', `${place}.distrib`, '--add', place),
    'the program has stepped aside, and nothing is in its place': () => void divert('--local', '--rename', '--divert', `${place}.distrib`, '--add', place),
    'nothing is noted, but the program has moved': () => fs.renameSync(join(root, place), join(root, `${place}.distrib`)),
    'nothing is noted, but noded is in the place': () => {
      fs.renameSync(join(root, place), join(root, `${place}.distrib`));
      fs.symlinkSync(ours, join(root, place));
    },
  };
  for (const [title, breakOff] of Object.entries(halves)) {
    it(`gets along with a half: ${title}`, () => {
      breakOff();
      make('uninstall-ganeti');
      expect(state()).to.deep.equal(original);
      breakOff();
      make('install-ganeti');
      expect(state()).to.deep.equal(installed);
      make('uninstall-ganeti');
      expect(state()).to.deep.equal(original);
    });
  }

  it('leaves alone what somebody else has put there', () => {
    make('install-ganeti');
    fs.rmSync(join(root, place));
    fs.writeFileSync(join(root, place), 'theirs\n');
    const {status} = spawnSync('make', ['uninstall-ganeti', `DESTDIR=${root}`, 'PREFIX=/usr'], {cwd: checkout});
    expect(status).to.not.equal(0);
    expect(fs.readFileSync(join(root, place), 'utf8')).to.equal('theirs\n');
    expect(target(`${place}.distrib`)).to.equal(packaged);
  });
});
