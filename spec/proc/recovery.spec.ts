import {bootId} from '../../lib/base/boot-clock';
import {expect} from 'chai';
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {limits} from '../../lib/base/limits';
import {ProcessTrees, startTimeOf} from '../../lib/proc/process-tree';
import {readLog, recoverCalls, settledEnding} from '../../lib/proc/recovery';
import type {Recovered} from '../../lib/proc/recovery';
import {Spool} from '../../lib/proc/spool';
import {Unread} from '../../lib/proc/unread';
import type {Tombstone} from '../../lib/call/tombstones';
import {JsonScanner} from '../../lib/rpc/json-scan';
import {isAlive, signalGroup} from '../support/processes';
import {until} from '../support/until';
import {writeLog} from '../support/journals';

describe('what is read back from journals', () => {
  let runDir: string;
  let children: ChildProcess[];
  beforeEach(() => {
    runDir = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-recovery-')));
    fs.mkdirSync(join(runDir, 'calls'), {mode: 0o700});
    children = [];
  });
  afterEach(() => {
    for (const child of children) signalGroup(child.pid!, 'SIGKILL');
    fs.rmSync(runDir, {recursive: true});
  });

  const path = (key: string, kind: string): string => join(runDir, 'calls', `${key}.${kind}`);
  /** Lines behind the acceptance; keys count up. */
  let count = 0;
  const plant = (lines: readonly object[], accepted: object = {}): string => {
    const key = String(++count).padStart(16, '0');
    const first = {event: 'accepted', time: 1_764_670_000 - count, ppid: 1, fn_name: 'f', role: 'master', fingerprint: 'x', ...accepted};
    writeLog(runDir, [first, ...lines].map((line) => [key, JSON.stringify(line)]));
    return key;
  };
  const recover = async (isLive: (key: string) => boolean = () => false): Promise<{recovered: readonly Recovered[]; of: (key: string) => Recovered | undefined; tombstones: readonly Tombstone[]}> => {
    const log = {warn: () => {}};
    const spool = new Spool({runDir, minFreeBytes: 0, log});
    const onFile = readLog({spool, isLive});
    const options = {spool, trees: new ProcessTrees({log}), newScanner: () => new JsonScanner({maxDepth: limits.maxDepth}), maxOutputBytes: () => 100, isLive};
    const recovered = [...(await recoverCalls(onFile.open, options))];
    const tombstones: Tombstone[] = [];
    await new Unread(onFile.settled, onFile.last, onFile.reader, {
      call: (record, order) => void recovered.push({record, order, ending: settledEnding(record, options)}),
      tombstone: (tombstone) => void tombstones.push(tombstone),
      nothing: (key) => spool.remove(key),
      log: {warn: (_fields, message) => expect.fail(message)},
    }).done;
    recovered.sort((one, other) => one.order - other.order);
    void spool.flush();
    return {recovered, tombstones, of: (key) => recovered.find(({record}) => record.accepted.key === key)};
  };
  const sleeper = async (): Promise<number> => {
    const child = spawn('sleep', ['60'], {detached: true, stdio: 'ignore'});
    children.push(child);
    await once(child, 'spawn');
    return child.pid!;
  };
  const started = (pid: number): object => ({event: 'started', time: 1_764_670_001, pid, start_time: startTimeOf(pid), boot_id: bootId});
  const exit = (code: number): object => ({event: 'ended', time: 1_764_670_002, exit_code: code, signal: null});

  it('comes in the order in which it was accepted', async () => {
    const keys = Array.from({length: 5}, () => plant([]));
    expect((await recover()).recovered.map(({record}) => record.accepted.key)).to.deep.equal([...keys].reverse());
  });

  it('is examined if noded died between the end and the outcome', async () => {
    const contents = {json: '[1]', empty: '', invalid: '[1', too_large: 'x'.repeat(101)};
    const keys = Object.entries(contents).map(([output, content]) => {
      const key = plant([exit(0)]);
      fs.writeFileSync(path(key, 'out'), content);
      return [output, key] as const;
    });
    const {of} = await recover();
    for (const [output, key] of keys) expect(of(key)?.ending).to.include({kind: 'exited', exitCode: 0, output, endedAtMs: 1_764_670_002_000});
  });

  it('is what stands in the journal itself, under the limit of its day', async () => {
    const [ok, failed] = [plant([{...exit(0), stdout: JSON.stringify('x'.repeat(200)), stderr: 'y'}]), plant([{...exit(3), stderr: 'no'}])];
    const {of} = await recover();
    expect(of(ok)?.ending).to.include({kind: 'exited', output: 'json', stdoutBytes: 202, inJournal: true});
    expect(of(failed)?.ending).to.include({kind: 'exited', exitCode: 3, output: 'empty', stdoutBytes: 0, stderrBytes: 2, inJournal: true});
  });

  it('is unknown if the journal says that stdout is lost, but for a failure: that is one whatever was written', async () => {
    const key = plant([{...exit(0), stdout_lost: true}]);
    expect((await recover()).of(key)?.ending).to.include({kind: 'lost', reason: 'stdout could not be read: its file is gone or cut short'});
    const failed = plant([{...exit(3), stdout_lost: true}]);
    expect((await recover()).of(failed)?.ending).to.include({kind: 'exited', exitCode: 3, output: 'invalid', outputReason: 'stdout could not be read: its file is gone or cut short'});
  });

  it('is unknown if the file has less than the journal says, as after a power cut', async () => {
    const keys = ([['12345', 5], ['12345', 6], ['12345', 4], ['', 2]] as const).map(([content, bytes]) => {
      const key = plant([{...exit(0), stdout_bytes: bytes, stderr_bytes: 9}]);
      if (content !== '') fs.writeFileSync(path(key, 'out'), content);
      return key;
    });
    const {of} = await recover();
    expect(keys.map((key) => of(key)?.ending?.kind)).to.deep.equal(['exited', 'lost', 'exited', 'lost']);
    expect(of(keys[1]!)?.ending).to.include({reason: 'stdout could not be read: its file is gone or cut short'});
  });

  it('is a start that failed if the journal says so', async () => {
    const key = plant([{event: 'ended', time: 1_764_670_002, errno: 'ENOENT', stage: 'exec'}]);
    expect((await recover()).of(key)?.ending).to.deep.equal({kind: 'not_started', errno: 'ENOENT', stage: 'exec', endedAtMs: 1_764_670_002_000, endedBoot: null});
  });

  it('is lost without an end, and its process is killed', async () => {
    const pid = await sleeper();
    const key = plant([started(pid)]);
    expect((await recover()).of(key)?.ending).to.include({kind: 'lost'});
    expect(isAlive(pid)).to.equal(false);
  });

  it('has what it wrote until it was killed, and no arguments any more', async () => {
    const key = plant([]);
    fs.writeFileSync(path(key, 'args'), '[1]');
    fs.writeFileSync(path(key, 'out'), '');
    const [out, err] = ['out', 'err'].map((kind) => fs.openSync(path(key, kind), 'a'));
    // It goes on writing until it is dead, and says as often as it can how much.
    const child = spawn('sh', ['-c', 'while :; do echo more >&2; done'], {detached: true, stdio: ['ignore', out!, err!], env: {...process.env, NODED_CALL_KEY: key}});
    children.push(child);
    for (const fd of [out!, err!]) fs.closeSync(fd);
    await until('it writes', () => fs.statSync(path(key, 'err')).size > 0);
    const {of} = await recover();
    expect(of(key)?.ending).to.deep.include({kind: 'lost', stdoutBytes: 0, stderrBytes: fs.statSync(path(key, 'err')).size});
    expect(fs.readdirSync(join(runDir, 'calls')).sort()).to.deep.equal([`${key}.err`]);
  });

  it('has its stderr, although the journal says that stdout is lost', async () => {
    const key = plant([{...exit(0), stdout_lost: true}]);
    fs.writeFileSync(path(key, 'err'), 'why');
    expect((await recover()).of(key)?.ending).to.include({kind: 'lost', stdoutBytes: 0, stderrBytes: 3, unsized: true});
  });

  it('kills the process of a leave_running function, and nothing else in its group', async () => {
    const pid = await sleeper();
    const child = spawn('sh', ['-c', 'sleep 60 & echo $!; wait'], {detached: true, stdio: ['ignore', 'pipe', 'ignore']});
    children.push(child);
    const inGroup = Number(String((await once(child.stdout, 'data'))[0]));
    plant([started(pid)], {leave_running: true});
    plant([started(child.pid!)], {leave_running: true});
    await recover();
    await until('both are dead', () => !isAlive(pid) && !isAlive(child.pid!));
    expect(isAlive(inGroup)).to.equal(true);
  });

  it('is gone if it has a tombstone, with its files', async () => {
    const buried = plant([exit(0)]);
    fs.writeFileSync(path(buried, 'out'), '1');
    const other = plant([exit(0)]);
    const tombstone = {event: 'buried', time: 1_764_670_003, id: `1:0:${(1_764_670_000 - Number(buried)).toFixed(3)}:${buried}`, fn_name: 'f', role: 'master', request_id: null, outcome: 'ok'};
    writeLog(runDir, [[buried, JSON.stringify(tombstone)]]);
    expect((await recover()).recovered.map(({record}) => record.accepted.key)).to.deep.equal([other]);
    expect(fs.readdirSync(join(runDir, 'calls'))).to.deep.equal([]);
  });

  it('is gone if its acceptance is damaged, and its files with it', async () => {
    const key = plant([exit(0)]);
    fs.writeFileSync(path(key, 'args'), '[]');
    const other = plant([exit(0)]);
    const segment = join(runDir, 'log/0000000001.log');
    fs.writeFileSync(segment, fs.readFileSync(segment, 'latin1').replace('"event":"accepted"', '"event":"ackepted"'), 'latin1');
    expect((await recover()).recovered.map(({record}) => record.accepted.key)).to.deep.equal([other]);
    expect(fs.readdirSync(join(runDir, 'calls'))).to.deep.equal([]);
  });

  describe('of a noded of before the log', () => {
    const plantJournal = (key: string, lines: readonly object[], tail = ''): void => {
      const first = {event: 'accepted', time: 1_764_670_000, ppid: 1, fn_name: 'f', role: 'master', fingerprint: 'x'};
      fs.writeFileSync(path(key, 'call'), [first, ...lines].map((line) => `${JSON.stringify(line)}\n`).join('') + tail);
    };
    const [ended, live, unreadable] = ['00000000000000aa', '00000000000000bb', '00000000000000cc'] as const;

    it('is carried over to the log, whose journals go when nobody writes to them any more', async () => {
      plantJournal(ended, [exit(3)], '{"event":"outc');
      plantJournal(live, []);
      fs.symlinkSync('/etc/passwd', path(unreadable, 'call'));
      const buried = {time: Date.now() / 1000, id: '1:0:1764670000.000:00000000000000dd', key: '00000000000000dd', fn_name: 'f', role: 'master', request_id: 'request-1', outcome: 'ok'};
      fs.writeFileSync(join(runDir, 'tombstones.old'), `${JSON.stringify(buried)}\n{"time":17`);
      for (let times = 0; times < 2; times += 1) {
        const {of, tombstones} = await recover((key) => key === live);
        expect(of(ended)?.ending).to.include({kind: 'exited', exitCode: 3});
        expect(of(live)?.ending).to.equal(null);
        expect(tombstones.map(({requestId}) => requestId)).to.deep.equal(['request-1']);
        expect(fs.readdirSync(join(runDir, 'calls'))).to.have.members([`${live}.call`, `${unreadable}.call`]);
        expect(fs.readdirSync(runDir)).to.have.members(['calls', 'log']);
      }
    });
  });
});
