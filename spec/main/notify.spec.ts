import {expect} from 'chai';
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {Notifier} from '../../lib/main/notify';
import {NodedDaemon} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {until} from '../support/until';

/** A socket such as systemd's: every datagram is a line here, its own lines joined by `|`. */
class NotifySocket {
  private text = '';
  private readonly reader: ChildProcess;

  constructor(readonly path: string) {
    const script = `use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0) or die; bind(S, sockaddr_un($ARGV[0])) or die; $| = 1;
      while (defined recv(S, $m, 4096, 0)) { $m =~ s/\\n+$//; $m =~ s/\\n/|/g; print "$m\\n" }`;
    this.reader = spawn('perl', ['-e', script, path], {stdio: ['ignore', 'pipe', 'inherit']});
    this.reader.stdout!.on('data', (chunk: Buffer) => (this.text += chunk.toString()));
  }

  ready(): Promise<true> {
    return until('the socket is there', () => fs.existsSync(this.path));
  }

  get messages(): string[] {
    return this.text.split('\n').slice(0, -1);
  }

  received(pattern: RegExp, times = 1): Promise<true> {
    return until(`${times} × ${pattern}`, () => this.messages.filter((message) => pattern.test(message)).length >= times);
  }

  close(): void {
    this.reader.kill('SIGKILL');
  }
}

describe('what systemd is told', function () {
  this.timeout(60_000);
  let daemon: NodedDaemon;
  let socket: NotifySocket;

  before(async () => {
    const directory = new NodedDaemon();
    socket = new NotifySocket(join(directory.root, 'notify'));
    await socket.ready();
    daemon = new NodedDaemon({functions: fixtures, env: {NOTIFY_SOCKET: socket.path, WATCHDOG_USEC: '400000'}});
    await daemon.start();
    after(() => directory.dispose());
  });
  after(async () => {
    await daemon.dispose();
    socket.close();
  });

  it('is READY with the main process, once the port is open', async () => {
    await socket.received(/^READY=1/);
    expect(socket.messages[0]).to.equal(`READY=1|STATUS=listening on 127.0.0.1 port ${daemon.port}|MAINPID=${daemon.pid}`);
  });

  it('is fed the watchdog\'s news again and again', async () => {
    await socket.received(/^WATCHDOG=1$/, 3);
  });

  it('is RELOADING and then READY, never the other way round, however often', async () => {
    for (let round = 1; round <= 4; round += 1) {
      daemon.signal('SIGHUP');
      await socket.received(/^READY=1\|STATUS=reloaded/, round);
    }
    const order = socket.messages.filter((message) => /RELOADING|reloaded/.test(message)).map((message) => message.split('=')[0]);
    expect(order).to.deep.equal(Array.from({length: 4}, () => ['RELOADING', 'READY']).flat());
    expect(socket.messages.find((message) => message.startsWith('RELOADING'))).to.match(/^RELOADING=1\|MONOTONIC_USEC=\d+$/);
  });

  it('is STOPPING', async () => {
    await daemon.startReady('stubborn');
    daemon.signal('SIGTERM');
    await socket.received(/^STOPPING=1\|STATUS=SIGTERM: stopping/);
    daemon.signal('SIGTERM');
    expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
  });

  it('is not passed on to functions, and a socket that is gone harms nobody', async () => {
    socket.close();
    fs.rmSync(socket.path);
    await daemon.start();
    expect((await daemon.startFunction('cat', 1, 20)).json.result).to.equal(1);
    expect((await daemon.stop()).code).to.equal(0);
  });
});

describe('systemd-notify(1) that cannot be run', () => {
  const before = {...process.env};
  afterEach(() => {
    for (const name of ['NOTIFY_SOCKET', 'PATH'] as const) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  });

  it('is complained of for each message, and stops none that follow', async () => {
    const warnings: string[] = [];
    const log = {debug: () => {}, info: () => {}, error: () => {}, warn: (_fields: object, message: string) => void warnings.push(message)};
    Object.assign(process.env, {NOTIFY_SOCKET: '/nonexistent', PATH: '/nonexistent'});
    const notifier = new Notifier(log);
    notifier.reloading();
    notifier.ready('reloaded');
    await until('both have been tried', () => warnings.length === 2);
    notifier.stopping('SIGTERM');
    await until('the next one has been tried', () => warnings.length === 3);
    expect(new Set(warnings)).to.deep.equal(new Set(['systemd-notify: spawn systemd-notify ENOENT']));
  });

  it('is not run at all where nobody asks for it', async () => {
    const warnings: string[] = [];
    const log = {debug: () => {}, info: () => {}, error: () => {}, warn: (_fields: object, message: string) => void warnings.push(message)};
    delete process.env.NOTIFY_SOCKET;
    process.env.PATH = '/nonexistent';
    new Notifier(log).ready('listening');
    process.env.NOTIFY_SOCKET = '/nonexistent';
    new Notifier(log).stopping('SIGTERM');
    await until('the second one has been tried', () => warnings.length > 0);
    expect(warnings).to.have.length(1);
  });
});
