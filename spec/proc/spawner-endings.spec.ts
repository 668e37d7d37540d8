import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import type {FunctionSpec} from '../../lib/call/spawner';
import {outcomeOf} from '../../lib/base/outcome';
import {withoutDescriptors} from '../support/no-descriptors';
import {describeSpawners} from '../support/spawner-bench';
import type {Run, SpawnerBench} from '../support/spawner-bench';

/** Signals of signal(7) whose default action ends nothing. */
const harmless = ['SIGCHLD', 'SIGCONT', 'SIGSTOP', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU', 'SIGURG', 'SIGWINCH'].map((name) => os.constants.signals[name as NodeJS.Signals]);
const deadly = Array.from({length: 31}, (_, index) => index + 1).filter((signal) => !harmless.includes(signal));
/** They have no names; glibc keeps 32 and 33 for itself. */
const realTime = Array.from({length: 31}, (_, index) => index + 34);
const batchSize = 32;

/** Many runs, some at a time. */
async function runAll(bench: SpawnerBench, spec: FunctionSpec, args: readonly number[]): Promise<Run[]> {
  const runs: Run[] = [];
  for (let from = 0; from < args.length; from += batchSize) {
    runs.push(...(await Promise.all(args.slice(from, from + batchSize).map((arg) => bench.run(spec, {args: String(arg)})))));
  }
  return runs;
}

describeSpawners('how a function process ended', (bench) => {
  it('reports every exit code from 0 to 255', async () => {
    const spec = bench().define('exit', '#!/bin/sh\nread -r code\nexit $code\n');
    const codes = Array.from({length: 256}, (_, code) => code);
    const runs = await runAll(bench(), spec, codes);
    expect(runs.map(({ending}) => ending?.kind === 'exited' && ending.signal === null && ending.exitCode)).to.deep.equal(codes);
  });

  it('reports every signal that ends a process, and no exit code with it', async () => {
    const spec = bench().define('die', '#!/bin/sh\nulimit -c 0\nread -r signal\nkill -$signal $$\nsleep 60\n');
    const runs = await runAll(bench(), spec, deadly);
    const seen = runs.map(({ending}) => ending?.kind === 'exited' && ending.exitCode === null && os.constants.signals[ending.signal as NodeJS.Signals]);
    expect(seen).to.deep.equal(deadly);
  });

  it('reports every real-time signal, which is no success', async () => {
    const spec = bench().define('realtime', '#!/usr/bin/perl\nmy $signal = <STDIN>; $| = 1; print "1\n"; kill $signal, $$; sleep 60;\n');
    const runs = await runAll(bench(), spec, realTime);
    expect(runs.map(({ending}) => ending?.kind === 'exited' && ending.exitCode === null && ending.signal)).to.deep.equal(realTime.map((signal) => `SIG${signal}`));
    for (const {ending} of runs) expect(outcomeOf(ending!, null)).to.equal('signaled');
  });

  it('writes start and end to the journal, with what tells the pid from its reuse', async () => {
    const run = await bench().run(bench().define('three', '#!/bin/sh\nexit 3\n'));
    const [, started, ended] = bench().journal(run);
    expect(started).to.deep.include({event: 'started', pid: run.pid, boot_id: fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()});
    expect(started?.start_time).to.be.above(0);
    expect(ended).to.deep.include({event: 'ended', exit_code: 3, signal: null});
  });

  it('says whether stdout is one JSON value, none, or something else', async () => {
    const spec = bench().define('print', '#!/bin/sh\nread -r what\ncase $what in 1) echo "{}";; 2) ;; 3) echo "1 2";; esac\n');
    const outputs = (await runAll(bench(), spec, [1, 2, 3])).map(({ending}) => ending?.kind === 'exited' && ending.output);
    expect(outputs).to.deep.equal(['json', 'empty', 'invalid']);
  });

  it('counts the bytes of stdout and stderr', async () => {
    const run = await bench().run(bench().define('both', '#!/bin/sh\nprintf 12345\nprintf 123 >&2\n'));
    expect(run.ending).to.include({stdoutBytes: 5, stderrBytes: 3});
    expect([run.stdout, run.stderr]).to.deep.equal(['12345', '123']);
  });
});

describeSpawners('the limit of its output', (bench) => {
  const limit = 4096;
  const string = (bytes: number): string => `perl -e 'print chr(34), "x" x ${bytes - 2}, chr(34)'`;

  it('lets through exactly the limit', async () => {
    const run = await bench().run(bench().define('full', `#!/bin/sh\n${string(limit)}\n`, {maxOutputBytes: limit}));
    expect(run.ending).to.include({output: 'json', stdoutBytes: limit});
  });

  it('calls one byte more too large, although the function exits 0', async () => {
    const run = await bench().run(bench().define('over', `#!/bin/sh\n${string(limit + 1)}\n`, {maxOutputBytes: limit}));
    expect(run.ending).to.include({output: 'too_large', exitCode: 0});
    expect(outcomeOf(run.ending!, null)).to.equal('output_too_large');
  });

  it('ends a function that goes on writing with SIGXFSZ', async () => {
    const run = await bench().run(bench().define('endless', '#!/bin/sh\nulimit -c 0\nexec cat /dev/zero\n', {maxOutputBytes: limit}));
    expect(run.ending).to.include({output: 'too_large', signal: 'SIGXFSZ', stdoutBytes: limit + 1});
    expect(outcomeOf(run.ending!, null)).to.equal('output_too_large');
  });

  it('gives EFBIG to a function that ignores SIGXFSZ', async () => {
    const body = '#!/bin/sh\ntrap "" XFSZ\nperl -e \'$| = 1; $SIG{XFSZ} = "IGNORE"; 1 while print "x" x 1024; print STDERR $!{EFBIG} ? "EFBIG" : "$!"; exit 7\'\n';
    const run = await bench().run(bench().define('deaf', body, {maxOutputBytes: limit}));
    expect(run.ending).to.include({output: 'too_large', exitCode: 7, signal: null});
    expect(run.stderr).to.equal('EFBIG');
  });

  it('is not one of file size for leave_running, which what it starts would have for life; its stdout is judged all the same', async () => {
    const body = `#!/bin/sh\nhead -c ${limit * 4} /dev/zero > ${bench().root}/image\n${string(limit + 2)}\n`;
    const run = await bench().run(bench().define('starts', body, {maxOutputBytes: limit, leaveRunning: true}));
    expect(run.ending).to.include({output: 'too_large', exitCode: 0, stdoutBytes: limit + 2});
    expect(outcomeOf(run.ending!, null)).to.equal('output_too_large');
    expect(fs.statSync(`${bench().root}/image`).size).to.equal(limit * 4);
  });

  it('holds for stderr and for every other file too', async () => {
    const spec = bench().define('elsewhere', `#!/bin/sh\nulimit -c 0\nexec cat /dev/zero > ${bench().root}/file\n`, {maxOutputBytes: limit});
    const run = await bench().run(spec);
    expect(run.ending).to.include({signal: 'SIGXFSZ', output: 'empty'});
    expect(fs.statSync(`${bench().root}/file`).size).to.equal(limit + 1);
  });
});

describeSpawners('a function process that cannot be started', (bench) => {
  const cases: readonly (readonly [string, string, (path: string) => void])[] = [
    ['whose program is gone since the scan', 'ENOENT', (path) => fs.unlinkSync(path)],
    ['whose program may not be executed any more', 'EACCES', (path) => fs.chmodSync(path, 0o644)],
    ['whose program has become a directory', 'EACCES', (path) => (fs.unlinkSync(path), fs.mkdirSync(path))],
    ['whose interpreter is gone', 'ENOENT', (path) => fs.writeFileSync(path, '#!/no/such/interpreter\n')],
    ['whose program has become a loop of links', 'ELOOP', (path) => (fs.unlinkSync(path), fs.symlinkSync(path, path))],
  ];
  cases.forEach(([title, errno, spoil], index) => {
    it(`reports one ${title}: ${errno} in exec`, async () => {
      const spec = bench().define(`spoiled${index}`, '#!/bin/sh\necho 1\n');
      spoil(spec.program);
      const run = await bench().run(spec);
      expect(run.ending).to.include({kind: 'not_started', errno, stage: 'exec'});
      expect(outcomeOf(run.ending!, null)).to.equal('start_failed');
      expect(bench().journal(run).at(-1)).to.include({event: 'ended', errno, stage: 'exec'});
      expect(run.events.filter((event) => event === 'ended')).to.have.length(1);
    });
  });

  it('reports one whose program is being written: ETXTBSY', async () => {
    const spec = bench().define('busy', '#!/bin/sh\n');
    fs.copyFileSync('/bin/true', spec.program);
    const fd = fs.openSync(spec.program, 'r+');
    try {
      expect((await bench().run(spec)).ending).to.include({kind: 'not_started', errno: 'ETXTBSY', stage: 'exec'});
    } finally {
      fs.closeSync(fd);
    }
  });

  it('reports one whose files cannot be opened: the errno, in open', async () => {
    const spec = bench().define('filesless', '#!/bin/sh\necho 1\n');
    const run = await bench().run(spec, {
      args: `"${'x'.repeat(100_000)}"`, // too large to go along with the request
      meanwhile: (key) => fs.unlinkSync(`${bench().root}/run/calls/${key}.args`),
    });
    expect(run.ending).to.include({kind: 'not_started', errno: 'ENOENT', stage: 'open'});
    expect(run.events).to.deep.equal(['spawn returned', 'ended']);
  });

  it('does not take a function for one that could not be started because it exits 127', async () => {
    const run = await bench().run(bench().define('lost', '#!/bin/sh\nno-such-command\n'));
    expect(run.ending).to.include({kind: 'exited', exitCode: 127});
  });

  it('nor because nobody can look at what it wrote, for want of descriptors', async () => {
    const run = bench().spawn(bench().define('unread', '#!/bin/sh\ntrap "exit 127" USR1\necho ready >&2\nwhile :; do sleep 0.02; done\n'));
    await run.ready();
    // The specs' own process is the daemon here.
    await Promise.all([withoutDescriptors(`kill -USR1 ${run.pid}; while kill -0 ${run.pid}; do sleep 0.05; done; sleep 0.5`), run.ended()]);
    expect(run.ending).to.include({kind: 'exited', exitCode: 127, output: 'empty'});
  });
});
