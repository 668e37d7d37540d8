import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import type {Ending} from '../../lib/base/outcome';
import type {FunctionSpec, SpawnRequest, SpawnSink} from '../../lib/call/spawner';
import {DurableSpawner} from '../../lib/proc/durable-spawner';
import {turn} from '../support/clock';

const key = '0123456789abcdef';
const spec: FunctionSpec = {name: 'f', program: '/f', maxRunning: null, maxOutputBytes: 10, killAfterMs: null, urgent: false, leaveRunning: false, user: null, nice: null, config: null};
const request: SpawnRequest = {key, spec, requestId: null, traceparent: null, args: null, accepted: null, spooled: true};
const exited: Ending = {kind: 'exited', exitCode: 0, signal: null, stdoutBytes: 1000, stderrBytes: 0, output: 'json', endedAtMs: 1, endedBoot: null};
const systemError = (code: string): Error => Object.assign(new Error(code), {code});

describe('the spawner of a durable noded', () => {
  let steps: string[];
  let disk: Promise<void>;
  let warnings: string[];
  let spawner: DurableSpawner;
  /** The sink that the spawner behind it was given. */
  let inner: SpawnSink | null;
  let reach: () => void;
  let fail: (error: Error) => void;

  beforeEach(() => {
    [steps, warnings, inner] = [[], [], null];
    disk = new Promise((resolve, reject) => ([reach, fail] = [resolve, reject]));
    const behind = {
      name: 'child' as const,
      inlineArgsBytes: 7,
      makesJournals: true,
      unavailable: null as string | null,
      spawn: (_request: SpawnRequest, sink: SpawnSink) => {
        steps.push('spawn');
        inner = sink;
        return {hasEnded: false, signal: (what: string) => void steps.push(what)};
      },
    };
    const spool = {
      onDisk: () => disk,
      outputOnDisk: async (_key: string, {stdoutBytes}: {readonly stdoutBytes: number}) => void steps.push(`sync ${stdoutBytes}`),
      refusal: (_key: string, errno: string) => new NodedError('spool_full', {message: errno}),
    };
    spawner = new DurableSpawner(behind, {spool, log: {warn: (_fields, message) => void warnings.push(message)}});
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

  it('starts nothing before the call is on disk, and keeps signals until then', async () => {
    const call = spawner.spawn(request, sink);
    await later();
    call.signal('kill');
    call.signal('terminate');
    expect([steps, call.hasEnded]).to.deep.equal([[], false]);
    reach();
    await later();
    expect(steps).to.deep.equal(['spawn', 'kill']);
    call.signal('terminate');
    inner!.started(5, {atMs: 1, boot: null});
    expect(steps).to.deep.equal(['spawn', 'kill', 'terminate', 'started 5']);
  });

  it('starts nothing that cannot be put on disk', async () => {
    spawner.spawn(request, sink);
    fail(systemError('EIO'));
    await later();
    expect(steps).to.deep.equal(['refused: EIO']);
  });

  it('starts an urgent call all the same: after an error at once, and else in its time', async () => {
    const urgent = {...request, spec: {...spec, urgent: true}};
    spawner.spawn(urgent, sink);
    fail(systemError('EIO'));
    await later();
    expect(steps).to.deep.equal(['spawn']);
    disk = new Promise(() => {});
    await new Promise<void>((resolve) => {
      const call = spawner.spawn(urgent, sink);
      const look = setInterval(() => {
        if (steps.length < 2) return;
        clearInterval(look);
        call.signal('kill');
        resolve();
      }, 10);
    });
    expect(steps).to.deep.equal(['spawn', 'spawn', 'kill']);
  });

  it('starts a call without files at once: nothing of it is on disk', () => {
    spawner.spawn({...request, spooled: false}, sink);
    expect(steps).to.deep.equal(['spawn']);
  });

  it('tells of no end before output and lines are on disk', async () => {
    spawner.sinkOf(key, sink).ended(exited);
    await later();
    expect(steps).to.deep.equal(['sync 1000']);
    reach();
    await later();
    expect(steps).to.deep.equal(['sync 1000', 'ended: exited']);
  });

  it('syncs no files of a call whose output stands in the log, nor of one without an end', async () => {
    reach();
    spawner.sinkOf(key, sink).ended({...exited, inJournal: true});
    spawner.sinkOf(key, sink).ended({kind: 'lost', reason: 'x', stdoutBytes: 5, stderrBytes: 0, endedAtMs: 1, endedBoot: null});
    await later();
    expect(steps).to.deep.equal(['ended: exited', 'ended: lost']);
  });

  it('tells of an end that cannot be put on disk, and warns', async () => {
    spawner.sinkOf(key, sink).ended(exited);
    fail(systemError('EIO'));
    await later();
    expect(steps).to.deep.equal(['sync 1000', 'ended: exited']);
    expect(warnings).to.deep.equal(['the end of a call may not be on disk: EIO']);
  });

  it('hands a refusal on', () => {
    spawner.sinkOf(key, sink).refused(new NodedError('spool_full'), 'ENOSPC');
    expect(steps).to.deep.equal(['refused: ENOSPC']);
  });
});
