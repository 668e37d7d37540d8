import {expect} from 'chai';
import * as fs from 'node:fs';
import * as net from 'node:net';
import {once} from 'node:events';
import {join} from 'node:path';
import {NodedDaemon, writeFunction} from '../support/daemon';
import {fixtures, openFiles} from '../support/fixtures';
import {freePort} from '../support/free-port';
import {runNoded} from '../support/noded-command';
import type {Said} from '../support/noded-command';
import {isAlive, kill, processesWith, signalProcess} from '../support/processes';
import {until} from '../support/until';

describe('noded --daemonize', function () {
  this.timeout(60_000);
  let place: NodedDaemon;
  let pidFile = '';
  let logFile = '';
  let port = 0;

  beforeEach(async () => {
    place = new NodedDaemon({functions: fixtures});
    pidFile = join(place.root, 'noded.pid');
    logFile = join(place.root, 'noded.log');
    port = await freePort();
    place.port = port;
    place.writeConfig(`log_file = "${logFile}"\npid_file = "${pidFile}"\n`);
  });
  afterEach(async () => {
    await until('the daemon is gone', () => {
      const left = processes();
      left.forEach(kill);
      return left.length === 0;
    });
    await place.dispose();
  });

  const processes = (): number[] => processesWith(`HOME=${place.root}`);
  const pidOnFile = (): number => {
    const pid = Number(fs.readFileSync(pidFile, 'utf8'));
    expect(processes()).to.include(pid);
    return pid;
  };
  const daemonize = (...more: readonly string[]): Promise<Said> => runNoded([...place.commandLine().slice(1), '-p', String(port), '--daemonize', ...more], {env: {HOME: place.root}});
  const stat = (pid: number): string[] => fs.readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, '').split(' ');

  it('returns 0 once the port is open and the pid file written, and leaves a daemon of its own session', async () => {
    expect(await daemonize()).to.deep.equal({code: 0, stdout: '', stderr: ''});
    const pid = pidOnFile();
    expect((await place.get('/status')).status).to.equal(200);
    expect((await place.startFunction('cat', [1], 20)).json.result).to.deep.equal([1]);
    const [, , group, session, terminal] = stat(pid);
    expect([group, session, terminal]).to.deep.equal([String(pid), String(pid), '0']);
    await until('the log says so', () => fs.readFileSync(logFile, 'utf8').includes('noded is ready'));
    expect(fs.statSync(pidFile).mode & 0o022).to.equal(0);
    signalProcess(pid, 'SIGTERM');
    await until('the daemon has ended', () => !isAlive(pid));
    expect(fs.existsSync(pidFile)).to.equal(false);
    expect(fs.readFileSync(logFile, 'utf8')).to.include('noded ends');
  });

  it('gives the functions of the detached daemon no descriptor of its own', async () => {
    writeFunction(place.functionsDir, 'fds', openFiles);
    await daemonize();
    expect((await place.startFunction('fds', null, 20)).json.result).to.equal('0 1 2');
  });

  it('returns 71 and the reason if the port is taken, and leaves nothing', async () => {
    const server = net.createServer().listen(port, '127.0.0.1');
    await once(server, 'listening');
    const said = await daemonize().finally(() => server.close());
    expect(said).to.include({code: 71, stderr: `noded: cannot listen on 127.0.0.1 port ${port}: EADDRINUSE\n`});
    expect(fs.existsSync(pidFile)).to.equal(false);
  });

  it('returns 75 if another noded has the run directory, and leaves its pid file alone', async () => {
    expect((await daemonize()).code).to.equal(0);
    const pid = pidOnFile();
    const said = await daemonize();
    expect(said.code).to.equal(75);
    expect(said.stderr).to.equal(`noded: ${place.runDir} is in use by another noded, pid ${pid}\n`);
    expect(pidOnFile()).to.equal(pid);
    expect((await place.get('/status')).status).to.equal(200);
  });

  it('returns 78 if the configuration is wrong', async () => {
    place.writeConfig('prot = 1\n');
    expect(await daemonize()).to.deep.include({code: 78, stderr: `noded: ${place.configFile}: prot is not a key of noded.conf\n`});
  });

  it('keeps no directory busy, and still knows what relative paths meant', async () => {
    const line = place.commandLine().slice(1);
    line[line.indexOf('-c') + 1] = 'noded.conf';
    line[line.indexOf('--functions') + 1] = 'functions';
    expect((await runNoded([...line, '-p', String(port), '--daemonize'], {cwd: place.root, env: {HOME: place.root}})).code).to.equal(0);
    const pid = pidOnFile();
    expect(fs.readlinkSync(`/proc/${pid}/cwd`)).to.equal('/');
    writeFunction(place.functionsDir, 'later', {body: '#!/bin/sh\necho 2\n'});
    signalProcess(pid, 'SIGHUP');
    await until('it has reloaded', () => /"(reloaded certificates|reload: )/.test(fs.readFileSync(logFile, 'utf8')));
    expect((await place.startFunction('later', null, 20)).json.result).to.equal(2);
  });

  it('is overruled by -f', async () => {
    place.writeConfig(`daemonize = true\n`);
    await place.start();
    expect(isAlive(place.pid)).to.equal(true);
    expect(await place.stop()).to.deep.equal({code: 0, signal: null});
  });
});
