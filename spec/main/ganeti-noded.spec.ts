/** ganeti-noded as Ganeti's daemon-util(8) starts, checks, stops it and has it open its log again. */
import {expect} from 'chai';
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import {once} from 'node:events';
import {join} from 'node:path';
import {describeAsRoot, describeIf} from '../support/as-root';
import {GanetiNoded, ganetiProgram} from '../support/ganeti-noded';
import {ganetiProblem} from '../support/ganeti-node';
import {freePort} from '../support/free-port';
import {runNoded} from '../support/noded-command';
import type {Said} from '../support/noded-command';
import {forkServersIn, isAlive, noForkServerIn, signalProcess} from '../support/processes';
import {until} from '../support/until';
import {usage} from '../../lib/main/ganeti-options';

describeIf('ganeti-noded', ganetiProblem(), function (this: Mocha.Suite) {
  this.timeout(60_000);
  let node: GanetiNoded;

  before(() => {
    node = new GanetiNoded();
    ganetiProgram();
  });
  after(() => node.dispose());

  const run = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Said> => runNoded(args, {program: ganetiProgram(), env: {...node.env, ...env}});

  describe('with a command line that it cannot start with', () => {
    const wrong: Readonly<Record<string, readonly [args: readonly string[], code: number, stderr: string | RegExp]>> = {
      'a word': [['x'], 1, `Usage: ${usage}\n`],
      'a word after --': [['--', '-f'], 1, `Usage: ${usage}\n`],
      'address and interface': [['-b', '127.0.0.2', '-i', 'lo'], 1, 'Can\'t specify both, bind address (127.0.0.2) and bind interface (lo)\n'],
      'an interface without an address': [['-i', 'nosuch'], 1, 'Failed to find IP for interface nosuch\n'],
      'no clients': [['--max-clients', '0'], 1, 'ganeti-noded --max-clients argument must be >= 1\n'],
      'clients that are no number': [['--max-clients=x'], 1, 'ganeti-noded --max-clients argument must be >= 1\n'],
      'a certificate that is missing': [['-C', '/no/such'], 1, 'SSL certificate file \'/no/such\' was not found\n'],
      'a key that is missing': [['--ssl-key=/no/such'], 1, 'SSL key file \'/no/such\' was not found\n'],
      'an impossible port': [['-p', '70000'], 1, 'the port must be 0 to 65535, not 70000\n'],
      'no TLS on all addresses': [['--no-ssl'], 1, 'without TLS noded listens on loopback only, not on 0.0.0.0\n'],
      'an unknown option': [['--nonsense'], 2, /^Usage: .*\n\nganeti-noded: error: unknown option '--nonsense'\n/],
      'an abbreviation that may be two': [['--no'], 2, /error: unknown option '--no'/],
      'an option without its value': [['-p'], 2, /error: option '-p, --port <port>' argument missing\n$/],
      'another syslog': [['--syslog', 'maybe'], 2, /error: option '--syslog <use>' argument 'maybe' is invalid/],
    };
    for (const [title, [args, code, stderr]] of Object.entries(wrong)) {
      it(`${title}: exits ${code}`, async () => {
        const said = await run(args);
        expect(said.code).to.equal(code);
        if (typeof stderr === 'string') expect(said.stderr).to.equal(stderr);
        else expect(said.stderr).to.match(stderr);
        expect(fs.existsSync(node.pidFile)).to.equal(false);
      });
    }

    const environments: Readonly<Record<string, readonly [NodeJS.ProcessEnv, string]>> = {
      'a root without a name': [{GANETI_HOSTNAME: ''}, 'GANETI_ROOTDIR and GANETI_HOSTNAME must be given together\n'],
      'a root of another name': [{GANETI_HOSTNAME: 'node2'}, 'GANETI_ROOTDIR must end with the name in GANETI_HOSTNAME, node2\n'],
      'a root that is no path': [{GANETI_ROOTDIR: 'node1'}, 'GANETI_ROOTDIR must be an absolute path, not node1\n'],
    };
    for (const [title, [env, stderr]] of Object.entries(environments)) {
      it(`${title}: exits 1`, async () => {
        expect(await run([], env)).to.deep.equal({code: 1, stdout: '', stderr});
      });
    }

    it('a configuration of its own that is wrong: exits 1', async () => {
      node.configure('port = 1\n');
      const said = await run([]);
      node.configure('');
      expect(said).to.deep.equal({code: 1, stdout: '', stderr: `${node.path('etc/noded/ganeti-noded.conf')}: port is not a key of noded.conf\n`});
    });
  });

  it('says which Ganeti is installed, and how it is used; abbreviated too', async () => {
    const {stdout} = spawnSync('/usr/share/ganeti/default/ganeti-noded', ['--version'], {encoding: 'utf8'});
    expect(stdout).to.match(/^ganeti-noded \(ganeti\) \d+\.\d+\.\d+(~(alpha|beta|rc)\d+)?\n$/);
    for (const word of ['--version', '--vers']) expect(await run([word])).to.deep.equal({code: 0, stdout, stderr: ''});
    for (const word of ['-h', '--help', '--he']) {
      const said = await run([word]);
      expect([said.code, said.stdout.split('\n')[0]]).to.deep.equal([0, `Usage: ${usage}`]);
    }
  });

  describeAsRoot('as another user', () => {
    it('does not start', () => {
      // He may read, so that it is not the checkout's modes that keep him out.
      const {status, stderr} = spawnSync('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search', ganetiProgram(), '--no-ssl', '-b', '127.0.0.1'], {encoding: 'utf8', env: {...node.env, NODE_V8_COVERAGE: ''}}); // which he could not write
      expect([status, stderr]).to.deep.equal([1, 'ganeti-noded started using wrong user ID (65534), expected 0\n']);
    });
  });

  describe('detached', () => {
    let port = 0;
    beforeEach(async () => {
      port = await freePort();
      node.port = port;
    });
    afterEach(async () => {
      await node.killAll();
      fs.rmSync(node.pidFile, {force: true});
    });

    /** start-stop-daemon(8) with the words of daemon-util. */
    const ssd = (...words: readonly string[]): {status: number | null; stderr: string} => {
      const {status, stderr} = spawnSync('start-stop-daemon', [...words], {encoding: 'utf8', env: node.env});
      return {status, stderr};
    };
    const start = (...args: readonly string[]): {status: number | null; stderr: string} => ssd('--start', '--quiet', '--oknodo', '--pidfile', node.pidFile, '--startas', ganetiProgram(), '--chuid', 'root:root', '--', '-b', '127.0.0.1', '-p', String(port), '--no-mlock', ...args);
    const signal = (name: string, ...more: readonly string[]): number | null => ssd('--stop', '--signal', name, '--quiet', ...more, '--pidfile', node.pidFile, '--name', 'ganeti-noded').status;
    const stop = (...more: readonly string[]): number | null => ssd('--stop', '--quiet', '--oknodo', '--retry', '30', '--pidfile', node.pidFile, ...more, '--name', 'ganeti-noded').status;
    const started = {status: 0, stderr: ''};

    it('is started, found, started in vain, and stopped by daemon-util\'s ways', async () => {
      expect(start()).to.deep.equal(started);
      expect((await node.ask('/version', '[]')).status).to.equal(200);
      const {pid} = node;
      expect(signal('0')).to.equal(0);
      expect(start(), 'it is there already').to.deep.equal(started);
      expect(node.pid).to.equal(pid);
      expect(stop()).to.equal(0);
      expect([isAlive(pid), fs.existsSync(node.pidFile)]).to.deep.equal([false, false]);
      await noForkServerIn(node.runDir);
      expect(signal('0')).to.equal(1);
      expect(stop()).to.equal(0);
    });

    it('bears that daemon-util removes the pid file itself, as that of Ganeti 3.1 does, and that somebody has before', async () => {
      expect(start()).to.deep.equal(started);
      expect(stop('--remove-pidfile')).to.equal(0);
      expect(fs.existsSync(node.pidFile)).to.equal(false);
      expect(start()).to.deep.equal(started);
      const {pid} = node;
      const before = node.log.length;
      fs.rmSync(node.pidFile);
      expect(ssd('--stop', '--quiet', '--pid', String(pid), '--name', 'ganeti-noded').status).to.equal(0);
      await until('it has gone', () => !isAlive(pid));
      expect(node.log.slice(before)).to.match(/ INFO noded ends/).and.not.match(/ (WARNING|ERROR|CRITICAL) /);
      expect(fs.existsSync(node.pidFile)).to.equal(false);
    });

    it('has a name, a session, a directory and files as Ganeti\'s daemons have them', async () => {
      expect(start()).to.deep.equal(started);
      const {pid} = node;
      const proc = (name: string): string => fs.readFileSync(`/proc/${pid}/${name}`, 'latin1');
      expect(proc('comm')).to.equal('ganeti-noded\n');
      const [, , group, session] = proc('stat').replace(/^.*\) /s, '').split(' ');
      expect([group, session]).to.deep.equal([String(pid), String(pid)]);
      expect(fs.readlinkSync(`/proc/${pid}/cwd`)).to.equal('/');
      expect(proc('status')).to.match(/^Umask:\t0077$/m);
      expect([0, 1, 2].map((fd) => fs.readlinkSync(`/proc/${pid}/fd/${fd}`))).to.deep.equal(['/dev/null', node.node.log, node.node.log]);
      expect(fs.readFileSync(node.pidFile, 'latin1')).to.equal(`${pid}\n`);
      expect([node.pidFile, node.node.log, node.runDir].map((path) => (fs.statSync(path).mode & 0o777).toString(8))).to.deep.equal(['600', '600', '700']);
      expect(spawnSync('flock', ['-n', node.pidFile, 'true']).status, 'the pid file is locked').to.equal(1);
      await node.ask('/version', '[]');
      expect(stop()).to.equal(0);
    });

    it('does not take over what its starter left open', async () => {
      const left = join(node.directory, 'left-open');
      const script = `exec 7>"$0"; exec "$@"`;
      const {status} = spawnSync('sh', ['-c', script, left, ganetiProgram(), '-b', '127.0.0.1', '-p', String(port), '--no-mlock'], {env: node.env});
      expect(status).to.equal(0);
      const holders = spawnSync('find', [node.pid, ...forkServersIn(node.runDir)].map((pid) => `/proc/${pid}/fd`).concat('-lname', left), {encoding: 'utf8'});
      expect(holders.stdout).to.equal('');
      expect(stop()).to.equal(0);
    });

    it('opens its log again after a rotation, for lines, for functions and for what Node has to say', async () => {
      expect(start()).to.deep.equal(started);
      const rotated = `${node.node.log}.1`;
      fs.renameSync(node.node.log, rotated);
      await node.ask('/spec_say', '[]');
      expect(signal('HUP', '--oknodo')).to.equal(0);
      await until('there is a new log', () => node.log.includes('reloaded'));
      await node.ask('/spec_wait', JSON.stringify([node.directory]));
      await until('the request is in it', () => node.log.includes('POST /spec_wait HTTP/1.1 200') && node.log.includes('a line on stdout'));
      expect([1, 2].map((fd) => fs.readlinkSync(`/proc/${node.pid}/fd/${fd}`))).to.deep.equal([node.node.log, node.node.log]);
      expect(fs.statSync(node.node.log).mode & 0o777).to.equal(0o600);
      expect(fs.readFileSync(rotated, 'utf8')).to.not.include('spec_wait');
      expect(stop()).to.equal(0);
    });

    it('says on standard error why it does not start, and leaves nothing', async () => {
      const server = net.createServer().listen(port, '127.0.0.1');
      await once(server, 'listening');
      try {
        expect(start()).to.deep.equal({status: 1, stderr: `Error when starting daemon process: cannot listen on 127.0.0.1 port ${port}: EADDRINUSE\n`});
      } finally {
        server.close();
      }
      expect(fs.existsSync(node.pidFile)).to.equal(false);
      fs.renameSync(node.serverPem, `${node.serverPem}.away`);
      fs.writeFileSync(node.serverPem, 'nonsense\n', {mode: 0o400});
      expect(start()).to.deep.equal({status: 1, stderr: `Error when starting daemon process: ${node.serverPem}: there is no PEM certificate in it\n`});
      fs.renameSync(`${node.serverPem}.away`, node.serverPem);
      expect(fs.existsSync(node.pidFile)).to.equal(false);
    });

    it('does not start beside another that has the pid file', async () => {
      expect(start()).to.deep.equal(started);
      const {pid} = node;
      expect(await run(['-b', '127.0.0.1', '-p', '0'])).to.deep.equal({code: 1, stdout: '', stderr: `Error while locking PID file:\nPID file '${node.pidFile}' is already locked by another process, PID read from file is ${pid}\n`});
      expect([node.pid, isAlive(pid)]).to.deep.equal([pid, true]);
      expect(stop()).to.equal(0);
    });

    it('starts over the pid file of one that was killed', async () => {
      expect(start()).to.deep.equal(started);
      const {pid} = node;
      signalProcess(pid, 'SIGKILL');
      await until('it is dead', () => !isAlive(pid));
      fs.writeFileSync(node.pidFile, '999999999\n');
      expect(start()).to.deep.equal(started);
      expect(node.pid).to.not.equal(pid);
      expect((await node.ask('/version', '[]')).status).to.equal(200);
      expect(stop()).to.equal(0);
    });

    it('warns of what -d does', () => {
      expect(start('--deb')).to.deep.equal({status: 0, stderr: 'ALERT: ganeti-noded was started in debug mode, and WILL log private and secret parameters!\n'});
      expect(stop()).to.equal(0);
    });
  });

  describe('at its end', () => {
    const wait = (name: string): {answer: Promise<{text: string}>; gate: string} => {
      const gate = join(node.directory, name);
      const answer = node.ask('/spec_wait', JSON.stringify([gate]));
      answer.catch(() => undefined);
      return {answer, gate};
    };
    const calls = async (): Promise<{id: string; state: string}[]> => (JSON.parse((await node.get('/calls')).text) as {calls: {id: string; state: string}[]}).calls;
    const running = (): Promise<unknown> => until('it runs', async () => (await calls()).some(({state}) => state === 'running'));
    const refuses = (): Promise<unknown> => until('the port is closed', () => node.get('/status').then(() => false, (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED'));

    it('closes the port, answers who still waits once his function has ended, and exits 0', async () => {
      await node.start();
      const {answer, gate} = wait('drained');
      await running();
      node.signal('SIGTERM');
      await refuses();
      fs.writeFileSync(gate, '');
      expect((await answer).text).to.equal('[true, "waited"]\n');
      expect(await node.exited).to.deep.equal({code: 0, signal: null});
      expect([fs.existsSync(node.pidFile), node.spoolFiles()]).to.deep.equal([false, []]);
      await noForkServerIn(node.runDir);
    });

    for (const [title, configuration, again] of [['after drain_timeout', 'drain_timeout = 0.3\n', false], ['with the second signal', '', true]] as const) {
      it(`leaves running functions to the next one ${title}, and tells their callers`, async () => {
        node.configure(configuration);
        await node.start();
        const {answer, gate} = wait(`left-${again}`);
        await running();
        const [call] = await calls();
        node.signal('SIGTERM');
        await refuses().catch(() => undefined);
        if (again) node.signal('SIGTERM');
        expect((await answer).text).to.equal(`[false,"Error while executing backend function: this node daemon ends before spec_wait does, which goes on as call ${call!.id}"]\n`);
        expect(await node.exited).to.deep.equal({code: 0, signal: null});
        await node.start();
        expect((await calls()).map(({id, state}) => [id, state])).to.deep.equal([[call!.id, 'running']]);
        fs.writeFileSync(gate, '');
        expect((await node.put('WaitForFunction', {fnc_id: call!.id, timeout: 20})).json.result).to.deep.equal([true, 'waited']);
        await node.put('ForgetFunction', {fnc_id: call!.id});
        await node.stop();
        node.configure('');
      });
    }

    it('is answered, and ends, when Ganeti tells it to', async () => {
      await node.start();
      expect((await node.ask('/spec_quit', '[]')).text).to.equal('[true, "Shutdown scheduled"]\n');
      expect(await node.exited).to.deep.equal({code: 0, signal: null});
      expect(fs.existsSync(node.pidFile)).to.equal(false);
    });

    it('drains on SIGUSR2: refuses new calls, and ends with the last one', async () => {
      await node.start();
      const {answer, gate} = wait('usr2');
      await running();
      node.signal('SIGUSR2');
      await until('it refuses', async () => {
        const {status, text} = await node.ask('/spec_say', '[]');
        return status === 503 && text === 'this noded takes no new calls';
      });
      fs.writeFileSync(gate, '');
      expect((await answer).text).to.equal('[true, "waited"]\n');
      expect(await node.exited).to.deep.equal({code: 0, signal: null});
    });
  });

  it('in the foreground logs to the file, and with -d to standard error too', async () => {
    await node.start();
    expect(node.stderr).to.equal('');
    await node.stop();
    await node.start(['-d']);
    await until('it is there too', () => / INFO noded is ready /.test(node.stderr));
    await node.stop();
    expect(node.stderr).to.match(/^ALERT: ganeti-noded was started in debug mode/);
  });

  it('leaves out a program that has the name of a function of Ganeti', async () => {
    const functions = node.path('etc/noded/functions.d');
    fs.mkdirSync(functions, {recursive: true});
    for (const name of ['version', 'own']) fs.writeFileSync(join(functions, name), '#!/bin/sh\necho 7\n', {mode: 0o755});
    await node.start();
    const call = async (name: string): Promise<unknown> => {
      const {result, call: {id}} = (await node.put('StartFunction', {fn_name: name, fn_args: [], timeout: 20})).json;
      await node.put('ForgetFunction', {fnc_id: id});
      return result;
    };
    expect(await call('version')).to.have.property('0', true);
    expect(await call('own')).to.equal(7);
    expect((await node.ask('/own', '[]')).status).to.equal(404);
    expect(node.log).to.match(/ WARNING not a function: has the name of a function of Ganeti path=.*\/functions\.d\/version$/m);
    await node.stop();
    fs.rmSync(functions, {recursive: true});
  });
});
