import {expect} from 'chai';
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {BuiltNoded} from '../support/built';
import {NodedDaemon} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {forkServersIn, noForkServerIn, signalProcess} from '../support/processes';
import {runNoded} from '../support/noded-command';

const missing = 'spawner = "forker", but noded-forker is not installed';
const withoutForker = 'noded-forker is not installed: functions are started by Node, and do not outlive a crash of noded';

describe('the spawner of a noded', function () {
  this.timeout(60_000);
  let built: BuiltNoded;
  let daemon: NodedDaemon;
  const program = (): string => join(built.root, 'libexec/noded-forker');
  /** Puts something in the place of the fork server. */
  const install = (script: string): void => {
    fs.mkdirSync(join(built.root, 'libexec'), {recursive: true});
    fs.writeFileSync(program(), script, {mode: 0o755});
  };
  const warnings = (): string[] => daemon.logLines().map(({msg}) => msg).filter((msg) => msg.includes('Node'));

  before(() => {
    built = new BuiltNoded();
    daemon = new NodedDaemon({program: built.program, functions: fixtures});
  });
  afterEach(async () => {
    await daemon.kill();
    fs.rmSync(program(), {force: true});
  });
  after(async () => {
    await daemon.dispose();
    built.dispose();
  });

  const expectSpawner = async (config: string, name: string): Promise<void> => {
    daemon.writeConfig(config);
    await daemon.start();
    expect((await daemon.get('/status')).json).to.include({spawner: name});
    expect((await daemon.startFunction('cat', [1], 20)).json.result).to.deep.equal([1]);
  };

  it('is Node where the fork server is not installed, which the log says once', async () => {
    await expectSpawner('', 'child');
    expect(warnings()).to.deep.equal([withoutForker]);
  });

  it('is Node where the configuration says so, and nothing is said of it', async () => {
    await expectSpawner('spawner = "child"\n', 'child');
    expect(warnings()).to.deep.equal([]);
  });

  it('is Node where the fork server cannot be had, and the log says why', async () => {
    install('#!/bin/sh\necho "no such luck" >&2\nexit 3\n');
    await expectSpawner('', 'child');
    expect(warnings()).to.have.length(1);
    expect(warnings()[0]).to.match(/^no fork server: .*no such luck; functions are started by Node/);
  });

  it('must be there if it is asked for by name: 78, also for --check', () => {
    daemon.writeConfig('spawner = "forker"\n');
    for (const more of [[], ['--check']]) {
      const {status, stderr} = spawnSync(built.program, [...daemon.commandLine(), ...more], {encoding: 'utf8'});
      expect(stderr).to.equal(`noded: ${missing}\n`);
      expect(status).to.equal(78);
    }
    install('#!/bin/sh\necho "no such luck" >&2\nexit 3\n');
    const {status, stderr} = spawnSync(built.program, daemon.commandLine(), {encoding: 'utf8'});
    expect(stderr).to.match(/^noded: spawner = "forker": .*no such luck$/m);
    expect(status).to.equal(78);
  });

  it('is none for now if a fork server has calls and does not answer: 75, and the calls go on', async () => {
    const source = new NodedDaemon({functions: fixtures, config: 'spawner = "auto"\n'});
    try {
      await source.start();
      const id = await source.startReady('sleeper');
      await source.kill();
      const [server] = forkServersIn(source.runDir);
      signalProcess(server!, 'SIGSTOP');
      try {
        const {code, stderr} = await runNoded(source.commandLine());
        expect(stderr).to.match(/^noded: the fork server of .* cannot be used, and may have calls: /m);
        expect(code).to.equal(75);
      } finally {
        signalProcess(server!, 'SIGCONT');
      }
      await source.start();
      expect((await source.waitForFunction(id, 0)).json.call.state).to.equal('running');
    } finally {
      await source.dispose();
    }
  });

  it('is the fork server where that is installed, and it ends with the noded that leaves nothing running', async () => {
    const source = new NodedDaemon({functions: fixtures, config: 'spawner = "auto"\n'});
    try {
      await source.start();
      expect((await source.get('/status')).json).to.include({spawner: 'forker'});
      expect(forkServersIn(source.runDir)).to.have.length(1);
      expect(await source.stop()).to.deep.equal({code: 0, signal: null});
      await noForkServerIn(source.runDir);
      expect((await runNoded([...source.commandLine(), '--check'])).code).to.equal(0);
    } finally {
      await source.dispose();
    }
  });
});
