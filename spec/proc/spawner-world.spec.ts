import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {dirname} from 'node:path';
import {describeAsRoot} from '../support/as-root';
import {glibcSignals, isAlive} from '../support/processes';
import {describeSpawners} from '../support/spawner-bench';
import type {SpawnOptions, SpawnerBench} from '../support/spawner-bench';
import type {FunctionSpec} from '../../lib/call/spawner';

/** O_ACCMODE of open(2), which Node does not name. */
const accessMode = 3;

/** What one function process prints of itself. */
async function printed(bench: SpawnerBench, script: string, facts?: Partial<FunctionSpec>, options?: SpawnOptions): Promise<string> {
  const run = await bench.run(bench.define('print', `#!/bin/sh\n${script}\n`, facts), options);
  expect(run.ending, run.stderr).to.include({kind: 'exited', exitCode: 0});
  return run.stdout;
}

async function environment(bench: SpawnerBench, facts?: Partial<FunctionSpec>, options?: SpawnOptions): Promise<Record<string, string>> {
  const text = await printed(bench, 'cat /proc/$$/environ', facts, options);
  return Object.fromEntries(text.split('\0').filter((line) => line !== '').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

describeSpawners('the world of a function process', (bench) => {
  const base = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  const own = dirname(process.execPath);
  const path = base.split(':').includes(own) ? base : `${base}:${own}`;

  it('has exactly the promised environment', async () => {
    const {NODED_CALL_KEY: key, NODE_V8_COVERAGE: _, ...rest} = await environment(bench()); // Node adds the latter when coverage is measured
    expect(key).to.match(/^[0-9a-f]{16}$/);
    expect(rest).to.deep.equal({PATH: path, LANG: 'C.UTF-8', HOME: os.homedir(), NODED_FN_NAME: 'print'});
  });

  it('has request ID, traceparent and configuration if there are any', async () => {
    const facts = await environment(bench(), {config: '{"a":1}'}, {requestId: 'request-1', traceparent: '00-ab-cd-01'});
    expect(facts).to.include({NODED_REQUEST_ID: 'request-1', TRACEPARENT: '00-ab-cd-01', NODED_FN_CONFIG: '{"a":1}'});
  });

  it('is the leader of its own session and process group', async () => {
    const run = await bench().run(bench().define('leader', '#!/bin/sh\ncut -d" " -f1,5,6 /proc/$$/stat\n'));
    expect(run.stdout).to.equal(`${run.pid} ${run.pid} ${run.pid}\n`);
  });

  it('works in /', async () => {
    expect(await printed(bench(), 'readlink /proc/$$/cwd')).to.equal('/\n');
  });

  it('blocks, ignores and catches no signal', async () => {
    // Node itself ignores SIGPIPE and SIGXFSZ.
    const text = await printed(bench(), 'exec cat /proc/self/status');
    const masks = ['SigBlk', 'SigIgn', 'SigCgt'].map((name) => BigInt(`0x${new RegExp(`^${name}:\t([0-9a-f]+)$`, 'm').exec(text)?.[1] ?? 'f'}`) & ~glibcSignals);
    expect(masks).to.deep.equal([0n, 0n, 0n]);
  });

  it('reads its arguments byte for byte, from the start, and appends to its output', async () => {
    const args = '{"n":1764670000123456789,"s":"\\u00e9\u00e9\\ud83d"}';
    const text = await printed(bench(), 'cat; grep -h flags: /proc/$$/fdinfo/1', {}, {args});
    expect(text.slice(0, args.length)).to.equal(args);
    const flags = Number.parseInt(/flags:\s+(\d+)\n$/.exec(text)?.[1] ?? '0', 8);
    expect(flags & (fs.constants.O_APPEND | accessMode)).to.equal(fs.constants.O_APPEND | fs.constants.O_WRONLY);
  });

  it('has the soft limit of open files that select(2) can take, under the hard limit of noded', async () => {
    const limits = await printed(bench(), 'ulimit -Sn; ulimit -Hn');
    const hard = /^Max open files\s+\d+\s+(\d+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1'))?.[1];
    expect(limits).to.equal(`1024\n${hard}\n`);
  });

  it('runs at the nice value of its manifest', async () => {
    const niceness = async (facts: Partial<FunctionSpec>): Promise<number> => Number(await printed(bench(), 'cut -d" " -f19 /proc/$$/stat', facts));
    const usual = await niceness({});
    expect(await niceness({nice: 7})).to.equal(Math.min(usual + 7, 19));
  });

  it('goes on when it closes stdin without reading a megabyte of arguments', async () => {
    const run = await bench().run(bench().define('deaf', '#!/bin/sh\nexec <&-\necho true\n'), {args: `"${'x'.repeat(1 << 20)}"`});
    expect(run.ending).to.include({exitCode: 0, signal: null, output: 'json'});
  });

  it('goes on without files of its own when it closes stdin unread', async () => {
    const run = await bench().run(bench().define('deafer', '#!/bin/sh\nexec <&-\necho true\n'), {args: `"${'x'.repeat(1 << 20)}"`, unspooled: true});
    expect(run.ending).to.include({exitCode: 0, signal: null, output: 'json'});
  });
});

describeSpawners('the user of a function process', (bench) => {
  const nobody = {uid: 65534, gid: 65534, home: '/nonexistent'};

  it('is that of the manifest, with its group and no other', async () => {
    const text = await printed(bench(), 'grep -E "^(Uid|Gid|Groups)" /proc/self/status; echo $HOME', {user: nobody});
    expect(text.replaceAll(/[\t ]+/g, ' ').replaceAll(' \n', '\n')).to.match(/^Uid: 65534 65534 65534 65534\nGid: 65534 65534 65534 65534\nGroups:( 65534)?\n\/nonexistent\n$/);
  });

  it('may be signaled by noded like any other', async () => {
    const run = bench().spawn(bench().define('mortal', '#!/bin/sh\necho ready >&2\nexec sleep 60\n', {user: nobody}));
    await run.ready();
    run.process.signal('terminate');
    expect(await run.ended()).to.include({signal: 'SIGTERM'});
    expect(isAlive(run.pid)).to.equal(false);
  });
}, describeAsRoot);
