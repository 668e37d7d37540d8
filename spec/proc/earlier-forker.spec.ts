/** A fork server of before the log, as an upgrade finds one: it makes journals, and noded writes the log for it. */
import {expect} from 'chai';
import * as fs from 'node:fs';
import {createServer} from 'node:net';
import type {Server, Socket} from 'node:net';
import * as os from 'node:os';
import {join} from 'node:path';
import {limits} from '../../lib/base/limits';
import type {Ending} from '../../lib/base/outcome';
import {drawKey} from '../../lib/call/call-id';
import {acceptedLine} from '../../lib/call/journal';
import {ForkSpawner} from '../../lib/proc/fork-spawner';
import {ProcessTrees} from '../../lib/proc/process-tree';
import {Spool} from '../../lib/proc/spool';
import {JsonScanner} from '../../lib/rpc/json-scan';
import {acceptance} from '../support/fake-host';
import {functionSpec} from '../support/fake-spawner';
import {frame, u32, u64} from '../support/frames';
import {eventsOnFile, recordOnFile} from '../support/journals';
import {until} from '../support/until';

const moment = [u64(1_764_670_000_123), u64(5_250)];
const started = (type: 'L' | 'A', key: string): Buffer => frame(type, Buffer.from(key), u32(4188), u64(7), ...moment);
const ended = (key: string, kind: number, code: number, stage: number, noted: string | null): Buffer =>
  frame('E', Buffer.from(key), Buffer.from([kind]), u32(code), Buffer.from([stage]), moment[0]!, u64(1), u64(2), u64(3), u64(noted?.length ?? 0), u64(0), Buffer.from([noted === null ? 2 : 3]), moment[1]!, Buffer.from(noted ?? ''));

describe('a fork server of before the log', () => {
  let runDir: string;
  let spool: Spool;
  let server: Server;
  let socket: Socket;
  let heard: Buffer;
  let spawner: ForkSpawner;
  let warnings: string[];
  const log = {info: () => {}, warn: (_fields: object, message: string) => void warnings.push(message)};
  const [live] = [drawKey()];

  beforeEach(async () => {
    runDir = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-earlier-')));
    spool = new Spool({runDir, minFreeBytes: 0, log});
    [heard, warnings] = [Buffer.alloc(0), []];
    server = createServer((connection) => {
      socket = connection;
      connection.on('data', (chunk) => (heard = Buffer.concat([heard, chunk])));
      connection.write(Buffer.concat([started('L', live), frame('W', u32(3), u32(77))]));
    });
    await new Promise<void>((resolve) => server.listen(join(runDir, 'forker.sock'), resolve));
    spawner = new ForkSpawner({spool, trees: new ProcessTrees({log}), newScanner: () => new JsonScanner({maxDepth: limits.maxDepth}), log, program: '/nonexistent', runDir});
    expect([...(await spawner.connect()).keys()]).to.deep.equal([live]);
  });
  afterEach(async () => {
    await spawner.leave();
    server.close();
    fs.rmSync(runDir, {recursive: true});
  });

  const journal = (key: string): string => join(runDir, 'calls', `${key}.call`);
  /** As the fork server makes it. */
  const makeJournal = (key: string): void => fs.writeFileSync(journal(key), '{"event":"accepted"}\n');
  const spawn = (key: string): {ending: Ending | null; line: string} => {
    const run: {ending: Ending | null; line: string} = {ending: null, line: acceptedLine(acceptance({key}), false)};
    const sink = {started: () => {}, ended: (ending: Ending) => void (run.ending = ending), refused: () => {}};
    spawner.spawn({key, spec: functionSpec(), requestId: null, traceparent: null, args: Buffer.from('1'), accepted: run.line, spooled: true}, sink);
    return run;
  };

  it('is told of no segment, and gets the first line of a journal as it made them', async () => {
    const {line} = spawn(drawKey());
    await until('the start is there', () => heard.length > 0);
    expect(heard.toString('latin1', 4, 5)).to.equal('S');
    expect(heard.toString('utf8').endsWith(`${line}\n`)).to.equal(true);
  });

  it('has what it reports put into the log, and its journals removed', async () => {
    const key = drawKey();
    const run = spawn(key);
    makeJournal(key);
    socket.write(Buffer.concat([started('A', key), ended(key, 0, 0, 0, '[1]')]));
    const ending = await until('it has ended', () => run.ending ?? false);
    expect(ending).to.include({kind: 'exited', exitCode: 0, output: 'json', inJournal: true});
    expect(eventsOnFile(runDir, key)).to.include.members(['accepted', 'started', 'ended']);
    expect(recordOnFile(runDir, key)).to.deep.nested.include({'started.pid': 4188, 'ended.noted': {stdout: '[1]', stderr: ''}});
    expect(fs.existsSync(journal(key))).to.equal(false);
  });

  it('that could not start a process has that put into the log', async () => {
    const key = drawKey();
    const run = spawn(key);
    makeJournal(key);
    socket.write(ended(key, 2, 11, 2, null));
    expect(await until('it has ended', () => run.ending ?? false)).to.include({kind: 'not_started', errno: 'EAGAIN', stage: 'spawn'});
    expect(recordOnFile(runDir, key)).to.nested.include({'accepted.key': key, 'ended.errno': 'EAGAIN'});
    expect(fs.existsSync(journal(key))).to.equal(false);
  });

  it('goes on with a call of before, whose end is put into the log', async () => {
    let ending: Ending | null = null;
    spool.putOnFile(live, acceptedLine(acceptance({key: live}), false));
    makeJournal(live);
    spawner.adopt(live, functionSpec(), {started: () => {}, ended: (its) => void (ending = its), refused: () => {}});
    socket.write(ended(live, 1, 9, 0, ''));
    expect(await until('it has ended', () => ending ?? false)).to.include({kind: 'exited', signal: 'SIGKILL', output: 'empty'});
    expect(recordOnFile(runDir, live)).to.nested.include({'ended.signal': 'SIGKILL'});
    expect(fs.existsSync(journal(live))).to.equal(false);
  });

  for (const when of ['before', 'after'] as const) {
    it(`gives the output of a call without files, whose end comes ${when} the call is taken over`, async () => {
      let ending: Ending | null = null;
      const adopt = (): void => void spawner.adopt(live, functionSpec(), {started: () => {}, ended: (its) => void (ending = its), refused: () => {}});
      if (when === 'after') adopt();
      const output = (stream: number, text: string): Buffer => frame('O', Buffer.from(live), Buffer.from([stream]), Buffer.from(text));
      socket.write(Buffer.concat([output(1, '[7]'), output(2, 'note'), ended(live, 0, 0, 0, null), frame('M', Buffer.from('it has ended'))]));
      await until('that was read', () => warnings.some((warning) => warning.includes('it has ended')));
      if (when === 'before') adopt();
      expect(await until('it has ended', () => ending ?? false)).to.include({kind: 'exited', exitCode: 0, output: 'json', stdoutBytes: 3, stderrBytes: 4});
      expect(spool.hasUnspooled(live)).to.equal(true);
      expect([spool.read(live, 'stdout', 0, 9), spool.read(live, 'stderr', 0, 9)].map(String)).to.deep.equal(['[7]', 'note']);
    });
  }

  it('that lost what a function wrote has that put into the log', async () => {
    const key = drawKey();
    const run = spawn(key);
    const gone = ended(key, 0, 0, 0, null);
    gone.fill(0xff, 5 + 16 + 38, 5 + 16 + 46);
    socket.write(Buffer.concat([started('A', key), gone]));
    expect(await until('it has ended', () => run.ending ?? false)).to.include({kind: 'lost'});
    expect(recordOnFile(runDir, key)).to.nested.include({'ended.stdoutLost': true});
  });

  it('does not keep segments from going', async () => {
    spool.log.compact({isWanted: () => false, wantedBytes: 0});
    for (let bytes = 0; bytes < 4 * limits.segmentBytes; bytes += 4_000) spool.log.appendNow(live, [JSON.stringify({pad: 'x'.repeat(4_000)})]);
    await until('the oldest has gone', () => !fs.existsSync(join(runDir, 'log/0000000001.log')));
  });
});
