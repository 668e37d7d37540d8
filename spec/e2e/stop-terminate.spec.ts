import {expect} from 'chai';
import {once} from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import type {Response} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {isAlive} from '../support/processes';
import {until} from '../support/until';

const cpid = (callId: string): number => Number(callId.split(':')[1]);

describe('SIGTERM with on_stop = "terminate"', () => {
  let daemon: NodedDaemon;
  const sockets: net.Socket[] = [];

  const connect = async (text: string): Promise<net.Socket> => {
    const socket = net.connect(daemon.port, '127.0.0.1');
    socket.on('error', () => {});
    sockets.push(socket);
    await once(socket, 'connect');
    socket.write(text);
    return socket;
  };
  /** Waits that are open at the daemon when this resolves. */
  const openWaits = async (ids: readonly string[]): Promise<Promise<Response>[]> => {
    const waits = ids.map((id) => daemon.waitForFunction(id, 60));
    await until('the waits are open', async () => (await daemon.get('/status')).json.counts.waiters === ids.length);
    return waits;
  };

  before(() => (daemon = new NodedDaemon({functions: fixtures})));
  beforeEach(() => daemon.start());
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await daemon.kill();
  });
  after(() => daemon.dispose());

  it('signals all functions, answers all who wait, hangs on no socket and exits 0', async () => {
    const names = ['polite', 'polite', 'sleeper', 'limited'];
    const ids = await Promise.all(names.map((name) => daemon.startReady(name)));
    const waits = await openWaits([...ids, ...ids]);
    await connect('');
    await connect('PUT /StartFunction HTTP/1.1\r\nHost: no');
    await connect('PUT /StartFunction HTTP/1.1\r\nHost: noded\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"fn_name"');
    daemon.signal('SIGTERM');
    const answers = (await Promise.all(waits)).map(({json}) => json);
    expect(answers.map(({call}) => call.outcome)).to.deep.equal(['ok', 'ok', 'shutdown', 'shutdown', 'ok', 'ok', 'shutdown', 'shutdown']);
    expect(answers.slice(0, 4).map(({call, result}) => [call.signal, result])).to.deep.equal([[null, 'saved'], [null, 'saved'], ['SIGTERM', null], ['SIGKILL', null]]);
    expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    expect(daemon.functionProcesses()).to.deep.equal([]);
  });

  it('refuses new calls and goes on answering waits while a function does not end; a second signal kills it', async () => {
    const id = await daemon.startReady('stubborn');
    daemon.signal('SIGTERM');
    await until('it was signaled', async () => (await daemon.get(`/calls/${id}`)).json.call.stderr.text.includes('deaf'));
    const refusal = await daemon.startFunction('cat', null, 1);
    expect([refusal.status, refusal.json.code, refusal.headers['retry-after'] !== undefined]).to.deep.equal([503, 'draining', true]);
    expect((await daemon.get('/status', {fresh: true})).json.draining).to.equal(true);
    expect((await daemon.waitForFunction(id, 0.05)).json.call).to.include({state: 'stopping', stopped_by: 'shutdown'});
    const [wait] = await openWaits([id]);
    expect(isAlive(cpid(id))).to.equal(true);
    daemon.signal('SIGTERM');
    expect((await wait!).json.call).to.include({outcome: 'shutdown', signal: 'SIGKILL'});
    expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    expect(daemon.functionProcesses()).to.deep.equal([]);
  });

  it('is what SIGINT does too, and both count as first and second', async () => {
    const id = await daemon.startReady('stubborn');
    daemon.signal('SIGINT');
    await until('it was signaled', async () => (await daemon.get(`/calls/${id}`)).json.call.stderr.text.includes('deaf'));
    daemon.signal('SIGTERM');
    expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    expect(daemon.logLines().map(({msg}) => msg)).to.include('SIGTERM again: killing all function processes');
  });

  it('gives the results after a restart that nobody has fetched', async () => {
    const id = await daemon.startReady('polite');
    const other = (await daemon.startFunction('cat', [1], 20)).json.call.id;
    expect(await daemon.stop()).to.deep.equal({code: 0, signal: null});
    await daemon.start();
    expect((await daemon.waitForFunction(id, 0)).json).to.deep.include({finished: true, result: 'saved'});
    expect((await daemon.waitForFunction(other, 0)).json).to.deep.include({finished: true, result: [1]});
  });

  it('opens no inspector on SIGUSR1 and goes on', async () => {
    daemon.signal('SIGUSR1');
    daemon.signal('SIGUSR1');
    expect((await daemon.startFunction('cat', 1, 20)).json.result).to.equal(1);
    expect(listeningPorts(daemon.pid)).to.deep.equal([daemon.port]);
    expect(daemon.log).to.not.match(/[Dd]ebugger/);
  });
});

describe('stop_kill_after', () => {
  let daemon: NodedDaemon;
  before(async () => (daemon = await NodedDaemon.start({functions: fixtures, config: 'stop_kill_after = 0.2\n'})));
  after(() => daemon.dispose());

  it('kills functions that do not end, when noded stops', async () => {
    const id = await daemon.startReady('stubborn');
    const wait = daemon.waitForFunction(id, 60);
    await until('the wait is open', async () => (await daemon.get('/status')).json.counts.waiters === 1);
    daemon.signal('SIGTERM');
    expect((await wait).json.call).to.include({outcome: 'shutdown', signal: 'SIGKILL'});
    expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
  });
});

describe('SIGTERM while noded starts', () => {
  let daemon: NodedDaemon;
  let minds: string;
  before(() => {
    const place = new NodedDaemon();
    after(() => place.dispose());
    minds = join(place.root, 'minds');
    // /proc/PID/status cannot tell: Node itself catches SIGTERM from the beginning.
    const preload = join(place.root, 'preload.js');
    fs.writeFileSync(preload, `
      const {on} = process;
      process.on = function (name, ...more) {
        const result = on.call(this, name, ...more);
        if (name === 'SIGTERM') require('node:fs').writeFileSync('${minds}', '');
        return result;
      };`);
    daemon = new NodedDaemon({env: {NODE_OPTIONS: `--require ${preload}`}});
  });
  after(() => daemon.dispose());

  it('ends it in order, also before it listens', async () => {
    const calls = join(daemon.runDir, 'calls');
    fs.mkdirSync(calls, {recursive: true, mode: 0o700});
    // So many that reading them back takes longer than the look that is needed here.
    for (let call = 0; call < 4000; call += 1) {
      const line = `{"event":"accepted","time":1764670000,"ppid":1,"fn_name":"f","role":"local","fingerprint":"x"}\n`;
      fs.writeFileSync(join(calls, `${String(call).padStart(16, '0')}.call`), line, {mode: 0o600});
    }
    daemon.launch();
    await until('noded minds its signals', () => fs.existsSync(minds), 25_000);
    expect(daemon.log).to.equal('');
    daemon.signal('SIGTERM');
    expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    expect(daemon.logLines().at(-1)?.msg).to.equal('noded ends');
  });
});

/** TCP ports that a process listens on, from proc(5). */
function listeningPorts(pid: number): number[] {
  const inodes = new Set(fs.readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
    } catch {
      return undefined;
    }
  }));
  const lines = ['tcp', 'tcp6'].flatMap((table) => fs.readFileSync(`/proc/${pid}/net/${table}`, 'latin1').trim().split('\n').slice(1));
  const rows = lines.map((line) => line.trim().split(/\s+/));
  return rows.filter(([, , , state, , , , , , inode]) => state === '0A' && inodes.has(inode)).map(([, local]) => Number.parseInt(local!.split(':')[1]!, 16));
}
