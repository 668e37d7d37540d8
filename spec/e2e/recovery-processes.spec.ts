import {bootId} from '../../lib/base/boot-clock';
import {expect} from 'chai';
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {limits} from '../../lib/base/limits';
import {drawKey, makeCallId} from '../../lib/call/call-id';
import {acceptedLine, endedLine, startedLine} from '../../lib/call/journal';
import {startTimeOf} from '../../lib/proc/process-tree';
import {NodedDaemon} from '../support/daemon';
import type {Answer} from '../support/daemon';
import {isAlive, kill} from '../support/processes';
import {until} from '../support/until';
import {writeLog} from '../support/journals';

const escape = (file: string): string =>
  `perl -MPOSIX -e 'exit 0 if fork; POSIX::setsid(); exit 0 if fork; open(F, ">", "${file}"); print F "$$\\n"; close F; sleep 60 while 1;'`;

/** Lines that an earlier noded could have left. */
function plant(daemon: NodedDaemon, lines: {leaveRunning?: boolean; started?: {pid: number; startTime: number; bootId: string}; ended?: boolean; outcome?: string}): {key: string; id: string} {
  const key = drawKey();
  const acceptedAtMs = Date.now();
  const accepted = {key, ppid: 1, acceptedAtMs, acceptedBoot: null, fnName: 'sleeper', requestId: null, role: 'local', fingerprint: 'f'.repeat(64), argsBytes: 4, abortAfterMs: null, reason: null, spooled: true};
  const content = [
    acceptedLine(accepted, lines.leaveRunning ?? false),
    lines.started === undefined ? '' : startedLine({...lines.started, atMs: acceptedAtMs, boot: null}),
    lines.ended === true ? endedLine({exitCode: 0, signal: null, atMs: acceptedAtMs, boot: null}) : '',
    lines.outcome === undefined ? '' : `{"event":"outcome","time":${acceptedAtMs / 1000},"outcome":"${lines.outcome}","output":"empty","output_reason":null,"stdout_bytes":0,"stderr_bytes":0}`,
  ].filter((line) => line !== '');
  writeLog(daemon.runDir, content.map((line) => [key, line]));
  return {key, id: makeCallId({ppid: 1, cpid: lines.started?.pid ?? 0, acceptedAtMs, key})};
}

describe('the processes of a noded without a fork server that was killed', () => {
  let daemon: NodedDaemon;
  const answers = new Map<string, Answer>();
  const pidsIn = (name: string): number[] => {
    const path = join(daemon.root, name);
    return fs.existsSync(path) ? fs.readFileSync(path, 'utf8').split('\n').slice(0, -1).map((line) => Number(line.trim())) : [];
  };

  before(async () => {
    daemon = new NodedDaemon({config: 'spawner = "child"\n'});
    const write = (name: string, body: string, manifest?: string): void => {
      fs.writeFileSync(join(daemon.functionsDir, name), body, {mode: 0o755});
      if (manifest !== undefined) fs.writeFileSync(join(daemon.functionsDir, `${name}.toml`), manifest);
    };
    write('sleeper', '#!/bin/sh\necho a last word >&2\nexec sleep 60\n');
    write('family', `#!/bin/sh\ntrap "" TERM\nsleep 60 &\nsetsid sleep 60 &\n${escape(`${daemon.root}/escapee`)}\nsleep 60\n`);
    write('starter', `#!/bin/sh\n${escape(`${daemon.root}/started`)}\nexec sleep 60\n`, 'leave_running = true\n');
    write('count', `#!/bin/sh\necho x >> ${daemon.root}/count\nexec sleep 60\n`);
    await daemon.start();
    for (const name of ['sleeper', 'family', 'starter']) answers.set(name, (await daemon.startFunction(name, null, 0)).json);
    answers.set('count', (await daemon.startFunction('count', [1], 0, {request_id: 'count.once'})).json);
    await until('all say their pids', () => pidsIn('escapee').length === 1 && pidsIn('started').length === 1 && pidsIn('count').length === 1);
    await daemon.kill();
    await until('all of them run', () => daemon.functionProcesses().length >= 8);
    await daemon.start();
  });
  after(() => daemon.dispose());

  it('are dead before the next one listens, whatever they did to hide', () => {
    expect(pidsIn('escapee').map(isAlive)).to.deep.equal([false]);
    expect(daemon.functionProcesses()).to.deep.equal(pidsIn('started'));
  });

  it('are left alone if they are what a leave_running function started', () => {
    expect(pidsIn('started').map(isAlive)).to.deep.equal([true]);
    const [, cpid] = answers.get('starter')!.call.id.split(':');
    expect(isAlive(Number(cpid))).to.equal(false);
  });

  it('leave calls behind that are lost, under the IDs that were given out', async () => {
    for (const {call} of answers.values()) {
      const {json} = await daemon.waitForFunction(call.id, 0);
      expect(json.call).to.include({id: call.id, outcome: 'lost'});
    }
  });

  it('leave what they wrote, which is shown, counted, and removed with the call', async () => {
    const {id} = answers.get('sleeper')!.call;
    const key = id.split(':')[3]!;
    const files = (): string[] => fs.readdirSync(join(daemon.runDir, 'calls')).filter((name) => name.startsWith(key)).sort();
    expect((await daemon.waitForFunction(id, 0)).json.call.stderr).to.include({next: 12, text: 'a last word\n'});
    const logBytes = (): number => fs.readdirSync(join(daemon.runDir, 'log')).reduce((sum, name) => sum + fs.statSync(join(daemon.runDir, 'log', name)).size, 0);
    expect((await daemon.get('/status')).json.spool_bytes).to.equal(limits.blockBytes + logBytes());
    expect(files()).to.deep.equal([`${key}.err`]);
    expect((await daemon.put('ForgetFunction', {fnc_id: id})).status).to.equal(200);
    await until('its files are gone', () => files().length === 0);
    expect((await daemon.get('/status')).json.spool_bytes).to.equal(logBytes());
  });

  it('do not make their request IDs good for a second run', async () => {
    const {json} = await daemon.startFunction('count', [1], 5, {request_id: 'count.once'});
    expect(json.call).to.include({duplicate: true, outcome: 'lost'});
    expect(fs.readFileSync(join(daemon.root, 'count'), 'utf8')).to.equal('x\n');
  });
});

describe('a process that the log seems to name', () => {
  let daemon: NodedDaemon;
  const started: ChildProcess[] = [];
  const start = (command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): number => {
    const child = spawn(command, args, {detached: true, stdio: 'ignore', env});
    started.push(child);
    return child.pid!;
  };
  const identity = (pid: number): {pid: number; startTime: number; bootId: string} => ({pid, startTime: startTimeOf(pid), bootId: bootId});
  const innocents = new Map<string, number>();
  const guilty = new Map<string, number>();
  const planted = new Map<string, string>();

  before(async () => {
    daemon = await NodedDaemon.start();
    await daemon.kill();
    const plantFor = (name: string, lines: Parameters<typeof plant>[1]): string => {
      const {key, id} = plant(daemon, lines);
      planted.set(name, id);
      return key;
    };
    const innocent = (name: string): number => innocents.set(name, start('sleep', ['60'])).get(name)!;

    const reused = identity(innocent('with another start time'));
    plantFor('reused', {started: {...reused, startTime: reused.startTime - 1}});
    plantFor('other boot', {started: {...identity(innocent('of another boot')), bootId: '00000000-0000-0000-0000-000000000000'}});
    plantFor('ended', {started: identity(innocent('with the pid of a call that had ended')), ended: true, outcome: 'ok'});
    // Its leader has the number of a function process that is long gone, and has ended too.
    const members = join(daemon.root, 'member');
    const leader = start('/bin/sh', ['-c', `sleep 60 & echo $! > ${members}.new; mv ${members}.new ${members}`]);
    innocents.set('in a session whose leader had a reused pid', Number(await until('the member says its pid', () => fs.existsSync(members) && fs.readFileSync(members, 'utf8'))));
    await until('the leader has ended', () => !isAlive(leader));
    plantFor('reused session', {started: {pid: leader, startTime: 1, bootId: bootId}});
    const left = plantFor('left running', {ended: true, outcome: 'ok', leaveRunning: true});
    innocents.set('that a leave_running function started', start('sleep', ['60'], {NODED_CALL_KEY: left}));

    const marked = (name: string, lines: Parameters<typeof plant>[1]): void => {
      const key = plantFor(name, lines);
      guilty.set(name, start('sleep', ['60'], {NODED_CALL_KEY: key}));
    };
    marked('of a call whose start was not on file', {});
    marked('of a call that had ended', {ended: true});
    marked('of a call whose outcome was on file', {ended: true, outcome: 'ok'});
    const alone = start('sleep', ['60'], {});
    guilty.set('with the start time that stands there', alone);
    plantFor('alone', {started: identity(alone)});
    await daemon.start();
  });
  after(async () => {
    for (const child of started) child.kill('SIGKILL');
    for (const pid of innocents.values()) kill(pid);
    await daemon.dispose();
  });

  it('is not killed if it is somebody else', () => {
    expect([...innocents].filter(([, pid]) => !isAlive(pid))).to.deep.equal([]);
  });

  it('is killed if it is what an earlier noded left', async () => {
    await until('they are dead', () => ![...guilty.values()].some(isAlive)).catch(() => {});
    expect([...guilty].filter(([, pid]) => isAlive(pid))).to.deep.equal([]);
  });

  it('changes nothing of what is answered', async () => {
    const outcomes = await Promise.all([...planted].map(async ([name, id]) => [name, (await daemon.get(`/calls/${id}`)).json.call.outcome] as const));
    expect(Object.fromEntries(outcomes)).to.deep.equal({
      reused: 'lost', 'other boot': 'lost', ended: 'ok', 'reused session': 'lost', 'left running': 'ok', alone: 'lost',
      'of a call whose start was not on file': 'lost', 'of a call that had ended': 'ok', 'of a call whose outcome was on file': 'ok',
    });
  });
});
