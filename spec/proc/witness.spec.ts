import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {Witness} from '../../lib/proc/witness';
import type {WitnessSink} from '../../lib/proc/witness';
import {isAlive, processesWith, signalProcess} from '../support/processes';
import {SpawnerBench, spawnerKinds} from '../support/spawner-bench';
import type {Run} from '../support/spawner-bench';
import {until} from '../support/until';

const parentOf = (pid: number): number => Number(/^PPid:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))![1]);

describe('the witness of a function process', () => {
  let bench: SpawnerBench;
  before(() => (bench = new SpawnerBench(spawnerKinds.find(({name}) => name === 'child-spawner')!)));
  after(() => bench.dispose());

  const startReady = async (body: string): Promise<Run> => {
    const run = bench.spawn(bench.define('waits', body));
    await run.ready();
    return run;
  };

  it('that dies makes a lost call, with what it wrote, once its processes are dead', async () => {
    const run = await startReady('#!/bin/sh\nsetsid sleep 60 &\necho ready >&2\nwait\n');
    signalProcess(parentOf(run.pid), 'SIGKILL');
    expect(await run.ended()).to.include({kind: 'lost', stderrBytes: 6});
    expect(isAlive(run.pid)).to.equal(false);
    expect(bench.processesOf(run)).to.deep.equal([]);
    expect(run.events).to.deep.equal(['spawn returned', 'started', 'ended']);
  });

  it('has nothing of the call in its own environment, and ends with its process', async () => {
    const run = await startReady('#!/bin/sh\nexec perl -e \'print STDERR "ready\\n"; sleep 60\'\n');
    const witness = parentOf(run.pid);
    expect(bench.processesOf(run)).to.deep.equal([run.pid]);
    run.process.signal('kill');
    expect(await run.ended()).to.include({signal: 'SIGKILL'});
    await until('it has gone', () => !isAlive(witness));
  });

  it('says how its process ended that was killed before the word to begin', async () => {
    const said = await new Promise((resolve) => {
      const sink: WitnessSink = {
        forked: (pid) => {
          signalProcess(pid, 'SIGKILL');
          // The witness has said so, and could have left, before anything of it is read here.
          const busyUntil = performance.now() + 500;
          while (performance.now() < busyUntil) fs.statSync('/proc');
          witness.go();
        },
        failed: resolve,
        ended: resolve,
        gone: () => resolve('gone'),
      };
      const witness = new Witness(['/bin/true'], {}, ['pipe', 'pipe', 'pipe'], sink);
    });
    expect(said).to.deep.equal({exitCode: null, signal: 'SIGKILL'});
  });

  it('runs nothing for a noded that died before it had the pid on file', async () => {
    const marker = join(bench.root, 'marker');
    const sink = {pid: 0, forked: (pid: number) => (sink.pid = pid), failed: () => {}, ended: () => {}, gone: () => {}};
    const witness = new Witness(['/usr/bin/touch', marker], {env: {NODED_CALL_KEY: '0123456789abcdef', SPEC_WITNESS: bench.root}}, ['pipe', 'pipe', 'pipe'], sink satisfies WitnessSink);
    await until('there is a process', () => sink.pid > 0);
    for (const stream of witness.process.stdio) stream?.destroy();
    await until('both have gone', () => processesWith(`SPEC_WITNESS=${bench.root}`).length === 0);
    expect(fs.existsSync(marker)).to.equal(false);
  });
});
