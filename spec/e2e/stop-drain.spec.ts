import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {LocalConnection} from '../support/local-socket';
import {forkServersIn, isAlive, noForkServerIn} from '../support/processes';
import {until} from '../support/until';

const cpid = (callId: string): number => Number(callId.split(':')[1]);

describe('how noded drains', () => {
  let daemon: NodedDaemon;
  let count = 0;
  /** A patient function that ends when `finish` is called. */
  const startPatient = async (): Promise<{id: string; finish: () => void}> => {
    const file = join(daemon.root, `finish${++count}`);
    return {id: await daemon.startReady('patient', file), finish: () => fs.writeFileSync(file, '')};
  };
  const waitFor = async (id: string): Promise<ReturnType<NodedDaemon['waitForFunction']>[]> => {
    const wait = daemon.waitForFunction(id, 60);
    await until('the wait is open', async () => (await daemon.get('/status')).json.counts.waiters === 1);
    return [wait];
  };
  const refused = async (): Promise<string> => daemon.get('/status', {fresh: true}).then(({status}) => `answered ${status}`, ({code}: NodeJS.ErrnoException) => code ?? '');

  before(() => (daemon = new NodedDaemon({functions: fixtures})));
  afterEach(async () => {
    await daemon.kill();
    daemon.killFunctions();
  });
  after(() => daemon.dispose());

  describe('on SIGUSR2', () => {
    beforeEach(() => daemon.start());

    it('refuses new calls, lets the running ones finish, lets everyone wait, and exits 0', async () => {
      const {id, finish} = await startPatient();
      daemon.signal('SIGUSR2');
      await daemon.logged(/^draining/);
      expect((await daemon.startFunction('cat', null, 1)).json.code).to.equal('draining');
      expect((await daemon.get(`/calls/${id}`, {fresh: true})).json.call.state).to.equal('running');
      const [wait] = await waitFor(id);
      finish();
      expect((await wait!).json).to.include({finished: true, result: true});
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    });

    it('exits at once if nothing runs, however often it is asked', async () => {
      daemon.signal('SIGUSR2');
      daemon.signal('SIGUSR2');
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    });

    it('is overtaken by SIGTERM, which terminates', async () => {
      const id = await daemon.startReady('polite');
      daemon.signal('SIGUSR2');
      await daemon.logged(/^draining/);
      expect((await daemon.get(`/calls/${id}`)).json.call.state).to.equal('running');
      const [wait] = await waitFor(id);
      daemon.signal('SIGTERM');
      expect((await wait!).json).to.include({finished: true, result: 'saved'});
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    });
  });

  describe('on SIGTERM with on_stop = "drain"', () => {
    it('stops listening, signals no function, answers who waits, and exits 0', async () => {
      daemon.writeConfig('on_stop = "drain"\n');
      await daemon.start();
      const {id, finish} = await startPatient();
      const [wait] = await waitFor(id);
      daemon.signal('SIGTERM');
      await until('nobody listens', async () => (await refused()) === 'ECONNREFUSED');
      expect(isAlive(cpid(id))).to.equal(true);
      finish();
      expect((await wait!).json).to.include({finished: true, result: true});
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    });

    it('waits no longer than drain_timeout, and leaves the function running', async () => {
      daemon.writeConfig('spawner = "child"\non_stop = "drain"\ndrain_timeout = 0.2\n');
      await daemon.start();
      const {id} = await startPatient();
      daemon.signal('SIGTERM');
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
      expect(daemon.logLines().at(-1)).to.include({msg: 'noded ends', left_running: 1});
      expect(isAlive(cpid(id))).to.equal(true);
      await daemon.start();
      expect(isAlive(cpid(id))).to.equal(false);
      expect((await daemon.waitForFunction(id, 0)).json.call.outcome).to.equal('lost');
    });

    it('kills on a second signal', async () => {
      daemon.writeConfig('on_stop = "drain"\n');
      await daemon.start();
      const id = await daemon.startReady('stubborn');
      const [wait] = await waitFor(id);
      daemon.signal('SIGTERM');
      await daemon.logged(/^SIGTERM: stopping/);
      daemon.signal('SIGTERM');
      expect((await wait!).json.call).to.include({outcome: 'shutdown', signal: 'SIGKILL'});
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
      expect(daemon.functionProcesses()).to.deep.equal([]);
    });
  });

  describe('on SIGTERM with on_stop = "leave"', () => {
    it('goes and leaves the functions as they are', async () => {
      daemon.writeConfig('spawner = "child"\non_stop = "leave"\n');
      await daemon.start();
      const id = await daemon.startReady('sleeper');
      daemon.signal('SIGTERM');
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
      expect(isAlive(cpid(id))).to.equal(true);
      await noForkServerIn(daemon.runDir);
    });

    it('leaves what is only being taken over as well', async () => {
      daemon.writeConfig('spawner = "forker"\non_stop = "leave"\n');
      await daemon.start();
      const id = await daemon.startReady('sleeper');
      await daemon.startFunction('cat', 1, 20); // what it left is looked for at the next start, which takes a while
      await daemon.kill();
      // The journals are read one after the other; at this one it waits.
      const journal = join(daemon.runDir, 'calls', 'ffffffffffffffff.call');
      execFileSync('mkfifo', [journal]);
      daemon.launch();
      await until('noded reads the journals', () => fs.readFileSync(`/proc/${daemon.pid}/wchan`, 'latin1') === 'wait_for_partner', 25_000);
      daemon.signal('SIGTERM');
      fs.closeSync(fs.openSync(journal, 'w'));
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
      expect(daemon.log).not.to.include('noded is ready');
      expect(isAlive(cpid(id))).to.equal(true);
      await daemon.start();
      expect((await daemon.waitForFunction(id, 0)).json.call.state).to.equal('running');
    });

    it('answers everybody who waits, over both doors, with the call ID; the next noded carries on', async () => {
      daemon.writeConfig('spawner = "forker"\non_stop = "leave"\n');
      await daemon.start();
      expect((await daemon.get('/status')).json).to.include({spawner: 'forker'});
      const {id, finish} = await startPatient();
      const wait = daemon.waitForFunction(id, 250);
      const local = await LocalConnection.open(join(daemon.runDir, 'noded.sock'));
      const localWait = local.ask('WaitForFunction', {fnc_id: id, timeout: 250});
      await until('both wait', async () => (await daemon.get('/status')).json.counts.waiters === 2);
      daemon.signal('SIGTERM');
      expect((await wait).json).to.include({finished: false, fnc_id: id}).and.to.have.property('waited').that.is.below(200);
      expect((await localWait).result).to.include({finished: false, fnc_id: id});
      local.destroy();
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
      const servers = forkServersIn(daemon.runDir);
      expect(servers).to.have.length(1);
      await daemon.start();
      expect(daemon.logLines().find(({msg}) => msg === 'took over the calls of an earlier noded')).to.include({running: 1});
      expect(forkServersIn(daemon.runDir)).to.deep.equal(servers);
      finish();
      expect((await daemon.waitForFunction(id, 60)).json).to.include({finished: true, result: true}).and.to.have.nested.property('call.id', id);
      daemon.signal('SIGTERM');
      expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
      await noForkServerIn(daemon.runDir);
    });
  });
});
