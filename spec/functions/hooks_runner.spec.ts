import * as fs from 'node:fs';
import * as path from 'node:path';
import {expect} from 'chai';
import {
  describeManifest, endLeftovers, errorIn, errorOf, livingInGroup, makeDirectory, resultOf, startFunction, until,
} from './run-function';

interface Hook {
  readonly name: string;
  readonly outcome: string;
  readonly exit_code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
  readonly error?: string;
}

describe('the function hooks_runner', () => {
  let root: string;
  let dir: string;
  let config: Record<string, unknown>;

  beforeEach(() => {
    root = makeDirectory();
    dir = path.join(root, 'hooks', 'node-add-post.d');
    fs.mkdirSync(dir, {recursive: true});
    config = {directories: [path.join(root, 'hooks')]};
  });

  afterEach(() => {
    endLeftovers();
    fs.rmSync(root, {recursive: true});
  });

  const write = (name: string, text: string, mode = 0o755): void => {
    fs.writeFileSync(path.join(dir, name), text);
    fs.chmodSync(path.join(dir, name), mode);
  };
  const hook = (name: string, body: string): void => write(name, `#!/bin/sh\n${body}\n`);
  const run = async (args: object = {}): Promise<readonly Hook[]> =>
    (await resultOf<{hooks: Hook[]}>('hooks_runner', {dir, ...args}, {config})).hooks;
  const runOne = async (args: object = {}): Promise<Hook> => {
    const hooks = await run(args);
    expect(hooks).to.have.lengthOf(1);
    return hooks[0] as Hook;
  };
  const refusal = (args: object): Promise<string> => errorOf('hooks_runner', {dir, ...args}, {config});

  it('runs hooks in the order of their names, on after a failed one, and tells each outcome', async () => {
    hook('20-fails', 'echo partly; echo why >&2; exit 3');
    hook('10-works', 'echo done');
    hook('30-dies', 'kill -KILL $$');
    hook('A', 'exit 0');
    const told = (await run()).map(({name, outcome, exit_code, signal, stdout, stderr}) =>
      [name, outcome, exit_code, signal, stdout, stderr]);
    expect(told).to.deep.equal([
      ['10-works', 'ok', 0, null, 'done\n', ''],
      ['20-fails', 'failed', 3, null, 'partly\n', 'why\n'],
      ['30-dies', 'signaled', null, 'SIGKILL', '', ''],
      ['A', 'ok', 0, null, '', ''],
    ]);
  });

  it('leaves out directories and what run-parts would leave out', async () => {
    for (const name of ['.hidden', 'copy~', 'x.dpkg-old', 'with blank', 'ümlaut']) hook(name, 'exit 1');
    fs.mkdirSync(path.join(dir, 'directory'));
    hook('a_B-9', '');
    expect((await run()).map(({name}) => name)).to.deep.equal(['a_B-9']);
  });

  it('has nothing to run in a directory that is missing or empty', async () => {
    expect(await run()).to.deep.equal([]);
    expect(await run({dir: path.join(root, 'hooks', 'missing', 'too')})).to.deep.equal([]);
  });

  it('names its default directory, /etc/noded/hooks, by allowing what is missing below it', async () => {
    const missing = '/etc/noded/hooks/noded-spec-missing.d';
    expect(await resultOf('hooks_runner', {dir: missing})).to.deep.equal({hooks: []});
    expect(await errorOf('hooks_runner', {dir})).to.contain('not below an allowed directory');
  });

  it('gives hooks a small environment, the given variables, / and no stdin', async () => {
    hook('env', 'env; pwd; cat');
    const {stdout} = await runOne({env: {GANETI_OP: 'a b\n"c"', X1: ''}});
    const names = [...stdout.matchAll(/^([A-Z_0-9]+)=/gm)].map((match) => match[1]).filter((name) => name !== 'PWD' && name !== 'NODE_V8_COVERAGE'); // Node gives that to children when coverage is measured
    expect(names.sort()).to.deep.equal(['GANETI_OP', 'HOME', 'LANG', 'NODED_CALL_KEY', 'PATH', 'X1']);
    expect(stdout).to.contain('GANETI_OP=a b\n"c"\n');
    expect(stdout).to.match(/\n\/\n$/);
  });

  it('refuses variables that decide what programs load, and bad ones', async () => {
    hook('marker', `touch ${root}/marker`);
    for (const name of ['PATH', 'LD_PRELOAD', 'NODE_OPTIONS', 'NODED_X', 'lower', '1A', '', 'A=B', 'A B']) {
      expect(await refusal({env: {[name]: 'x'}})).to.contain('is not allowed');
    }
    for (const value of [1, null, 'a\0b', []]) expect(await refusal({env: {A: value}})).to.contain('not a string');
    for (const env of [[], null, 'x']) expect(await refusal({env})).to.contain('env is not an object');
    expect(fs.existsSync(path.join(root, 'marker'))).to.equal(false);
  });

  it('keeps the last 4 KiB of each stream, from a whole character on', async () => {
    hook('loud', 'head -c 1000000 /dev/zero | tr "\\0" x; printf %1365s "" | sed "s/ /€/g"; printf é; echo end >&2');
    const {outcome, stdout, stderr} = await runOne();
    expect([outcome, stderr]).to.deep.equal(['ok', 'end\n']);
    expect(stdout).to.equal(`${'€'.repeat(1364)}é`);
  });

  describe('does not start', () => {
    const objections: [string, string, string, () => void][] = [
      ['a file without execute permission', 'not_executable', 'permission', () => write('h', '#!/bin/sh\n', 0o644)],
      ['what is neither ELF nor a script', 'start_failed', 'ELF', () => write('h', 'touch marker\n')],
      ['an empty file', 'start_failed', 'ELF', () => write('h', '')],
      ['a script whose interpreter is missing', 'start_failed', 'ENOENT', () => write('h', '#!/nonexistent\n')],
      ['a link that leads nowhere', 'start_failed', 'ENOENT', () => fs.symlinkSync('/nonexistent', path.join(dir, 'h'))],
      ['a link in a circle', 'start_failed', 'ELOOP', () => fs.symlinkSync('h', path.join(dir, 'h'))],
      ['what its group can write', 'start_failed', 'written by others', () => write('h', '#!/bin/sh\n', 0o775)],
      ['what all can write', 'start_failed', 'written by others', () => write('h', '#!/bin/sh\n', 0o757)],
      ['a link to what lies in an unsafe directory', 'start_failed', 'written by others', () => {
        fs.mkdirSync(path.join(root, 'open'));
        fs.writeFileSync(path.join(root, 'open', 'real'), '#!/bin/sh\n', {mode: 0o755});
        fs.chmodSync(path.join(root, 'open'), 0o777);
        fs.symlinkSync(path.join(root, 'open', 'real'), path.join(dir, 'h'));
      }],
    ];
    // Only root can give a file away.
    if (process.getuid?.() === 0) {
      objections.push(['what belongs to somebody else', 'start_failed', 'belongs to user 12345', () => {
        write('h', '#!/bin/sh\n');
        fs.chownSync(path.join(dir, 'h'), 12345, 0);
      }]);
    }
    for (const [what, outcome, reason, make] of objections) {
      it(`${what}, says so, and goes on with the next one`, async () => {
        make();
        hook('i', '');
        const [first, second] = await run();
        expect(first).to.include({name: 'h', outcome, exit_code: null, signal: null});
        expect(first?.error).to.contain(reason);
        expect(second).to.include({name: 'i', outcome: 'ok'});
      });
    }
  });

  it('runs a link to a safe program under the name of the link', async () => {
    fs.writeFileSync(path.join(root, 'real'), '#!/bin/sh\necho "$0"\n', {mode: 0o755});
    fs.symlinkSync(path.join(root, 'real'), path.join(dir, 'link'));
    expect((await runOne()).stdout).to.equal(`${dir}/link\n`);
  });

  it('refuses directories outside of the configured ones, also by way of a link', async () => {
    const outside = path.join(root, 'hooks-not');
    fs.mkdirSync(outside);
    fs.symlinkSync(outside, path.join(root, 'hooks', 'out'));
    for (const other of [outside, root, '/', path.join(root, 'hooks', 'out'), path.join(root, 'missing')]) {
      expect(await refusal({dir: other})).to.contain('not below an allowed directory');
    }
    for (const other of [`${dir}/../../hooks-not`, 'hooks', '', 5, `${dir}\0`]) {
      expect(await refusal({dir: other})).to.contain('dir is not');
    }
  });

  it('refuses a directory that others can write', async () => {
    hook('marker', `touch ${root}/marker`);
    fs.chmodSync(dir, 0o777);
    expect(await refusal({})).to.contain('can be written by others');
    fs.chmodSync(dir, 0o755);
    fs.chmodSync(path.dirname(dir), 0o775);
    expect(await refusal({})).to.contain('can be written by others');
    expect(fs.existsSync(path.join(root, 'marker'))).to.equal(false);
  });

  it('refuses a file in place of a directory, bad arguments and a bad configuration', async () => {
    hook('file', '');
    expect(await refusal({dir: path.join(dir, 'file')})).to.contain('ENOTDIR');
    for (const timeout of [0, -1, '1', 86401]) expect(await refusal({timeout})).to.contain('timeout');
    for (const text of ['', 'null', '[]', '{"dir"']) errorIn(await startFunction('hooks_runner', text, {config}).ended);
    for (const directories of ['/', ['hooks'], [1], null]) {
      expect(await errorOf('hooks_runner', {dir}, {config: {directories}})).to.contain('configuration');
    }
  });

  it('stops a hook over its time with all it has started, and runs the next one', async () => {
    hook('a', `sleep 86400 & echo $! >${root}/pid; echo started; wait`);
    hook('b', 'echo next');
    const [first, second] = await run({timeout: 5});
    expect(first).to.include({outcome: 'timed_out', exit_code: null, signal: 'SIGTERM', stdout: 'started\n'});
    expect(second).to.include({outcome: 'ok', stdout: 'next\n'});
    const pid = Number(fs.readFileSync(path.join(root, 'pid'), 'utf8'));
    await until('the sleep has ended', () => !isLiving(pid));
  });

  it('kills a hook that does not mind SIGTERM', async () => {
    hook('stubborn', 'trap "" TERM; while :; do sleep 1; done');
    expect(await runOne({timeout: 5})).to.include({outcome: 'timed_out', signal: 'SIGKILL'});
  });

  it('does not wait for what a hook has left behind with its output open', async () => {
    hook('daemon', 'sleep 86400 & echo started');
    const running = startFunction('hooks_runner', JSON.stringify({dir}), {config});
    const {hooks} = JSON.parse((await running.ended).stdout) as {hooks: Hook[]};
    expect(hooks[0]).to.include({outcome: 'ok', stdout: 'started\n'});
    running.signalGroup('SIGKILL');
  });

  it('ends by SIGTERM to its group, together with the hook, and starts no other', async () => {
    hook('a', `touch ${root}/a; exec sleep 86400`);
    hook('b', `touch ${root}/b`);
    const running = startFunction('hooks_runner', JSON.stringify({dir}), {config});
    await until('the hook runs', () => fs.existsSync(path.join(root, 'a')));
    running.signalGroup('SIGTERM');
    expect(await running.ended).to.include({code: null, signal: 'SIGTERM', stdout: '', stderr: 'a\n'});
    await until('nobody lives in the group', () => livingInGroup(running.pid).length === 0);
    expect(fs.existsSync(path.join(root, 'b'))).to.equal(false);
  });

  describeManifest('hooks_runner', [
    {dir: '/etc/noded/hooks/x'},
    {dir: '/x', env: {A: 'b', LDAP: 'c', PATHS: 'd'}, timeout: 0.5},
  ], [
    null, [], {}, {dir: 'x'}, {dir: '/x', timeout: 0}, {dir: '/x', more: 1}, {dir: '/x', env: {PATH: ''}},
    {dir: '/x', env: {LD_PRELOAD: ''}}, {dir: '/x', env: {a: ''}}, {dir: '/x', env: {A: 1}}, {dir: '/x', env: {A: 'a\0'}},
  ]);
});

function isLiving(pid: number): boolean {
  try {
    return !/\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
