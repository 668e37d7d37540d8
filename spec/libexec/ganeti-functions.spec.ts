import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import type {ForkSpawner} from '../../lib/proc/fork-spawner';
import {describeIf} from '../support/as-root';
import {GanetiBench} from '../support/ganeti-bench';
import {ganetiProblem} from '../support/ganeti-node';
import {isAlive, signalProcess} from '../support/processes';
import {until} from '../support/until';

describeIf('a function of Ganeti\'s backend', ganetiProblem(), () => {
  let bench: GanetiBench;
  before(async () => {
    bench = new GanetiBench();
    await bench.open();
  });
  after(() => bench.dispose());

  /** A pipe that functions wait at; opening it to write lets one of them go on. */
  function gate(name: string): string {
    const path = join(bench.root, name);
    execFileSync('mkfifo', [path]);
    return path;
  }

  it('is named to the daemon, each of those that Ganeti\'s own node daemon has', async () => {
    const names = JSON.parse(await bench.python('import json; from ganeti.server import noded; print(json.dumps([name[12:] for name in dir(noded.NodeRequestHandler) if name.startswith("perspective_")]))', '')) as string[];
    expect(names).to.include.members(['version', 'node_powercycle', 'jobqueue_update']);
    expect([...(bench.spawner as ForkSpawner).builtIns]).to.have.members(names);
    expect(bench.spawner.name).to.equal('ganeti');
  });

  const illegal = '/no/such/place';
  const requests: readonly (readonly [string, string])[] = [
    ['version', '[]'],
    ['version', '[]\n'],
    ['version', ''],
    ['version', '[1'],
    ['version', '{"a": 1}'],
    ['test_delay', '[0]'],
    ['test_delay', '[-1]'],
    ['test_delay', '[]'],
    ['test_delay', '["x"]'],
    ['master_node_name', '[]'],
    ['node_has_ip_address', '["127.0.0.1"]'],
    ['get_watcher_pause', '[]'],
    ['jobqueue_update', `["${illegal}", [0, "x"]]`],
    ['jobqueue_rename', '[[]]'],
    ['jobqueue_set_drain_flag', '[true]'],
    ['jobqueue_set_drain_flag', '[1, 2]'],
    ['upload_file_single', `["${illegal}", [0, "x"], 384, "root", "root", 1.0, 1.0]`],
    ['os_diagnose', '[]'],
    ['export_list', '[]'],
    ['hooks_runner', '["../up", "pre", {}]'],
    ['spec_echo', '[1795333344142123456, 1.0, 1e3, -0.0, 1e-7, 123456789012345678901234567890]'],
    ['spec_echo', '["\\u00e9", "é", "\\ud83d\\ude00", "\\u2028", "</script>", "a \\t\\n b"]'],
    ['spec_echo', '{"z": 1, "a": {"m": null, "b": [true, false]}}'],
    ['spec_echo', '{"osparams_private": {"password": "hidden"}}'],
    ['spec_echo', `[${'['.repeat(60)}${']'.repeat(60)}]`],
    ['spec_raise', '["odd"]'],
    ['spec_raise', '["é and \\u0001"]'],
    ['spec_fail', '["no such \\"instance\\""]'],
  ];

  it('is answered byte for byte as by Ganeti\'s own node daemon', async () => {
    const original = await bench.originalAnswers(requests);
    for (const [index, [name, body]] of requests.entries()) {
      const run = await bench.run(bench.builtIn(name), {args: body});
      expect(run.ending, run.stderr).to.include({kind: 'exited', exitCode: 0, output: 'json'});
      expect(run.stdout, `${name} ${body}`).to.equal(original[index]?.toString());
    }
  });

  it('takes arguments of any size, inline, in a file and in parts', async () => {
    for (const size of [10, 100_000, 3_000_000]) {
      for (const unspooled of [false, true]) {
        const args = JSON.stringify([`${'x'.repeat(size)}`]);
        const spec = bench.builtIn('spec_echo', {maxOutputBytes: 1 << 23});
        const run = await bench.run(spec, {args, unspooled});
        if (unspooled && size > 10) expect(run.ending).to.include({exitCode: 0, output: 'too_large'});
        else expect(run.stdout).to.equal(`[true, ${args}]\n`);
      }
    }
  });

  it('answers with a failure when it would end its process, or return what is no JSON', async () => {
    expect((await bench.call('spec_exit', [3])).stdout).to.equal('[false, "Error while executing backend function: 3"]\n');
    expect((await bench.call('spec_object', [])).stdout).to.match(/^\[false, "Error while executing backend function: .*object.*"\]\n$/);
  });

  it('is not started if there is none of that name', async () => {
    for (const name of ['no_such_function', '../version', '__class__', 'HandleRequest', '']) {
      expect((await bench.run(bench.builtIn(name), {args: '[]'})).ending).to.include({kind: 'not_started', errno: 'ENOENT', stage: 'exec'});
    }
  });

  it('comes back once, although it forks and both of them return', async () => {
    const [wait, seen] = [gate('fork'), join(bench.root, 'forked')];
    const run = await bench.call('spec_fork', [wait, seen]);
    expect(run.stdout).to.equal('[true, "parent"]\n');
    fs.closeSync(fs.openSync(wait, 'w'));
    const grandchild = Number(await until('the grandchild comes back', () => (fs.existsSync(seen) && fs.readFileSync(seen, 'utf8')) || undefined));
    await bench.dead(grandchild);
    expect(run.stdout).to.equal('[true, "parent"]\n');
    expect(bench.journal(run).map(({event}) => event)).to.deep.equal(['accepted', 'started', 'ended']);
    expect((await bench.call('version', [])).ending).to.include({exitCode: 0});
  });

  it('leaves daemons behind that live on', async () => {
    const pid = Number((JSON.parse((await bench.call('spec_daemon', [])).stdout) as [boolean, number])[1]);
    try {
      // Others end and are looked after meanwhile.
      await bench.run(bench.define('leaves', '#!/bin/sh\nsetsid sleep 600 &\n'));
      expect((await bench.call('version', [])).ending).to.include({exitCode: 0});
      expect(isAlive(pid)).to.equal(true);
    } finally {
      signalProcess(pid, 'SIGKILL');
    }
    await bench.dead(pid);
  });

  it('ends of the signal that asks it to', async () => {
    const run = bench.start('spec_wait', [gate('term')]);
    await run.ready();
    run.process.signal('terminate');
    expect(await run.ended()).to.include({kind: 'exited', signal: 'SIGTERM', exitCode: null});
  });

  it('ends of a signal that comes before it is ready for any, with its start', async () => {
    for (let round = 0; round < 10; round += 1) {
      const run = bench.start('spec_wait', [gate(`early${round}`)]);
      run.process.signal('terminate');
      expect(await run.ended()).to.include({kind: 'exited', signal: 'SIGTERM', exitCode: null});
    }
  });

  it('runs alone if it is one of the job queue, and beside the others', async () => {
    const path = join(bench.root, 'turns');
    const waiting = bench.start('spec_wait', [gate('beside')]);
    await waiting.ready();
    const runs = ['a', 'b', 'c', 'd'].map((word) => bench.start('jobqueue_bare', [path, word]));
    await Promise.all(runs.map((run) => run.ended()));
    expect(runs.map(({stdout}) => stdout)).to.deep.equal(['a', 'b', 'c', 'd'].map((word) => `[true, "${word}"]\n`));
    const lines = fs.readFileSync(path, 'utf8').trim().split('\n');
    expect(lines).to.have.lengthOf(8);
    for (let at = 0; at < lines.length; at += 2) expect(lines[at + 1]).to.equal(lines[at]?.replace('in', 'out'));
    expect(waiting.ending).to.equal(null);
    waiting.process.signal('kill');
    await waiting.ended();
  });

  it('lets the next of the job queue in when one is killed', async () => {
    const path = join(bench.root, 'killed-turns');
    execFileSync('mkfifo', [path]);
    // It cannot open the pipe, and holds the lane.
    const first = bench.start('jobqueue_spec', [path, 'x']);
    const pid = await first.started();
    const isLock = (fd: string): boolean => {
      try {
        return fs.readlinkSync(`/proc/${pid}/fd/${fd}`).endsWith('/queue/lock');
      } catch {
        return false; // closed meanwhile
      }
    };
    await until('it is in the lane', () => fs.readdirSync(`/proc/${pid}/fd`).some(isLock));
    const second = bench.start('jobqueue_spec', [join(bench.root, 'other-turns'), 'y']);
    await second.started();
    first.process.signal('kill');
    expect(await second.ended()).to.include({exitCode: 0});
    expect(second.stdout).to.equal('[true, "y"]\n');
  });

  it('makes the files of the job queue at the start of the fork server', () => {
    expect(fs.readFileSync(join(bench.node.queue, 'version'), 'utf8')).to.equal('1\n');
    expect(fs.readFileSync(join(bench.node.queue, 'serial'), 'utf8')).to.equal('0\n');
  });
});
