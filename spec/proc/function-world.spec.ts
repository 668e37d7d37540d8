import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import {openFiles} from '../support/fixtures';
import {glibcSignals} from '../support/processes';

const proc = (file: string): {readonly body: string} => ({body: `#!/bin/sh\ntr '\\0\\n\\t"' ';;  ' < /proc/$$/${file} | sed 's/.*/"&"/'\n`});

/** Not that of a shell: it blocks all signals for as long as it forks. */
const status = {body: `#!/bin/sh\nexec awk 'BEGIN { printf "\\"" } { gsub(/\\t/, " "); printf "%s;", $0 } END { printf "\\"" }' /proc/self/status\n`};

describe('a function of a noded whose starter left a mess behind', () => {
  let daemon: NodedDaemon;

  before(async () => {
    const functions = {fds: openFiles, environ: proc('environ'), status, stat: proc('stat'), umask: {body: '#!/bin/sh\nprintf \'"%s"\' "$(umask)"\n'}, waits: {body: '#!/bin/sh\nexec sleep 60\n'}};
    // Descriptors, a umask, ignored signals, a memory killer's grudge and an environment that a function must not see.
    const mess = 'umask 077; trap "" HUP INT PIPE; echo 500 > /proc/self/oom_score_adj; exec 40< /dev/null 5> /dev/null; exec "$@"';
    daemon = await NodedDaemon.start({functions, wrapper: ['bash', '-c', mess, 'bash'], env: {LD_BIND_NOW: '1', NODE_ENV: 'spec', LISTEN_FDS: '1', SECRET: 'x', LC_ALL: 'C'}});
  });
  after(() => daemon.dispose());

  const result = async (name: string): Promise<string> => {
    const {json} = await daemon.startFunction(name, null, 20);
    expect(json.call.outcome, json.call.stderr.text).to.equal('ok');
    return json.result as string;
  };

  it('has open files 0, 1 and 2, and no others', async () => {
    expect(await result('fds')).to.equal('0 1 2');
  });

  it('has none of the starter\'s environment', async () => {
    const names = (await result('environ')).split(';').filter((line) => line !== '').map((line) => line.split('=')[0]);
    // Node itself gives it to children when coverage is measured.
    expect(names.filter((name) => name !== 'NODE_V8_COVERAGE').sort()).to.deep.equal(['HOME', 'LANG', 'NODED_CALL_KEY', 'NODED_FN_NAME', 'PATH']);
  });

  it('has umask 022', async () => {
    expect(await result('umask')).to.equal('0022');
  });

  it('ignores and blocks no signal', async () => {
    const status = await result('status');
    const mask = (name: string): bigint => BigInt(`0x${new RegExp(`;${name}: ([0-9a-f]{16});`).exec(status)?.[1] ?? 'f'}`) & ~glibcSignals;
    expect([mask('SigBlk'), mask('SigIgn')]).to.deep.equal([0n, 0n]);
  });

  it('has no oom_score_adj, while the daemon keeps its own', async () => {
    const {json} = await daemon.startFunction('waits', null, 0);
    const [, cpid] = json.call.id.split(':');
    expect(fs.readFileSync(`/proc/${cpid}/oom_score_adj`, 'utf8')).to.equal('0\n');
    expect(fs.readFileSync(`/proc/${daemon.pid}/oom_score_adj`, 'utf8')).to.equal('500\n');
  });

  it('leaves files of noded that nobody else may read', () => {
    const modes = (directory: string): string[] => fs.readdirSync(directory).map((name) => (fs.statSync(join(directory, name)).mode & 0o777).toString(8));
    expect((fs.statSync(daemon.runDir).mode & 0o777).toString(8)).to.equal('700');
    expect(new Set(modes(join(daemon.runDir, 'calls')))).to.deep.equal(new Set(['600']));
    expect(modes(daemon.runDir).filter((mode) => !['600', '700'].includes(mode))).to.deep.equal([]);
  });
});

describe('a noded with few files to open', () => {
  let daemon: NodedDaemon;
  before(async () => (daemon = await NodedDaemon.start({functions: {nofile: {body: '#!/bin/sh\nulimit -Sn\n'}}, wrapper: ['prlimit', '--nofile=200:200']})));
  after(() => daemon.dispose());

  it('starts functions within its own hard limit', async () => {
    expect((await daemon.startFunction('nofile', null, 20)).json.result).to.equal(200);
  });
});
