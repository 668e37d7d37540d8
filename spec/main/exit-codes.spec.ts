import {expect} from 'chai';
import * as fs from 'node:fs';
import * as net from 'node:net';
import {once} from 'node:events';
import {join} from 'node:path';
import {describeWithMounts, mountTmpfs} from '../support/as-root';
import {BuiltNoded} from '../support/built';
import {NodedDaemon} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {runNoded} from '../support/noded-command';
import type {Said} from '../support/noded-command';

/** What noded says on standard error that is not a line of its log. */
const complaints = ({stderr}: Said): string[] => stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));

describe('the exit codes of noded, each with its one clear line', function () {
  this.timeout(60_000);
  // Compiled, for it is started dozens of times.
  let built: BuiltNoded;
  let daemon: NodedDaemon;
  before(() => {
    built = new BuiltNoded();
    daemon = new NodedDaemon({program: built.program, functions: fixtures});
  });
  after(async () => {
    await daemon.dispose();
    built.dispose();
  });

  const expectOne = async (args: readonly string[], code: number, line: RegExp): Promise<void> => {
    const said = await runNoded(args, {program: built.program});
    expect(said.code, said.stderr).to.equal(code);
    expect(complaints(said)).to.have.length(1);
    expect(complaints(said)[0]).to.match(line);
    expect(said.stdout).to.equal('');
  };
  /** The usual command line with other words at its end. */
  const words = (...more: readonly string[]): string[] => [...daemon.commandLine(), ...more];

  it('0 for --help and --version', async () => {
    const [help, version] = await Promise.all([['--help'], ['--version']].map((args) => runNoded(args, {program: built.program})));
    expect([help?.code, version?.code]).to.deep.equal([0, 0]);
    expect(help?.stdout).to.match(/^Usage: noded \[-f\]/);
    expect(version?.stdout).to.match(/^\d+\.\d+\.\d+\n$/);
  });

  it('64 for a command line that is wrong', async () => {
    await expectOne(['--no-such-option'], 64, /unknown option/);
    await expectOne(['argument'], 64, /too many arguments/);
    await expectOne(['--port'], 64, /argument missing/);
    for (const port of ['99999', 'abc']) await expectOne(words('-p', port), 64, /^noded: --port must be a port, 0 to 65535$/);
    await expectOne(words('-i', 'lo'), 64, /^noded: give an address or an interface to listen on, not both$/);
  });

  it('78 for a configuration that is wrong or missing', async () => {
    await expectOne(['-c', join(daemon.root, 'none')], 78, /^noded: .*none: ENOENT/);
    await expectOne(['--no-ssl', '-c', daemon.configFile, '-b', '0.0.0.0'], 78, /^noded: without TLS noded listens on loopback only/);
  });

  describeWithMounts('for what is to be durable and is in memory', () => {
    it('78', async () => {
      const unmount = mountTmpfs(join(daemon.root, 'memory'), 'size=1m');
      try {
        daemon.writeConfig('durable = true\n');
        await expectOne(words('--run-dir', join(daemon.root, 'memory/run')), 78, /^noded: durable = true, but run_dir = ".*\/memory\/run" is in memory: nothing there outlives a power cut$/);
      } finally {
        daemon.writeConfig('');
        unmount();
      }
    });
  });

  it('78 for a certificate or a log file that cannot be used', async () => {
    const none = join(daemon.root, 'none');
    await expectOne(['-c', daemon.configFile, '-C', none, '-K', none, '--ca', none, '--run-dir', daemon.runDir], 78, /^noded: .*ENOENT.*none/);
    daemon.writeConfig(`log_file = "${join(none, 'log')}"\n`);
    await expectOne(words(), 78, /^noded: log_file: ENOENT/);
    daemon.writeConfig('');
  });

  it('73 for a pid file that cannot be written', async () => {
    await expectOne(words('--pid-file', join(daemon.root, 'none/pid')), 73, /^noded: pid file: ENOENT/);
  });

  it('73 for a run directory that is not private', async () => {
    const path = join(daemon.root, 'open');
    fs.mkdirSync(path);
    fs.chmodSync(path, 0o755);
    await expectOne(words('--run-dir', path), 73, /^noded: .*open has mode 755; it must be 700$/);
    const file = join(daemon.root, 'file');
    fs.writeFileSync(file, '');
    await expectOne(words('--run-dir', file), 73, /^noded: .*(EEXIST|is not a directory)/);
    await expectOne(words('--run-dir', join(daemon.root, 'no/such/run')), 73, /^noded: ENOENT.*no\/such\/run/);
  });

  it('75 for a run directory that another noded has, naming its pid', async () => {
    await daemon.start();
    await expectOne(words(), 75, new RegExp(`^noded: ${daemon.runDir} is in use by another noded, pid ${daemon.pid}$`));
    expect((await daemon.get('/status')).status).to.equal(200);
    expect(await daemon.stop()).to.deep.equal({code: 0, signal: null});
  });

  it('71 for an interface that has no address, or not yet', async () => {
    await expectOne(['--no-ssl', '-c', daemon.configFile, '-i', 'no-such-interface'], 71, /^noded: the interface no-such-interface has no address$/);
  });

  it('71 for a port that is taken, at once, although results were taken over that live for an hour', async () => {
    await daemon.start();
    await daemon.startFunction('cat', 1, 20);
    await daemon.kill();
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const {port} = server.address() as net.AddressInfo;
    try {
      await expectOne(words('-p', String(port)), 71, new RegExp(`^noded: cannot listen on 127\\.0\\.0\\.1 port ${port}: EADDRINUSE$`));
      await expectOne(words('-b', '127.0.0.1', '--bind', 'localhost', '-p', String(port)), 71, /cannot listen on localhost/);
    } finally {
      server.close();
    }
  });

  it('70 for an error that nobody expected, which stands in the log', async () => {
    const bomb = join(daemon.root, 'bomb.js');
    fs.writeFileSync(bomb, 'process.on("SIGWINCH", () => { throw new Error("boom"); });\n');
    const fragile = await NodedDaemon.start({program: built.program, functions: fixtures, config: 'spawner = "child"\n', env: {NODE_OPTIONS: `--require ${bomb}`}});
    try {
      const id = await fragile.startReady('polite');
      const done = (await fragile.startFunction('cat', 1, 20)).json.call.id;
      fragile.signal('SIGWINCH');
      expect(await fragile.exited).to.deep.equal({code: 70, signal: null});
      expect(fragile.logLines().at(-1)).to.deep.include({level: 50, msg: 'an error that nobody expected'});
      expect(fragile.logLines().at(-1)?.err).to.include({message: 'boom'});
      await fragile.start();
      expect((await fragile.waitForFunction(done, 0)).json.result).to.equal(1);
      expect((await fragile.waitForFunction(id, 0)).json.call.outcome).to.equal('lost');
    } finally {
      await fragile.dispose();
    }
  });
});
