/** Little output stands in the `ended` line, and in no file: noded-forker does that, and noded keeps it in memory. */
import {expect} from 'chai';
import * as fs from 'node:fs';
import {isIdle} from '../support/injected-faults';
import {recordOnFile} from '../support/journals';
import {SpawnerBench, spawnerKinds} from '../support/spawner-bench';
import type {Run} from '../support/spawner-bench';
import {until} from '../support/until';

/** What both streams together may have to stand in a line of the log. */
const most = 512;

for (const kind of spawnerKinds.filter(({name}) => name.startsWith('fork-spawner') && !name.includes('ganeti'))) {
  describe(`${kind.name}: the output of a call`, () => {
    let bench: SpawnerBench;
    before(async () => {
      bench = new SpawnerBench(kind);
      await bench.open();
    });
    after(() => bench.dispose());

    const filesOf = (run: Run): string[] => fs.readdirSync(`${bench.runDir}/calls`).filter((name) => name.startsWith(run.key)).map((name) => name.slice(17)).sort();
    const prints = (name: string, stdout: string, stderr = ''): Promise<Run> => {
      fs.writeFileSync(`${bench.root}/${name}.out`, stdout, 'latin1');
      fs.writeFileSync(`${bench.root}/${name}.err`, stderr, 'latin1');
      const says = stderr === '' ? '' : `cat ${bench.root}/${name}.err >&2\n`;
      return bench.run(bench.define(name, `#!/bin/sh\n${says}exec cat ${bench.root}/${name}.out\n`));
    };

    /** On a busy machine a short call may run for long enough to have files: then once more. */
    const printsSoon = async (name: string, stdout: string, stderr = ''): Promise<Run> => {
      return until(`${name} is young when it ends`, async () => {
        const run = await prints(name, stdout, stderr);
        if (run.ending?.kind === 'exited' && run.ending.inJournal === true) return run;
        expect(run.stdout).to.equal(stdout);
        return false;
      }, 25_000);
    };

    it('stands in its line if it is little, and in memory', async () => {
      const [stdout, stderr] = ['{"a":"\\\\ \\"q\\"",\n\t"b":[1.0]}\n', 'a "note"\n'];
      const run = await printsSoon('little', stdout, stderr);
      expect(run.ending).to.include({output: 'json', stdoutBytes: stdout.length, stderrBytes: stderr.length, inJournal: true});
      expect(filesOf(run)).to.deep.equal([]);
      expect(bench.journal(run).at(-1)).to.include({event: 'ended', stdout, stderr});
      expect([run.stdout, run.stderr]).to.deep.equal([stdout, stderr]);
      expect(bench.spool.read(run.key, 'stdout', 2, 3).toString()).to.equal(stdout.slice(2, 5));
    });

    for (const [what, stdout, stderr] of [
      ['is not plain ASCII', '"\xc3\xa9"', ''],
      ['has a control character', '"a"\r', ''],
      ['has a zero byte', '1', '\0'],
      ['is too much', `"${'x'.repeat(most - 1)}"`, ''],
      ['is too much together', `"${'x'.repeat(most / 2)}"`, 'y'.repeat(most / 2)],
    ] as const) {
      it(`has files of its own if it ${what}`, async () => {
        const run = await prints('filed', stdout, stderr);
        expect(run.ending).to.include({stdoutBytes: stdout.length, stderrBytes: stderr.length});
        expect(filesOf(run)).to.deep.equal([...(stderr === '' ? [] : ['err']), 'out']);
        expect(bench.journal(run).at(-1)).to.not.have.any.keys('stdout', 'stderr');
        expect(bench.spool.read(run.key, 'stdout', 0, 10_000).toString('latin1')).to.equal(stdout);
        expect(bench.spool.read(run.key, 'stderr', 0, 10_000).toString('latin1')).to.equal(stderr);
      });
    }

    it('stands there to the last byte that it may have, and where most of it is escaped', async () => {
      for (const stdout of [...[most - 1, most].map((size) => `"${'x'.repeat(size - 2)}"`), JSON.stringify('"'.repeat(most / 2 - 1))]) {
        const run = await printsSoon('exact', stdout);
        expect(run.ending).to.include({output: 'json', stdoutBytes: stdout.length, inJournal: true});
        expect(run.stdout).to.equal(stdout);
      }
    });

    it('is said to be none by its line, in which it stands', async () => {
      const run = await printsSoon('silent', '');
      expect(bench.journal(run).at(-1)).to.include({event: 'ended', stdout: ''}).and.not.have.any.keys('stderr');
    });

    it('has files once it runs for a while, which grow as it writes', async () => {
      const gate = `${bench.root}/go-on`;
      const run = bench.spawn(bench.define('talks', `#!/bin/sh\necho one >&2\nuntil [ -e ${gate} ]; do sleep 0.02; done\necho two >&2\necho 1\n`));
      await until('stderr has a name', () => run.stderr === 'one\n');
      expect(filesOf(run)).to.deep.equal(['err', 'out']);
      fs.writeFileSync(gate, '');
      expect(await run.ended()).to.include({output: 'json', stdoutBytes: 2, stderrBytes: 8});
      expect(filesOf(run)).to.deep.equal(['err', 'out']);
      expect([run.stdout, run.stderr]).to.deep.equal(['1\n', 'one\ntwo\n']);
    });

    it('has names at once when descriptors are few, and costs none while its call runs', async () => {
      const spec = bench.define('sleeps', '#!/bin/sh\nexec sleep 60\n');
      const files = (): number => fs.readdirSync(`/proc/${bench.forkServer}/fd`).length;
      await until('it is idle', () => isIdle(bench.forkServer));
      const before = files();
      const runs = Array.from({length: 400}, () => bench.spawn(spec));
      await Promise.all(runs.map((run) => run.started()));
      await until('no call has a descriptor any more', () => files() === before);
      for (const run of runs) run.process.signal('kill');
      for (const run of runs) expect(await run.ended()).to.include({signal: 'SIGKILL'});
      await until('it has as many as before', () => files() === before);
    });

    it('has its first line when its program is busy, and when the table has written that already', async () => {
      const spec = bench.define('waits', '#!/bin/sh\n');
      fs.copyFileSync('/bin/true', spec.program);
      const fd = fs.openSync(spec.program, 'r+');
      const runs = [bench.spawn(spec, {meanwhile: (key, accepted) => bench.spool.putOnFile(key, accepted)}), bench.spawn(spec)];
      try {
        await until('it was busy', () => bench.warnings.some((warning) => warning.includes('is being written')));
      } finally {
        fs.closeSync(fd);
      }
      for (const run of runs) {
        expect(await run.ended()).to.include({kind: 'exited', exitCode: 0});
        expect(recordOnFile(bench.runDir, run.key)).to.nested.include({'accepted.key': run.key, 'ended.exitCode': 0});
      }
    });

    it('leaves lines that say all by themselves', async () => {
      const run = await printsSoon('says', '[1]', 'x');
      const record = recordOnFile(bench.runDir, run.key);
      expect(record).to.deep.include({outcome: null, stopCause: null});
      expect(record?.ended).to.deep.include({exitCode: 0, noted: {stdout: '[1]', stderr: 'x'}});
    });
  });
}
