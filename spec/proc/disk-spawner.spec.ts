import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import type {Ending} from '../../lib/base/outcome';
import type {FunctionSpec, SpawnRequest, SpawnSink, Spawner} from '../../lib/call/spawner';
import {DiskSpawner} from '../../lib/proc/disk-spawner';
import {turn} from '../support/clock';
import {until} from '../support/until';

const key = '0123456789abcdef';
const spec: FunctionSpec = {name: 'f', program: '/f', maxRunning: null, maxOutputBytes: 10, killAfterMs: null, urgent: false, leaveRunning: false, user: null, nice: null, config: null};
const request: SpawnRequest = {key, spec, requestId: null, traceparent: null, args: null, accepted: null, spooled: true};
const urgent: SpawnRequest = {...request, spec: {...spec, urgent: true}, args: Buffer.from('[]')};
const exited: Ending = {kind: 'exited', exitCode: 0, signal: null, stdoutBytes: 1000, stderrBytes: 0, output: 'json', endedAtMs: 1, endedBoot: null};
const systemError = (code: string): Error => Object.assign(new Error(code), {code});

/** Something that somebody waits for. */
class Step {
  pass: () => void = () => {};
  fail: (error: Error) => void = () => {};
  readonly done = new Promise<void>((resolve, reject) => ([this.pass, this.fail] = [resolve, reject]));

  constructor() {
    this.done.catch(() => {});
  }
}

describe('the spawner over a disk', () => {
  let steps: string[];
  let files: Step;
  let disk: Step;
  let warnings: string[];
  let unspooled: boolean;
  let spawner: DiskSpawner;
  /** The sink that the spawner behind it was given. */
  let inner: SpawnSink | null;

  const over = (durable: boolean, makesJournals = true): DiskSpawner => {
    const behind: Spawner = {
      name: 'child',
      inlineArgsBytes: 7,
      makesJournals,
      unavailable: null,
      spawn: ({spooled}, itsSink) => {
        steps.push(spooled ? 'spawn' : 'spawn without files');
        inner = itsSink;
        return {hasEnded: false, signal: (what: string) => void steps.push(what)};
      },
    };
    const spool = {
      made: () => files.done,
      onDisk: () => disk.done,
      files: {outputOnDisk: async (_key: string, {stdoutBytes}: {readonly stdoutBytes: number}) => void steps.push(`sync ${stdoutBytes}`)},
      refusal: (_key: string, errno: string) => {
        warnings.push(errno);
        return new NodedError('spool_full', {message: errno});
      },
      append: (_key: string, line: string) => void steps.push(`line: ${(JSON.parse(line) as {readonly event: string}).event}`),
      hasUnspooled: () => unspooled,
      putUnspooledOnFile: () => void steps.push('files'),
    };
    // Of the files of calls it knows one thing.
    const options = {spool, durable, log: {warn: (_fields: object, message: string) => void warnings.push(message)}} as unknown as ConstructorParameters<typeof DiskSpawner>[1];
    return new DiskSpawner(behind, options);
  };
  beforeEach(() => {
    [steps, warnings, inner, files, disk, unspooled] = [[], [], null, new Step(), new Step(), false];
    spawner = over(true);
  });
  const sink: SpawnSink = {
    started: (pid) => void steps.push(`started ${pid}`),
    ended: ({kind}) => void steps.push(`ended: ${kind}`),
    refused: (_refusal, errno) => void steps.push(`refused: ${errno}`),
  };
  const later = async (): Promise<void> => {
    for (let turns = 0; turns < 3; turns += 1) await turn();
  };

  it('is as the one behind it, but leaves first lines to the table', () => {
    expect(spawner).to.include({name: 'child', inlineArgsBytes: 7, unavailable: null, makesJournals: false});
  });

  it('starts nothing before the call is on file, and keeps signals until then', async () => {
    spawner = over(false);
    const call = spawner.spawn(request, sink);
    await later();
    call.signal('kill');
    call.signal('terminate');
    expect([steps, call.hasEnded]).to.deep.equal([[], false]);
    files.pass();
    await later();
    expect(steps).to.deep.equal(['spawn']);
    inner!.started(5, {atMs: 1, boot: null});
    disk.pass();
    await later();
    expect(steps).to.deep.equal(['spawn', 'started 5', 'kill']);
  });

  it('sends a signal when it is on file who wants it, after an error at once, and else in its time', async () => {
    const call = spawner.processOf({hasEnded: false, signal: (what) => void steps.push(what)});
    call.signal('terminate');
    await later();
    expect([steps, call.hasEnded]).to.deep.equal([[], false]);
    disk.pass();
    await later();
    expect(steps).to.deep.equal(['terminate']);
    disk = new Step();
    call.signal('kill');
    disk.fail(systemError('EIO'));
    await later();
    expect(steps).to.deep.equal(['terminate', 'kill']);
    disk = new Step();
    call.signal('terminate');
    call.signal('kill');
    await until('they are sent', () => steps.length > 3);
    expect(steps).to.deep.equal(['terminate', 'kill', 'terminate', 'kill']);
  });

  it('starts nothing before the call is on disk, if that is to be', async () => {
    spawner.spawn(request, sink);
    files.pass();
    await later();
    expect(steps).to.deep.equal([]);
    disk.pass();
    await later();
    expect(steps).to.deep.equal(['spawn']);
  });

  for (const what of ['files', 'disk'] as const) {
    it(`starts nothing that cannot be put on ${what === 'files' ? 'file' : 'disk'}`, async () => {
      spawner.spawn(request, sink);
      if (what === 'disk') files.pass();
      (what === 'files' ? files : disk).fail(systemError('EIO'));
      await later();
      expect(steps).to.deep.equal(['refused: EIO']);
    });
  }

  it('starts an urgent call without files: when it is on file, after an error at once, and else in its time', async () => {
    files.pass();
    disk.pass();
    spawner.spawn(urgent, sink);
    await later();
    [files, disk] = [new Step(), new Step()];
    files.fail(systemError('EIO'));
    spawner.spawn(urgent, sink);
    await later();
    expect([steps, warnings]).to.deep.equal([['spawn without files', 'spawn without files'], ['EIO']]);
    files = new Step();
    const call = spawner.spawn(urgent, sink);
    await until('it is started', () => steps.length === 3);
    disk.pass();
    call.signal('kill');
    await later();
    expect(steps.slice(2)).to.deep.equal(['spawn without files', 'kill']);
  });

  it('puts on file what came of an urgent call before it tells of its end, and lets it wait for that no longer than for its start', async () => {
    files.pass();
    spawner = over(false);
    spawner.spawn(urgent, sink);
    await later();
    inner!.started(process.pid, {atMs: 1, boot: null});
    inner!.ended(exited);
    await later();
    expect(steps.splice(0)).to.deep.equal(['spawn without files', 'line: started', `started ${process.pid}`, 'files', 'line: ended']);
    disk.pass();
    await later();
    expect(steps.splice(0)).to.deep.equal(['ended: exited']);
    disk = new Step();
    spawner.spawn(urgent, sink);
    await later();
    inner!.ended({kind: 'not_started', errno: 'ENOENT', stage: 'exec', endedAtMs: 1, endedBoot: null});
    await until('it is told', () => steps.includes('ended: not_started'));
    expect(steps.splice(0)).to.deep.equal(['spawn without files', 'files', 'line: ended', 'ended: not_started']);
    inner!.refused(new NodedError('spool_full'), 'ENOSPC');
    expect(steps).to.deep.equal(['refused: ENOSPC']);
  });

  it('does the same for an urgent call of an earlier noded', async () => {
    unspooled = true;
    disk.pass();
    spawner.sinkOf(key, sink).ended(exited);
    spawner.sinkOf(key, sink).ended({kind: 'lost', reason: 'x', stdoutBytes: 5, stderrBytes: 0, endedAtMs: 1, endedBoot: null});
    await later();
    expect(steps).to.deep.equal(['files', 'line: ended', 'files', 'sync 1000', 'ended: lost', 'ended: exited']);
  });

  it('starts a call without files at once: nothing of it is on disk', () => {
    spawner.spawn({...request, spooled: false}, sink);
    expect(steps).to.deep.equal(['spawn without files']);
  });

  it('tells of no end before output and lines are on disk', async () => {
    spawner.sinkOf(key, sink).ended(exited);
    await later();
    expect(steps).to.deep.equal(['sync 1000']);
    disk.pass();
    await later();
    expect(steps).to.deep.equal(['sync 1000', 'ended: exited']);
  });

  it('waits for lines alone if nothing need be on disk, and for nothing where a fork server wrote them', async () => {
    over(false).sinkOf(key, sink).ended(exited);
    await later();
    expect(steps.splice(0)).to.deep.equal(['ended: exited']);
    over(false, false).sinkOf(key, sink).ended(exited);
    await later();
    expect(steps).to.deep.equal([]);
    disk.pass();
    await later();
    expect(steps).to.deep.equal(['ended: exited']);
  });

  it('syncs no files of a call whose output stands in the log, nor of one without an end', async () => {
    disk.pass();
    spawner.sinkOf(key, sink).ended({...exited, inJournal: true});
    spawner.sinkOf(key, sink).ended({kind: 'lost', reason: 'x', stdoutBytes: 5, stderrBytes: 0, endedAtMs: 1, endedBoot: null});
    await later();
    expect(steps).to.deep.equal(['ended: exited', 'ended: lost']);
  });

  it('tells of an end that cannot be put on disk, and warns', async () => {
    spawner.sinkOf(key, sink).ended(exited);
    disk.fail(systemError('EIO'));
    await later();
    expect(steps).to.deep.equal(['sync 1000', 'ended: exited']);
    expect(warnings).to.deep.equal(['the end of a call may not be on disk: EIO']);
  });

  it('hands a refusal on', () => {
    spawner.sinkOf(key, sink).refused(new NodedError('spool_full'), 'ENOSPC');
    expect(steps).to.deep.equal(['refused: ENOSPC']);
  });
});
