import {expect} from 'chai';
import {isAlive, signalProcess} from '../support/processes';
import {describeSpawners} from '../support/spawner-bench';
import {until} from '../support/until';
import * as fs from 'node:fs';

/** A process that leaves its parent, its session and its group, and says its pid. */
const daemonized = `perl -MPOSIX -e '
  exit 0 if fork; POSIX::setsid(); exit 0 if fork;
  open(F, ">", $ARGV[0] . ".new"); print F $$; close F; rename $ARGV[0] . ".new", $ARGV[0];
  $SIG{TERM} = "IGNORE"; sleep 60 while 1;'`;

describeSpawners('what an ended function process left behind', (bench) => {
  let count = 0;
  /** The pid that an escapee writes into its file. */
  const escapeeOf = async (file: string): Promise<number> => Number(await until('the escapee says its pid', () => fs.existsSync(file) && fs.readFileSync(file, 'utf8')));
  const file = (): string => `${bench().root}/escapee${++count}`;

  it('is not waited for, although it holds stdout', async () => {
    const run = await bench().run(bench().define('holder', '#!/bin/sh\nsleep 60 &\necho true\n'));
    expect(run.ending).to.include({exitCode: 0, output: 'json'});
    await bench().nothingLeftOf(run);
  });

  it('does not add to a result that has been reported', async () => {
    const run = await bench().run(bench().define('late', '#!/bin/sh\n(trap "" TERM; while :; do echo more; done) &\necho true\n'));
    const {stdoutBytes} = run.ending as {stdoutBytes: number};
    await bench().nothingLeftOf(run);
    expect(run.ending).to.include({stdoutBytes});
  });

  it('is killed in a session of its own after a double fork', async () => {
    const path = file();
    const spec = bench().define(`escape${count}`, `#!/bin/sh\n${daemonized} ${path}\nuntil [ -e ${path} ]; do sleep 0.01; done\necho true\n`);
    const run = await bench().run(spec);
    const pid = await escapeeOf(path);
    expect(run.ending).to.include({exitCode: 0});
    await bench().dead(pid);
  });

  it('is killed with an empty environment, in the session of its function', async () => {
    const path = file();
    const spec = bench().define(`bare${count}`, `#!/bin/sh\nenv -i /bin/sh -c 'echo $$ > ${path}.new; mv ${path}.new ${path}; sleep 60' &\nuntil [ -e ${path} ]; do sleep 0.01; done\n`);
    await bench().run(spec);
    await bench().dead(await escapeeOf(path));
  });

  it('is killed when the function was, with all its children', async () => {
    const path = file();
    const spec = bench().define(`both${count}`, `#!/bin/sh\ntrap "" TERM\n${daemonized} ${path}\nuntil [ -e ${path} ]; do sleep 0.01; done\necho ready >&2\nwhile :; do sleep 0.05; done\n`);
    const run = bench().spawn(spec);
    await run.ready();
    run.process.signal('kill');
    await run.ended();
    await bench().dead(await escapeeOf(path));
    await bench().nothingLeftOf(run);
  });

  it('is killed to the last one when it forks as fast as it can for a while', async () => {
    const run = await bench().run(bench().define('forks', '#!/bin/sh\ni=0; while [ $i -lt 40 ]; do setsid sleep 60 & i=$((i + 1)); done\n'));
    await bench().nothingLeftOf(run);
  });

  it('is left alone with leave_running', async () => {
    const path = file();
    const spec = bench().define(`leave${count}`, `#!/bin/sh\n${daemonized} ${path}\nuntil [ -e ${path} ]; do sleep 0.01; done\n`, {leaveRunning: true});
    const run = await bench().run(spec);
    const pid = await escapeeOf(path);
    try {
      // Another function's leftovers are looked for meanwhile, in the same look through /proc.
      await bench().nothingLeftOf(await bench().run(bench().define('other', '#!/bin/sh\nsetsid sleep 60 &\n')));
      expect(run.ending).to.include({exitCode: 0});
      expect(isAlive(pid)).to.equal(true);
    } finally {
      signalProcess(pid, 'SIGKILL');
    }
  });

  it('is told from what other functions are doing at the same time', async () => {
    const running = bench().spawn(bench().define('innocent', '#!/bin/sh\nsetsid perl -e \'print STDERR "ready\\n"; sleep 60\' &\nwait\n'));
    await running.ready();
    const before = bench().processesOf(running);
    await bench().nothingLeftOf(await bench().run(bench().define('guilty', '#!/bin/sh\nsetsid sleep 60 &\n')));
    expect(bench().processesOf(running)).to.deep.equal(before);
    running.process.signal('kill');
    await running.ended();
  });
});
