import {expect} from 'chai';
import * as fs from 'node:fs';
import sinon from 'sinon';
import {outcomeOf} from '../../lib/base/outcome';
import {limits} from '../../lib/base/limits';
import {describeSpawners} from '../support/spawner-bench';
import {until} from '../support/until';

const stubborn = '#!/bin/sh\ntrap "" TERM\necho ready >&2\nwhile :; do sleep 0.05; done\n';

describeSpawners('what it reports, and when', (bench) => {
  it('reports the start before the end, each once, and neither from inside spawn', async () => {
    const spec = bench().define('quick', '#!/bin/sh\n');
    const runs = await Promise.all(Array.from({length: 50}, () => bench().run(spec)));
    await bench().trees.idle();
    for (const run of runs) expect(run.events).to.deep.equal(['spawn returned', 'started', 'ended']);
  });

  it('reports an end without a start never from inside spawn either', async () => {
    const run = await bench().run({...bench().define('none', '#!/bin/sh\n'), program: '/no/such/program'});
    await bench().trees.idle();
    expect(run.events.filter((event) => event !== 'started')).to.deep.equal(['spawn returned', 'ended']);
  });

  it('takes a signal before it has reported the start', async () => {
    const run = bench().spawn(bench().define('sleeper', '#!/bin/sh\nexec sleep 60\n'));
    run.process.signal('terminate');
    expect(run.events).to.deep.equal(['spawn returned']);
    expect(await run.ended()).to.include({signal: 'SIGTERM', exitCode: null});
    expect(run.events).to.deep.equal(['spawn returned', 'started', 'ended']);
  });

  it('sends no signal after the function process was reaped', async () => {
    const run = await bench().run(bench().define('gone', '#!/bin/sh\n'));
    await bench().trees.idle();
    const kill = sinon.spy(process, 'kill');
    try {
      run.process.signal('terminate');
      run.process.signal('kill');
      sinon.assert.notCalled(kill);
    } finally {
      kill.restore();
    }
  });

  it('signals the whole process group', async () => {
    const run = bench().spawn(bench().define('family', '#!/bin/sh\nsleep 60 &\nsleep 60 &\necho ready >&2\nwait\n'));
    await run.ready();
    await until('all three run', () => bench().processesOf(run).length === 3);
    run.process.signal('terminate');
    await run.ended();
    await bench().nothingLeftOf(run);
  });

  it('ends a function that was stopped with SIGSTOP', async () => {
    const run = bench().spawn(bench().define('stopped', '#!/bin/sh\necho ready >&2\nkill -STOP $$\nsleep 60\n'));
    await run.ready();
    run.process.signal('terminate');
    expect(await run.ended()).to.include({signal: 'SIGTERM'});
  });

  it('ends a function that ignores SIGTERM only when told to kill', async () => {
    const run = bench().spawn(bench().define('stubborn', stubborn));
    await run.ready();
    run.process.signal('terminate');
    const other = await bench().run(bench().define('meanwhile', '#!/bin/sh\n'));
    expect(other.ending).to.include({exitCode: 0});
    expect(run.ending).to.equal(null);
    run.process.signal('kill');
    expect(await run.ended()).to.include({signal: 'SIGKILL'});
  });

  it('does not take the output for empty when the files have been removed under it', async () => {
    const files = `${bench().root}/run/calls/$NODED_CALL_KEY`;
    const removed = await bench().run(bench().define('remover', `#!/bin/sh\nuntil [ -e ${files}.out ]; do sleep 0.01; done\nrm ${files}.*\necho true\n`));
    expect(outcomeOf(removed.ending!, null)).to.equal('lost');
  });

  it('nor when the system cannot tell of them, and says so, for they may be there', async () => {
    const {runDir} = bench();
    const calls = `${runDir}/calls`;
    const stdout = `${calls}/$NODED_CALL_KEY.out`;
    const hidden = bench().spawn(bench().define('hider', `#!/bin/sh\nuntil [ -e ${stdout} ]; do sleep 0.01; done\necho true\nmv ${calls} ${calls}.away\nln -s calls ${calls}\n`));
    try {
      await hidden.ended();
    } finally {
      fs.unlinkSync(calls);
      fs.renameSync(`${calls}.away`, calls);
    }
    expect(outcomeOf(hidden.ending!, null)).to.equal('lost');
    expect(hidden.ending).to.include({unsized: true});
  });
});

describeSpawners('an urgent call without files', (bench) => {
  it('has its arguments, its result and its stderr all the same', async () => {
    const run = await bench().run(bench().define('cat', '#!/bin/sh\necho note >&2\nexec cat\n'), {args: '{"a":1}', unspooled: true});
    expect(run.ending).to.include({exitCode: 0, output: 'json', stdoutBytes: 7, stderrBytes: 5});
    expect([run.stdout, run.stderr]).to.deep.equal(['{"a":1}', 'note\n']);
  });

  it('calls a result too large that memory is not meant for', async () => {
    const body = `#!/bin/sh\nperl -e 'print chr(34), "x" x ${limits.maxUnspooledBytes}, chr(34)'\n`;
    const run = await bench().run(bench().define('large', body), {unspooled: true});
    expect(run.ending).to.include({exitCode: 0, output: 'too_large'});
  });

  it('ends with its function process, although a grandchild holds stdout', async () => {
    const run = await bench().run(bench().define('holder', '#!/bin/sh\nsleep 60 &\necho true\n'), {unspooled: true});
    expect(run.ending).to.include({exitCode: 0, output: 'json'});
    await bench().nothingLeftOf(run);
  });
});
