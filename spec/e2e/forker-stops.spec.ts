import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {limits} from '../../lib/base/limits';
import {BuiltNoded} from '../support/built';
import {NodedDaemon} from '../support/daemon';
import {forkServersIn, isAlive, signalProcess} from '../support/processes';
import {until} from '../support/until';

const cpid = (callId: string): number => Number(callId.split(':')[1]);

const functions = {
  sleeper: {body: '#!/bin/sh\necho ready >&2\nexec sleep 60\n', manifest: 'kill_after = 1\n'},
  stubborn: {body: '#!/bin/sh\ntrap "echo deaf >&2" TERM\necho ready >&2\nwhile :; do sleep 0.05; done\n', manifest: 'kill_after = 0.5\n'},
  apart: {body: '#!/bin/sh\nsetsid sleep 60 &\necho ready >&2\nwait\n'},
  leaves: {body: '#!/bin/sh\nsetsid sleep 60 &\necho $! >&2\necho ready >&2\nwait\n', manifest: 'leave_running = true\n'},
  talks: {body: '#!/bin/sh\necho "[1, 2]"; echo ready >&2\nhead -c 49989 /dev/zero >&2; printf "last words" >&2\nexec sleep 60\n'},
  quick: {body: '#!/bin/sh\nexec cat\n'},
} as const;

let built: BuiltNoded;
before(() => (built = new BuiltNoded({forker: true})));
after(() => built?.dispose());

describe('what was to stop a call of a noded that died', function () {
  this.timeout(60_000);
  let daemon: NodedDaemon;
  before(async () => (daemon = await NodedDaemon.start({program: built.program, functions})));
  after(() => daemon?.dispose());

  it('stops it all the same: abort_after counts from the acceptance', async () => {
    const id = await daemon.startReady('sleeper', null, {abort_after: 5});
    await daemon.kill();
    await daemon.start();
    const {json} = await daemon.waitForFunction(id, 30);
    expect(json.call).to.include({id, outcome: 'deadline', stopped_by: 'deadline'});
    expect(json.call.elapsed).to.be.at.least(5);
  });

  it('stops it all the same: an abort that was under way goes on, up to SIGKILL', async () => {
    const id = await daemon.startReady('stubborn');
    const abort = daemon.put('AbortFunction', {fnc_id: id, timeout: 0});
    await abort;
    await daemon.kill();
    await daemon.start();
    expect((await daemon.waitForFunction(id, 30)).json.call).to.include({outcome: 'aborted', signal: 'SIGKILL'});
  });

  it('can be said anew: a call that was taken over is aborted like any other', async () => {
    const id = await daemon.startReady('apart');
    await daemon.kill();
    await daemon.start();
    expect((await daemon.put('AbortFunction', {fnc_id: id, timeout: 20})).json.call).to.include({outcome: 'aborted', signal: 'SIGTERM'});
    await until('what it started is dead', () => daemon.functionProcesses().length === 0);
  });
});

describe('on_stop = "leave"', function () {
  this.timeout(60_000);
  let daemon: NodedDaemon;
  before(async () => (daemon = await NodedDaemon.start({program: built.program, functions, config: 'on_stop = "leave"\n'})));
  after(() => daemon?.dispose());

  it('goes at once, and the next noded carries on', async () => {
    const id = await daemon.startReady('sleeper');
    const wait = daemon.waitForFunction(id, 60);
    await until('the wait is open', async () => (await daemon.get('/status')).json.counts.waiters === 1);
    expect(await daemon.stop()).to.deep.equal({code: 0, signal: null});
    expect((await wait).json).to.include({fnc_id: id, finished: false});
    expect(isAlive(cpid(id))).to.equal(true);
    await daemon.start();
    expect((await daemon.waitForFunction(id, 0)).json.call.state).to.equal('running');
    signalProcess(cpid(id), 'SIGUSR1');
    expect((await daemon.waitForFunction(id, 20)).json.call).to.include({outcome: 'signaled', signal: 'SIGUSR1'});
  });
});

describe('a fork server that dies or stands still', function () {
  this.timeout(60_000);
  let daemon: NodedDaemon;
  before(async () => (daemon = await NodedDaemon.start({program: built.program, functions})));
  after(() => daemon?.dispose());
  const forkServer = (): number => {
    const [pid] = forkServersIn(daemon.runDir);
    if (pid === undefined) throw new Error('there is no fork server');
    return pid;
  };

  it('is replaced; its calls are lost once their processes are dead, and new ones work', async () => {
    const ids = [await daemon.startReady('sleeper'), await daemon.startReady('stubborn'), await daemon.startReady('apart')];
    const waits = ids.map((id) => daemon.waitForFunction(id, 30));
    await until('the waits are open', async () => (await daemon.get('/status')).json.counts.waiters === ids.length);
    const old = forkServer();
    signalProcess(old, 'SIGKILL');
    const answers = (await Promise.all(waits)).map(({json}) => json);
    expect(answers.map(({call}) => call.outcome)).to.deep.equal(['lost', 'lost', 'lost']);
    expect(daemon.functionProcesses()).to.deep.equal([]);
    expect(forkServer()).to.not.equal(old);
    const {json} = await daemon.startFunction('quick', [1], 20);
    expect(json.result).to.deep.equal([1]);
    expect((await daemon.get('/status')).text).to.include('"spawner":"forker"');
  });

  it('loses no word that its calls wrote, and their files go with them', async () => {
    const id = await daemon.startReady('talks', 'x'.repeat(100_000));
    await until('all of it is written', async () => (await daemon.waitForFunction(id, 0)).json.call.stderr.next === 50_005);
    signalProcess(forkServer(), 'SIGKILL');
    const {json} = await daemon.waitForFunction(id, 30);
    expect(json.call).to.include({outcome: 'lost'});
    expect(json.call.stderr).to.include({next: 50_005}).with.property('text').that.matches(/last words$/);
    const counted = async (): Promise<number> => (await daemon.get('/status')).json.spool_bytes;
    const bytes = await counted();
    const files = Math.ceil(50_005 / limits.blockBytes) * limits.blockBytes + limits.blockBytes;
    expect(bytes).to.be.at.least(files);
    expect((await daemon.put('ForgetFunction', {fnc_id: id})).status).to.equal(200);
    // The tombstone is in the log.
    expect(await counted()).to.be.within(bytes - files, bytes - files + limits.maxLineBytes);
    await until('its files are gone', () => fs.readdirSync(join(daemon.runDir, 'calls')).every((name) => !name.startsWith(id.split(':')[3]!)));
  });

  it('takes a function process with it that may leave others, and these stay', async () => {
    const id = await daemon.startReady('leaves');
    const left = Number((await daemon.waitForFunction(id, 0, {stderr_from: 0})).json.call.stderr.text.split('\n')[0]);
    signalProcess(forkServer(), 'SIGKILL');
    expect((await daemon.waitForFunction(id, 30)).json.call.outcome).to.equal('lost');
    await until('the function process is dead', () => !isAlive(cpid(id)));
    expect(isAlive(left)).to.equal(true);
    signalProcess(left, 'SIGKILL');
  });

  it('starts what was asked for meanwhile when it goes on', async () => {
    await daemon.startFunction('quick', 0, 20);
    const old = forkServer();
    signalProcess(old, 'SIGSTOP');
    let late: Awaited<ReturnType<typeof daemon.startFunction>>;
    try {
      late = await daemon.startFunction('quick', [2], 0.05);
    } finally {
      signalProcess(old, 'SIGCONT');
    }
    expect(late.json).to.include({finished: false});
    expect((await daemon.waitForFunction(late.json.call.id, 20)).json.result).to.deep.equal([2]);
    expect(forkServer()).to.equal(old);
  });

  it('keeps nobody waiting while there is no other one', async () => {
    const id = await daemon.startReady('apart');
    const wait = daemon.waitForFunction(id, 30);
    const program = join(built.root, 'libexec/noded-forker');
    fs.renameSync(program, `${program}.away`);
    try {
      signalProcess(forkServer(), 'SIGKILL');
      expect((await wait).json.call.outcome).to.equal('lost');
      expect(daemon.functionProcesses()).to.deep.equal([]);
      expect((await daemon.startFunction('quick', [1], 20)).json.code).to.equal('spawner_unavailable');
    } finally {
      fs.renameSync(`${program}.away`, program);
    }
    await until('there is another one', async () => (await daemon.startFunction('quick', [3], 20)).status === 200);
  });

  it('answers with an end also where nothing is in the log any more', async () => {
    const id = await daemon.startReady('sleeper');
    for (const name of fs.readdirSync(join(daemon.runDir, 'log'))) fs.truncateSync(join(daemon.runDir, 'log', name));
    signalProcess(forkServer(), 'SIGKILL');
    expect((await daemon.waitForFunction(id, 30)).json.call.outcome).to.equal('lost');
  });
});
