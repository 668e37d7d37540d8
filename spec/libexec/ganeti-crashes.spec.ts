import {expect} from 'chai';
import {execFileSync, spawnSync} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import {connect} from 'node:net';
import type {Socket} from 'node:net';
import {join} from 'node:path';
import fc from 'fast-check';
import {drawKey} from '../../lib/call/call-id';
import {writeStart} from '../../lib/proc/fork-frames';
import {describeIf} from '../support/as-root';
import {frame, u32} from '../support/frames';
import {GanetiBench, startDaemonProcess} from '../support/ganeti-bench';
import {ganetiForker, ganetiProblem, ganetiShare} from '../support/ganeti-node';
import {recordOnFile} from '../support/journals';
import {forkServersIn, isAlive, signalProcess} from '../support/processes';
import {until} from '../support/until';

/** Ends a process of the spec's own and waits for that. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

describeIf('noded-ganeti when the daemon dies', ganetiProblem(), () => {
  let bench: GanetiBench;
  let daemon: ReturnType<typeof startDaemonProcess> | null = null;
  beforeEach(() => (bench = new GanetiBench()));
  afterEach(async () => {
    if (daemon !== null) await end(daemon.child);
    daemon = null;
    await bench.open().catch(() => {}); // so that there is a fork server to quit
    await bench.dispose();
  });

  it('finishes the function, writes that down, and tells the next daemon which ones still run', async () => {
    const gate = join(bench.root, 'gate');
    execFileSync('mkfifo', [gate]);
    daemon = startDaemonProcess(bench, 'spec_wait', [gate]);
    const pid = Number(await until('the function runs', () => /^started (\d+)$/m.exec(daemon!.said())?.[1], 25_000));
    const key = /^key (\w+)$/m.exec(daemon.said())![1]!;
    const [server] = forkServersIn(bench.runDir);
    await end(daemon.child);
    await bench.open();
    expect(forkServersIn(bench.runDir)).to.deep.equal([server]);
    const run = bench.adopt(key, pid);
    expect(isAlive(pid)).to.equal(true);
    fs.closeSync(fs.openSync(gate, 'w'));
    expect(await run.ended()).to.include({kind: 'exited', exitCode: 0, output: 'json'});
    expect(run.stdout).to.equal('[true, "waited"]\n');
  });

  it('ends a function while nobody is there, and its journal says how', async () => {
    daemon = startDaemonProcess(bench, 'test_delay', [0.5]);
    await until('the function runs', () => daemon!.said().includes('started '), 25_000);
    const key = /^key (\w+)$/m.exec(daemon.said())![1]!;
    await end(daemon.child);
    const journal = await until('its end is on file', () => {
      const read = recordOnFile(bench.runDir, key);
      return read?.ended === null ? false : read!;
    });
    expect(journal.ended).to.include({exitCode: 0, signal: null});
    expect(bench.spool.read(key, 'stdout', 0, 100).toString()).to.equal('[true, null]\n');
  });

  it('tells the daemon to stop after a function that asks for it, once that has been answered', async () => {
    daemon = startDaemonProcess(bench, 'spec_quit', []);
    const [code, signal] = (await once(daemon.child, 'exit')) as [number | null, string | null];
    expect([code, signal]).to.deep.equal([0, null]);
    const [, , ended, stopped] = daemon.said().trim().split('\n');
    expect(ended).to.match(/^ended \{"kind":"exited","exitCode":0,.*"output":"json"\} \[true, "Shutdown scheduled"\]$/);
    expect(stopped).to.equal('told to stop');
    expect(bench.log).to.match(/ganeti-noded pid=\d+ INFO Shutting down the node daemon/);
  });
});

describeIf('noded-ganeti when it dies itself', ganetiProblem(), () => {
  let bench: GanetiBench;
  before(async () => {
    bench = new GanetiBench();
    await bench.open();
  });
  after(() => bench.dispose());

  it('loses its calls, which are ended, and another one is there at once', async () => {
    const first = bench.forkServer;
    const [running, queued] = [bench.start('test_delay', [600]), bench.start('jobqueue_spec', [join(bench.root, 'never/there'), 'x'])];
    const [pid] = await Promise.all([running.started(), queued.ended()]);
    const daemonOfIt = Number((JSON.parse((await bench.call('spec_daemon', [])).stdout) as [true, number])[1]);
    try {
      signalProcess(first, 'SIGKILL');
      expect(await running.ended()).to.include({kind: 'lost'});
      await bench.dead(pid);
      expect(isAlive(daemonOfIt), 'what a function started lives on').to.equal(true);
      expect((await bench.call('version', [])).ending).to.include({exitCode: 0});
      expect(bench.forkServer).to.not.equal(first);
    } finally {
      signalProcess(daemonOfIt, 'SIGKILL');
    }
  });
});

describeIf('noded-ganeti when Ganeti is upgraded', ganetiProblem(), () => {
  let bench: GanetiBench;
  before(async () => {
    bench = new GanetiBench();
    await bench.open();
  });
  after(() => bench.dispose());

  it('goes on with the old one for its daemon and for calls that run, and makes room for the new one after that', async () => {
    const first = bench.forkServer;
    const gate = join(bench.root, 'gate');
    execFileSync('mkfifo', [gate]);
    const running = bench.start('spec_wait', [gate]);
    await running.ready();
    fs.utimesSync(join(bench.root, 'share/ganeti/server/noded.py'), 1, 1);
    expect((await bench.call('version', [])).ending).to.include({exitCode: 0});
    await bench.leave();
    await bench.open();
    expect(bench.forkServer).to.equal(first);
    await until('it says so', () => bench.warnings.some((warning) => warning.includes('Ganeti was upgraded')));
    fs.closeSync(fs.openSync(gate, 'w'));
    expect(await running.ended()).to.include({exitCode: 0});
    await bench.leave();
    await bench.open();
    expect(bench.forkServer).to.not.equal(first);
    expect((await bench.call('version', [])).ending).to.include({exitCode: 0});
  });
});

describeIf('noded-ganeti and what should not be', ganetiProblem(), () => {
  let bench: GanetiBench;
  before(() => (bench = new GanetiBench()));
  after(() => bench.dispose());

  const run = (env: Readonly<Record<string, string>>, ...args: readonly string[]): readonly [number | null, string] => {
    const {status, stderr} = spawnSync(ganetiForker, args, {env: {...bench.node.env, ...env}, encoding: 'utf8', cwd: '/', timeout: 20_000});
    return [status, stderr];
  };

  it('says so and exits 71 when Ganeti cannot be imported', () => {
    expect(run({NODED_GANETI_SHARE: '/nonexistent'}, bench.runDir)).to.deep.equal([71, 'noded-ganeti: cannot load the functions of Ganeti: ModuleNotFoundError: No module named \'ganeti\'\n']);
  });

  // 3.1 has no need of the second any more.
  const imported = (name: string): boolean => new RegExp(`^import ${name}$`, 'm').test(fs.readFileSync(join(ganetiShare, 'ganeti/daemon.py'), 'utf8'));
  const gone = [['asyncore', 'python3-pyasyncore'], ['asynchat', 'python3-standard-asynchat']] as const;
  for (const [name, debian] of ganetiProblem() === null ? gone.filter(([name]) => imported(name)) : []) {
    it(`says what to install where Python has no ${name} any more, and exits 71`, () => {
      // What Python 3.12 says of it, on any Python: the module that is found first says so.
      const share = fs.mkdtempSync(join(bench.root, 'share-'));
      fs.symlinkSync(join(ganetiShare, 'ganeti'), join(share, 'ganeti'));
      fs.writeFileSync(join(share, `${name}.py`), `raise ModuleNotFoundError("No module named '${name}'", name="${name}")\n`);
      expect(run({NODED_GANETI_SHARE: share}, bench.runDir)).to.deep.equal([71, `noded-ganeti: cannot load the functions of Ganeti: ModuleNotFoundError: No module named '${name}'; Python has it no more from 3.12 on, and Ganeti needs it: install ${debian}\n`]);
    });
  }

  it('says so and exits 71 when Ganeti has no place for its log', () => {
    const [status, stderr] = run({GANETI_ROOTDIR: '/nonexistent/node1'}, bench.runDir);
    expect([status, stderr.split('\n').length]).to.deep.equal([71, 2]);
    expect(stderr).to.match(/^noded-ganeti: cannot load the functions of Ganeti: FileNotFoundError: .*node-daemon\.log'\n$/);
  });

  it('says so and exits 71 without its run directory, and 64 without knowing of one', () => {
    expect(run({}, '/nonexistent')).to.deep.equal([71, 'noded-ganeti: /nonexistent: No such file or directory\n']);
    expect(run({})).to.deep.equal([64, 'usage: noded-ganeti RUN_DIR\n']);
  });

  it('leaves a run directory to the fork server that has it', async () => {
    await bench.open();
    expect(run({}, bench.runDir)).to.deep.equal([71, 'noded-ganeti: forker.lock: another fork server has this run directory\n']);
    expect((await bench.call('version', [])).ending).to.include({exitCode: 0});
    await bench.leave();
  });

  it('follows to the one that noded has made in its place', async () => {
    await bench.open();
    fs.rmSync(bench.runDir, {recursive: true});
    await until('a call has its files', async () => {
      const run = bench.start('version', []);
      await until('it has ended, or was refused', () => run.refusal !== null || run.ending !== null);
      return run.ending?.kind === 'exited' && run.ending.exitCode === 0;
    });
    expect(fs.existsSync(join(bench.runDir, 'forker.sock'))).to.equal(true);
    await bench.leave();
  });

  it('keeps it, and can be found in it, whatever files somebody removes', async () => {
    await bench.open();
    const server = bench.forkServer;
    for (const name of ['forker.lock', 'forker.sock']) fs.unlinkSync(join(bench.runDir, name));
    expect(run({}, bench.runDir)[0]).to.equal(71);
    await bench.leave();
    await until('it has made them again', () => fs.existsSync(join(bench.runDir, 'forker.sock')));
    expect(fs.readFileSync(join(bench.runDir, 'forker.lock'), 'utf8')).to.equal(`${server}\n`);
    expect(fs.readFileSync('/proc/net/unix', 'utf8')).to.include(` ${join(bench.runDir, 'forker.sock')}\n`);
    await bench.open();
    expect(bench.forkServer).to.equal(server);
    expect((await bench.call('version', [])).ending).to.include({exitCode: 0});
    await bench.leave();
  });
});

describeIf('frames that noded-ganeti cannot read', ganetiProblem(), () => {
  let bench: GanetiBench;
  let server: number;
  before(async () => {
    bench = new GanetiBench();
    await bench.open();
    server = bench.forkServer;
    await bench.leave();
  });
  after(async () => {
    await bench.open();
    await bench.dispose();
  });

  const spec = {name: 'version', program: 'ganeti:version', maxRunning: null, maxOutputBytes: 1 << 20, killAfterMs: null, urgent: false, leaveRunning: true, user: null, nice: null, config: null};
  const start = (program: string, env: readonly string[], args = '[]'): Buffer => writeStart({key: drawKey(), spec: {...spec, program}, env, spooled: false, args: Buffer.from(args), accepted: null, lastTry: false});
  /** A start without its last byte, in a frame that is whole. */
  const cut = (bytes: Buffer): Buffer => frame('S', bytes.subarray(5, -1));

  async function open(): Promise<Socket> {
    const socket = connect(join(bench.runDir, 'forker.sock'));
    await once(socket, 'connect');
    return socket;
  }

  /** All that it says until it closes the connection; or `until` has come. */
  async function heard(bytes: Buffer, wanted: (said: Buffer) => boolean = () => false): Promise<Buffer> {
    const socket = await open();
    let said = Buffer.alloc(0);
    let closed = false;
    socket.on('data', (chunk) => (said = Buffer.concat([said, chunk])));
    socket.on('error', () => {});
    socket.once('close', () => (closed = true));
    socket.write(bytes);
    await until('it answers', () => closed || wanted(said));
    socket.destroy();
    return said;
  }

  const malformed: readonly (readonly [string, Buffer])[] = [
    ['of no bytes', u32(0)],
    ['over the limit', u32(128 * 1024 + 1)],
    ['of 4 GiB', u32(2 ** 32 - 1)],
    ['of an unknown type', frame('?', Buffer.alloc(16))],
    ['with a start cut short', cut(start('ganeti:version', []))],
    ['with a start of nothing', frame('S', Buffer.alloc(0))],
    ['with a program that is no path', start('bin/sh', [])],
    ['with a variable without a name', start('ganeti:version', ['=1'])],
    ['with a variable without a value', start('ganeti:version', ['A'])],
    ['with too large an environment', start('ganeti:version', Array.from({length: 33}, (_, index) => `A${index}=1`))],
    ['with a key that is none', frame('K', Buffer.from('../../etc/passwd\x01'))],
    ['with an unknown signal', frame('K', Buffer.from('0123456789abcdef\x09'))],
    ['with more than quit', frame('Q', Buffer.from('!'))],
    ['with a part without a key', frame('P', Buffer.from('0123'))],
  ];
  for (const [title, bytes] of malformed) {
    it(`close the connection, and nothing else: ${title}`, async () => {
      const said = await heard(bytes);
      expect(said.toString('latin1')).to.match(/Mmalformed frame/);
      expect(forkServersIn(bench.runDir)).to.deep.equal([server]);
    });
  }

  it('with a key that is in use start nothing', async () => {
    const bytes = start('ganeti:test_delay', [], '[600]');
    const said = await heard(Buffer.concat([bytes, bytes]));
    expect(said.toString('latin1')).to.match(/Mmalformed frame: a key that is in use/);
    await heard(frame('K', Buffer.concat([bytes.subarray(5, 21), Buffer.from([2])])), (answer) => answer.toString('latin1').includes(`E${bytes.toString('latin1', 5, 21)}\x01`));
  });

  it('do it no harm, whatever is in them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.constantFrom(...'SPKX'), fc.uint8Array({maxLength: 80})), {minLength: 1, maxLength: 5}), async (frames) => {
        const key = Buffer.from('fedcba9876543210');
        const bytes = frames.map(([type, body], index) => frame(type, index % 2 === 0 ? Buffer.concat([key, body]) : Buffer.from(body)));
        await heard(Buffer.concat([...bytes, u32(0)]));
      }),
      {numRuns: 100},
    );
    expect(forkServersIn(bench.runDir)).to.deep.equal([server]);
    const answer = await heard(start('ganeti:version', []), (said) => said.includes('[true, 3'));
    expect(answer.toString('latin1')).to.include('[true, 3');
  });
});
