import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {Catalog, scanFunctions} from '../../lib/proc/catalog';
import type {Scan} from '../../lib/proc/catalog';
import {describeAsRoot} from '../support/as-root';

describe('the scan of the functions directories', () => {
  let root: string;
  let directory: string;

  beforeEach(() => {
    root = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-catalog-')));
    directory = join(root, 'functions');
    fs.mkdirSync(directory, {mode: 0o755});
  });
  afterEach(() => fs.rmSync(root, {recursive: true}));

  const scan = (...directories: readonly string[]): Scan => scanFunctions({directories: directories.length === 0 ? [directory] : directories, optional: [join(root, 'optional')], maxOutputBytes: 1000, functionConfig: new Map([['good', '{"a":1}']])});
  const write = (name: string, body = '#!/bin/sh\n', mode = 0o755, where = directory): string => {
    const path = join(where, name);
    fs.writeFileSync(path, body);
    fs.chmodSync(path, mode);
    return path;
  };
  /** Why the one function that is there was left out. */
  const reason = (): string => {
    const {entries, leftOut} = scan();
    expect([...entries.keys()]).to.deep.equal([]);
    expect(leftOut).to.have.length(1);
    return leftOut[0]!.reason;
  };

  it('finds what env(1) would find, and judges nothing else that it is told', () => {
    const lines = ['#!/usr/bin/env sh', '#! /usr/bin/env  sh ', '#!/usr/bin/env -S sh -u', '#!/usr/bin/env -SVAR=1 nosuch', '#!/usr/bin/env -i nosuch', '#!/usr/bin/env VAR=1', '#!/usr/bin/env', '#!/usr/bin/env /bin/sh'];
    lines.forEach((line, index) => write(`f${index}`, `${line}\n`));
    expect(scan().leftOut).to.deep.equal([]);
    expect(scan().entries.size).to.equal(lines.length);
  });

  it('tells of a directory that is not there, unless it need not be', () => {
    expect(scan(join(root, 'optional'), directory).leftOut).to.deep.equal([]);
    expect(scan(join(root, 'other'), directory).leftOut).to.deep.equal([{path: join(root, 'other'), reason: 'there is no such directory'}]);
  });

  it('finds executables with an interpreter, and what is compiled for this machine', () => {
    write('script');
    write('with-argument', '#! /usr/bin/env -S sh -e\n');
    fs.copyFileSync('/bin/true', join(directory, 'program'));
    const {entries, leftOut} = scan();
    expect(leftOut).to.deep.equal([]);
    expect([...entries.keys()].sort()).to.deep.equal(['program', 'script', 'with-argument']);
    expect(entries.get('script')?.spec).to.deep.equal({
      name: 'script', program: join(directory, 'script'), maxRunning: null, maxOutputBytes: 1000, killAfterMs: null, urgent: false, leaveRunning: false, user: null, nice: null, config: null,
    });
  });

  it('takes what the manifest says, and what noded.conf gives the function', () => {
    write('good');
    write('good.toml', 'description = "d"\nmax_output = 5\nmax_running = 2\nkill_after = 1.5\nabort_after = 60\nmax_abort_after = 90\nnice = 5\nurgent = true\nleave_running = true\nroles = ["r"]\nargs = true\n', 0o644);
    const entry = scan().entries.get('good');
    expect(entry?.spec).to.include({maxOutputBytes: 5, maxRunning: 2, killAfterMs: 1500, nice: 5, urgent: true, leaveRunning: true, config: '{"a":1}'});
    expect(entry).to.deep.include({description: 'd', abortAfterMs: 60_000, maxAbortAfterMs: 90_000, roles: ['r']});
    expect(entry?.args?.check(Buffer.from('1'))).to.equal(null);
  });

  it('lets the later directory win', () => {
    const later = join(root, 'later');
    fs.mkdirSync(later);
    write('good');
    write('other');
    write('good', '#!/bin/sh\n', 0o755, later);
    const {entries} = scan(directory, later);
    expect([entries.get('good')?.spec.program, entries.get('other')?.spec.program]).to.deep.equal([join(later, 'good'), join(directory, 'other')]);
  });

  it('does not bring back what a broken one was to replace', () => {
    const later = join(root, 'later');
    fs.mkdirSync(later);
    write('good');
    write('good', 'no interpreter\n', 0o755, later);
    const {entries, leftOut} = scan(directory, later);
    expect(entries.has('good')).to.equal(false);
    expect(leftOut).to.deep.equal([{path: join(later, 'good'), reason: 'is neither ELF nor does it begin with #!'}]);
  });

  it('names a directory that cannot be read', () => {
    const file = write('good');
    const {entries, leftOut} = scan(file, directory);
    expect(leftOut[0]).to.include({path: file});
    expect(leftOut[0]?.reason).to.match(/ENOTDIR/);
    expect(entries.has('good')).to.equal(true);
  });

  it('follows a link to a program that is safe', () => {
    const elsewhere = join(root, 'elsewhere');
    fs.mkdirSync(elsewhere);
    fs.symlinkSync(write('target', '#!/bin/sh\n', 0o755, elsewhere), join(directory, 'link'));
    expect(scan().entries.get('link')?.spec).to.include({name: 'link', program: join(elsewhere, 'target')});
  });

  it('passes over manifests and hidden files', () => {
    write('.hidden');
    write('alone.toml', '', 0o644);
    expect(scan()).to.deep.equal({entries: new Map(), leftOut: []});
  });

  const spoiled: readonly (readonly [title: string, spoil: () => void, reason: string | RegExp])[] = [
    ['a file that is not executable', () => write('f', '#!/bin/sh\n', 0o644), 'is not executable'],
    ['a directory', () => fs.mkdirSync(join(directory, 'f')), 'is not a regular file'],
    ['a fifo', () => execFileSync('mkfifo', ['-m', '755', join(directory, 'f')]), 'is not a regular file'],
    ['a link to nothing', () => fs.symlinkSync('none', join(directory, 'f')), /ENOENT/],
    ['a link to itself', () => fs.symlinkSync('f', join(directory, 'f')), /ELOOP/],
    ['an empty file', () => write('f', ''), 'is neither ELF nor does it begin with #!'],
    ['text that a shell would run', () => write('f', 'echo 1\n'), 'is neither ELF nor does it begin with #!'],
    ['a file that begins like ELF and ends there', () => write('f', '\u007fELF'), 'is neither ELF nor does it begin with #!'],
    ['#! without an interpreter', () => write('f', '#!\n'), 'names no interpreter after #!'],
    ['an interpreter that is not there', () => write('f', '#!/no/such/sh\n'), 'has the interpreter /no/such/sh, which gives ENOENT'],
    ['an interpreter with a Windows line end', () => write('f', '#!/bin/sh\r\n'), /^has the interpreter \/bin\/sh\r?, which gives ENOENT$/],
    ['a command that env(1) would not find', () => write('f', '#!/usr/bin/env nosuch\n'), /^has the interpreter nosuch, which is not in .*:\/bin/],
    ['the same after -S', () => write('f', '#!/usr/bin/env -S nosuch -u\n'), /^has the interpreter nosuch, which is not in /],
    ['a command of env(1) with a Windows line end', () => write('f', '#!/usr/bin/env sh\r\n'), /^has the interpreter "sh\\r", all of it one name/],
    ['a command of env(1) with arguments', () => write('f', '#!/usr/bin/env sh -u\n'), 'has the interpreter "sh -u", all of it one name for env(1): with arguments it takes env -S'],
    ['an ELF file for another machine', () => {
      const elf = Buffer.from(fs.readFileSync('/bin/true'));
      elf[18] = elf[18]! ^ 0x7f;
      fs.writeFileSync(join(directory, 'f'), elf, {mode: 0o755});
    }, 'is an ELF file for another machine'],
    ['a name in capitals', () => write('F'), 'is no function\'s name: ^[a-z][a-z0-9_-]{0,63}$'],
    ['a name that is too long', () => write('f'.repeat(65)), /^is no function's name/],
    ['a name with a dot', () => write('f.sh'), /^is no function's name/],
    ['a name with a newline', () => write('f\nf'), /^is no function's name/],
    ['a file that everyone may write', () => write('f', '#!/bin/sh\n', 0o757), /f may be written by everyone$/],
    ['a file that everyone may write, with the sticky bit that protects directories', () => write('f', '#!/bin/sh\n', 0o1777), /f may be written by everyone$/],
    ['a directory that everyone may write', () => (write('f'), fs.chmodSync(directory, 0o777)), /functions may be written by everyone$/],
    ['a parent directory that everyone may write', () => (write('f'), fs.chmodSync(root, 0o777)), /noded-catalog-\w+ may be written by everyone$/],
    ['a manifest that is not TOML', () => (write('f'), write('f.toml', 'nice =', 0o644)), /f\.toml: /],
    ['a manifest with an unknown key', () => (write('f'), write('f.toml', 'niceness = 1', 0o644)), /f\.toml: niceness is not a key of a manifest$/],
    ['a manifest that everyone may write', () => (write('f'), write('f.toml', '', 0o666)), /f\.toml may be written by everyone$/],
    ['a manifest that is far too long', () => (write('f'), write('f.toml', '#'.repeat((1 << 20) + 1), 0o644)), /is over 1048576 bytes$/],
    ['a manifest that is a directory', () => (write('f'), fs.mkdirSync(join(directory, 'f.toml'))), /EISDIR/],
  ];
  for (const [title, spoil, expected] of spoiled) {
    it(`leaves out ${title}, and says why`, () => {
      spoil();
      if (typeof expected === 'string') expect(reason()).to.equal(expected);
      else expect(reason()).to.match(expected);
    });
  }

  it('trusts a sticky directory above, such as /tmp', () => {
    write('good');
    fs.chmodSync(root, 0o1777);
    expect(scan().entries.has('good')).to.equal(true);
  });

  it('leaves out a link out of the directory to where others may write', () => {
    const open = join(root, 'open');
    fs.mkdirSync(open);
    fs.symlinkSync(write('target', '#!/bin/sh\n', 0o755, open), join(directory, 'link'));
    fs.chmodSync(open, 0o777);
    expect(reason()).to.match(/open may be written by everyone$/);
  });

  it('gives a catalog that is replaced whole, and can lose one function', () => {
    write('one');
    write('two');
    const catalog = new Catalog();
    catalog.replace(scan());
    const before = catalog.get('one');
    catalog.leaveOut('one');
    expect([catalog.get('one'), catalog.list().map(({spec}) => spec.name)]).to.deep.equal([undefined, ['two']]);
    catalog.replace(scan());
    expect(catalog.get('one')).to.deep.equal(before);
    expect(catalog.get('constructor')).to.equal(undefined);
  });
});

describeAsRoot('the scan of functions that belong to others', () => {
  let root: string;
  let path: string;
  const nobody = 65534;

  beforeEach(() => {
    root = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-catalog-')));
    fs.chmodSync(root, 0o755);
    path = join(root, 'f');
    fs.writeFileSync(path, '#!/bin/sh\n', {mode: 0o755});
  });
  afterEach(() => fs.rmSync(root, {recursive: true}));

  const reasons = (): readonly string[] => scanFunctions({directories: [root], optional: [], maxOutputBytes: 1000, functionConfig: new Map()}).leftOut.map(({reason}) => reason);

  it('leaves out a file of another user', () => {
    fs.chownSync(path, nobody, 0);
    expect(reasons()).to.deep.equal([`${path} belongs to uid ${nobody}, not to root or to noded's user`]);
  });

  it('leaves out what lies in a directory of another user, sticky or not', () => {
    fs.chownSync(root, nobody, 0);
    expect(reasons()).to.deep.equal([`${root} belongs to uid ${nobody}, not to root or to noded's user`]);
    fs.chmodSync(root, 0o1777);
    expect(reasons()).to.have.length(1);
  });

  it('leaves out what another group may write, but not what noded\'s own may', () => {
    fs.chmodSync(path, 0o775);
    expect(reasons()).to.deep.equal([]);
    fs.chownSync(path, 0, nobody);
    expect(reasons()).to.deep.equal([`${path} may be written by group ${nobody}`]);
  });

  it('leaves out a function whose manifest belongs to another user', () => {
    fs.writeFileSync(`${path}.toml`, '', {mode: 0o644});
    fs.chownSync(`${path}.toml`, nobody, 0);
    expect(reasons()).to.deep.equal([`${path}.toml belongs to uid ${nobody}, not to root or to noded's user`]);
  });
});
