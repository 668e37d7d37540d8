import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {describeIf} from '../support/as-root';
import {GanetiBench} from '../support/ganeti-bench';
import {ganetiProblem} from '../support/ganeti-node';
import {glibcSignals} from '../support/processes';
import type {Run} from '../support/spawner-bench';

interface World {
  readonly fds: Readonly<Record<string, string>>;
  readonly cloexec: readonly number[];
  readonly env: Readonly<Record<string, string>>;
  readonly umask: number;
  readonly cwd: string;
  readonly leads: readonly number[];
  readonly nofile: readonly number[];
  readonly fsize: number;
  readonly blocked: string;
  readonly ignored: string;
  readonly caught: string;
  readonly comm: string;
  readonly lock: number;
  readonly oom: number;
}

describeIf('the world of a function of Ganeti\'s backend', ganetiProblem(), () => {
  let bench: GanetiBench;
  let run: Run;
  let world: World;

  before(async () => {
    bench = new GanetiBench({NODED_GANETI_MLOCK: '1'});
    await bench.open();
    await bench.call('version', []); // what the first call has, the next ones must not have
    run = await bench.run(bench.builtIn('spec_world'), {args: '[]', requestId: 'request-1'});
    world = (JSON.parse(run.stdout) as [true, World])[1];
  });
  after(() => bench.dispose());

  it('has nothing for stdin, the log for stdout, its own stderr, and nothing of the fork server', () => {
    const calls = join(bench.runDir, 'calls', run.key);
    const {'0': stdin, '1': stdout, '2': stderr, ...others} = world.fds;
    expect([stdin, stdout, stderr]).to.deep.equal(['/dev/null', bench.node.log, `${calls}.err`]);
    expect(Object.values(others).filter((path) => !path.startsWith('pipe:'))).to.deep.equal([`${calls}.out`]);
    expect(Object.values(others)).to.have.lengthOf(2);
    expect(world.cloexec, 'passed on to what it starts').to.deep.equal([]);
  });

  it('has the environment that noded gives, and Ganeti\'s variables', () => {
    const {PATH, HOME, ...rest} = world.env;
    expect([PATH, HOME]).to.deep.equal([bench.node.env.PATH, process.env.HOME]);
    expect(rest).to.deep.equal({LANG: 'C.UTF-8', NODED_CALL_KEY: run.key, NODED_FN_NAME: 'spec_world', NODED_REQUEST_ID: 'request-1', GANETI_ROOTDIR: bench.node.root, GANETI_HOSTNAME: 'node1'});
  });

  it('has umask 077, works in /, and leads a session of its own', () => {
    expect([world.umask, world.cwd]).to.deep.equal([0o077, '/']);
    expect(world.leads).to.deep.equal([run.pid, run.pid, run.pid]);
  });

  it('has the soft limit of open files that select(2) can take, and none of file size', () => {
    const hard = Number(/^Max open files\s+\d+\s+(\d+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1'))?.[1]);
    expect(world.nofile).to.deep.equal([1024, hard]);
    expect(world.fsize).to.equal(-1);
  });

  it('blocks and catches no signal, and ignores those two that Python does', () => {
    const mask = (text: string): bigint => BigInt(`0x${text}`) & ~glibcSignals;
    const pythons = (1n << 12n) | (1n << 24n); // SIGPIPE, SIGXFSZ
    expect([mask(world.blocked), mask(world.caught), mask(world.ignored)]).to.deep.equal([0n, 0n, pythons]);
  });

  it('has its name for that of its process, and is not locked into memory as the fork server is', () => {
    const locked = Number(/^VmLck:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${bench.forkServer}/status`, 'latin1'))?.[1]);
    expect(locked).to.be.above(10_000);
    expect([world.comm, world.lock]).to.deep.equal(['spec_world\n', 0]);
  });

  it('prints into the log what it prints, and answers with its stderr', async () => {
    const printed = await bench.call('spec_print', ['thing']);
    expect([printed.stdout, printed.stderr]).to.deep.equal(['[true, true]\n', 'note thing\n']);
    expect(bench.log.split('\n').filter((line) => line.endsWith('thing'))).to.have.members(['thing', 'written thing']);
  });
});

describeIf('Ganeti\'s log under noded-ganeti', ganetiProblem(), () => {
  let bench: GanetiBench;
  before(async () => {
    bench = new GanetiBench();
    await bench.open();
  });
  after(() => bench.dispose());

  const mode = (path: string): string => (fs.statSync(path).mode & 0o777).toString(8);
  const line = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: ganeti-noded pid=(\d+) (\w+) (.*)$/;
  const linesOf = (path: string): (readonly [pid: number, level: string, text: string])[] =>
    fs.readFileSync(path, 'utf8').split('\n').flatMap((text) => {
      const found = line.exec(text);
      return found === null ? [] : [[Number(found[1]), found[2]!, found[3]!] as const];
    });

  it('has lines as Ganeti\'s own node daemon writes them, with the pid of the function', async () => {
    const run = await bench.call('spec_log', ['line']);
    expect(linesOf(bench.node.log).filter(([pid]) => pid === run.pid)).to.deep.equal([[run.pid, 'INFO', 'first line'], [run.pid, 'INFO', 'second line']]);
    expect(mode(bench.node.log)).to.equal('600');
  });

  it('has the traceback of an error that nobody expected', async () => {
    const run = await bench.call('spec_raise', ['surprise']);
    expect(linesOf(bench.node.log).at(-1)).to.deep.equal([run.pid, 'ERROR', 'Error in RPC call']);
    expect(bench.log).to.match(/\nTraceback \(most recent call last\):\n[^]*\nValueError: surprise\n$/);
  });

  it('is noticed when it is rotated: by the next call, and by one that runs', async () => {
    const gate = join(bench.root, 'gate');
    execFileSync('mkfifo', [gate]);
    const running = bench.start('spec_log', ['long', gate]);
    await running.ready();
    fs.renameSync(bench.node.log, `${bench.node.log}.1`);
    const next = await bench.call('spec_log', ['next']);
    fs.closeSync(fs.openSync(gate, 'w'));
    await running.ended();
    expect(linesOf(`${bench.node.log}.1`).at(-1)).to.deep.equal([running.pid, 'INFO', 'first long']);
    expect(linesOf(bench.node.log)).to.deep.equal([[next.pid, 'INFO', 'first next'], [next.pid, 'INFO', 'second next'], [running.pid, 'INFO', 'second long']]);
    expect(mode(bench.node.log)).to.equal('600');
  });

  it('may be missing, and functions go on', async () => {
    fs.renameSync(join(bench.node.root, 'var/log/ganeti'), join(bench.node.root, 'var/log/gone'));
    const run = await bench.call('spec_log', ['nowhere']);
    expect(run.stdout).to.equal(`[true, ${run.pid}]\n`);
    expect(run.stderr).to.include('No such file or directory');
  });
});

describeIf('Ganeti\'s log under noded-ganeti, with debug messages', ganetiProblem(), () => {
  it('names the place of each', async () => {
    const bench = new GanetiBench({NODED_GANETI_DEBUG: '1'});
    try {
      await bench.open();
      await bench.call('spec_log', ['debug']);
      expect(bench.log).to.match(/: ganeti-noded pid=\d+ noded:\d+ INFO first debug\n/);
    } finally {
      await bench.dispose();
    }
  });
});
