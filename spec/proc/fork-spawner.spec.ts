import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import type {Socket} from 'node:net';
import {outcomeOf} from '../../lib/base/outcome';
import {describeAsRoot} from '../support/as-root';
import {buildForker, sanitizerFindings} from '../support/forker-builds';
import {isAlive, signalProcess} from '../support/processes';
import {SpawnerBench, forkerKind, spawnerKinds} from '../support/spawner-bench';
import {until} from '../support/until';

const forkers = spawnerKinds.filter(({name}) => name.startsWith('fork-spawner'));

for (const kind of forkers) {
  describe(`${kind.name}: what only a fork server does`, () => {
    let bench: SpawnerBench;
    before(async () => {
      bench = new SpawnerBench(kind);
      await bench.open();
    });
    after(() => bench.dispose());

    it('starts a program again whose file was being written', async () => {
      const spec = bench.define('busy', '#!/bin/sh\n');
      fs.copyFileSync('/bin/true', spec.program);
      const fd = fs.openSync(spec.program, 'r+');
      const run = bench.spawn(spec);
      try {
        await until('it was busy', () => bench.warnings.some((warning) => warning.includes('is being written')));
      } finally {
        fs.closeSync(fd);
      }
      expect(await run.ended()).to.include({kind: 'exited', exitCode: 0});
      expect(run.events).to.deep.equal(['spawn returned', 'started', 'ended']);
    });

    it('sends a signal to a program that had to be started again', async () => {
      const spec = bench.define('shell', '#!/bin/sh\n');
      fs.copyFileSync('/bin/sh', spec.program);
      const fd = fs.openSync(spec.program, 'r+');
      bench.warnings.length = 0;
      const run = bench.spawn(spec, {args: 'exec sleep 60'});
      run.process.signal('kill');
      try {
        await until('it was busy', () => bench.warnings.some((warning) => warning.includes('is being written')));
      } finally {
        fs.closeSync(fd);
      }
      expect(await run.ended()).to.include({kind: 'exited', signal: 'SIGKILL'});
    });

    it('has no shell to fall back to', async () => {
      const run = await bench.run(bench.define('bare', 'echo 1\n'));
      expect(run.ending).to.include({kind: 'not_started', errno: 'ENOEXEC', stage: 'exec'});
    });

    it('does not run a program that others may write to', async () => {
      for (const mode of [0o757, 0o777]) {
        const spec = bench.define('open', '#!/bin/sh\necho 1\n');
        fs.chmodSync(spec.program, mode);
        expect((await bench.run(spec)).ending).to.include({kind: 'not_started', errno: 'EPERM', stage: 'exec'});
      }
    });

    it('writes to the journal what the function process used', async () => {
      const run = await bench.run(bench.define('works', '#!/bin/sh\ni=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done\n'));
      const ended = bench.journal(run).at(-1)!;
      expect(ended).to.include.all.keys('event', 'time', 'boot_time', 'exit_code', 'signal', 'user_seconds', 'system_seconds', 'max_rss_bytes');
      expect((ended.user_seconds as number) + (ended.system_seconds as number)).to.be.above(0);
      expect(ended.max_rss_bytes).to.be.above(100_000);
    });

    it('kills what cleared its environment and its session after a double fork', async () => {
      const path = `${bench.root}/hidden`;
      const perl = `perl -MPOSIX -e 'exit 0 if fork; POSIX::setsid(); exit 0 if fork; %ENV = (); exec "/bin/sh", "-c", "echo \\$\\$ > ${path}.new; mv ${path}.new ${path}; exec sleep 60"'`;
      await bench.run(bench.define('hides', `#!/bin/sh\nenv -i ${perl}\nuntil [ -e ${path} ]; do sleep 0.01; done\n`));
      await bench.dead(Number(fs.readFileSync(path, 'utf8')));
    });

    it('takes a megabyte of arguments without a file, and gives them byte for byte', async () => {
      const args = JSON.stringify(Array.from({length: 100_000}, (_, index) => `é${index}`));
      const spec = bench.define('sums', '#!/bin/sh\nprintf \'"%s"\' "$(sha256sum | cut -c1-64)"\n');
      const whole = await bench.run(spec, {args});
      const parts = await bench.run(spec, {args, unspooled: true});
      expect(parts.ending).to.include({kind: 'exited', exitCode: 0, output: 'json'});
      expect(parts.stdout).to.equal(whole.stdout);
    });

    it('makes no file for arguments that go along, and leaves none of empty output', async () => {
      const run = await bench.run(bench.define('silent', '#!/bin/sh\n'));
      expect(fs.readdirSync(`${bench.runDir}/calls`).filter((name) => name.startsWith(run.key))).to.deep.equal([]);
    });

    it('goes on with its calls after a malformed frame has closed the connection', async () => {
      const gate = `${bench.root}/gate`;
      execFileSync('mkfifo', [gate]);
      const waits = bench.define('waits', `#!/bin/sh\necho ready >&2\n: < ${gate}\necho 1\n`);
      const [running, stopped, early] = [bench.spawn(waits), bench.spawn(waits), bench.spawn(bench.define('sleeps', '#!/bin/sh\nexec sleep 60\n'))];
      await Promise.all([running.ready(), stopped.ready(), early.started()]);
      const socket = Reflect.get(bench.spawner, 'socket') as Socket;
      const closed = once(socket, 'close');
      socket.write(Buffer.from('\0\0\0\0'));
      await closed;
      expect(bench.spawner.unavailable).to.be.a('string');
      // Asked for when there is nobody to ask: it must not be lost, and nothing that comes after it.
      stopped.process.signal('kill');
      signalProcess(early.pid, 'SIGKILL');
      expect(await stopped.ended()).to.include({kind: 'exited', signal: 'SIGKILL'});
      expect(await early.ended()).to.include({kind: 'exited', signal: 'SIGKILL'});
      expect(bench.spawner.unavailable).to.equal(null);
      fs.closeSync(fs.openSync(gate, 'w'));
      expect(await running.ended()).to.include({kind: 'exited', exitCode: 0, output: 'json'});
      expect((await bench.run(bench.define('next', '#!/bin/sh\necho 2\n'))).stdout).to.equal('2\n');
      for (const run of [running, stopped, early]) expect(run.events).to.deep.equal(['spawn returned', 'started', 'ended']);
    });

    it('is not needed any more to kill what a call left behind that ended just before it died', async () => {
      const spec = bench.define('leaves', '#!/bin/sh\ni=0; while [ $i -lt 20 ]; do setsid sh -c \'trap "" TERM; sleep 60\' & i=$((i + 1)); done\n');
      const server = bench.forkServer;
      expect(server).to.be.above(0);
      const run = bench.spawn(spec, {atEnd: () => signalProcess(server, 'SIGKILL')});
      await run.ended();
      await bench.nothingLeftOf(run);
      await until('there is another one', () => bench.spawner.unavailable === null && ![0, server].includes(bench.forkServer));
      expect((await bench.run(bench.define('after', '#!/bin/sh\necho 3\n'))).stdout).to.equal('3\n');
    });

    it('has memory and open files as before after some hundred calls', async () => {
      const spec = bench.define('tiny', '#!/bin/sh\n');
      const files = (): number => fs.readdirSync(`/proc/${bench.forkServer}/fd`).length;
      await bench.run(spec);
      const before = files();
      for (let round = 0; round < 4; round += 1) await Promise.all(Array.from({length: 50}, (_, index) => bench.run(spec, {unspooled: index % 2 === 0})));
      for (let bad = 0; bad < 20; bad += 1) await bench.run({...spec, program: '/no/such/program'}, {unspooled: bad % 2 === 0});
      await until('it has as many as before', () => files() === before);
    });
  });
}

describe('the sanitizers', () => {
  it('have found nothing in the fork server', async () => {
    for (const kind of forkers.slice(1)) {
      const bench = new SpawnerBench(kind);
      await bench.open();
      const run = await bench.run(bench.define('last', '#!/bin/sh\n'));
      expect(run.ending).to.include({exitCode: 0});
      await bench.dispose();
    }
    expect(sanitizerFindings()).to.deep.equal([]);
  });
});

describeAsRoot('fork-spawner: a function of another user', () => {
  const nobody = {uid: 65534, gid: 65534, home: '/nonexistent'};
  let bench: SpawnerBench;
  before(async () => {
    bench = new SpawnerBench(forkerKind('fork-spawner', buildForker));
    await bench.open();
  });
  after(() => bench.dispose());

  it('may have a negative nice value', async () => {
    const usual = Number(execFileSync('nice', {encoding: 'utf8'}));
    const run = await bench.run(bench.define('urgent', '#!/bin/sh\ncut -d" " -f19 /proc/$$/stat\n', {user: nobody, nice: -5}));
    expect(run.stdout).to.equal(`${Math.max(usual - 5, -20)}\n`);
  });

  it('cannot connect to the fork server', async () => {
    const run = await bench.run(bench.define('intruder', `#!/usr/bin/perl\nuse Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); print connect(S, pack_sockaddr_un("${bench.runDir}/forker.sock")) ? 1 : 0, "\\n";\n`, {user: nobody}));
    expect(run.stdout).to.equal('0\n');
    expect(outcomeOf(run.ending!, null)).to.equal('ok');
    expect(isAlive(bench.forkServer)).to.equal(true);
  });
});
