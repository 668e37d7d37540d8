import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {drawKey, makeCallId} from '../../lib/call/call-id';
import {sealLine} from '../../lib/proc/log-lines';
import {NodedDaemon} from '../support/daemon';
import {linesOnFile, writeLog} from '../support/journals';
import type {Answer} from '../support/daemon';

/** The lines of a call of a real daemon, and what that daemon answered for its call. */
interface Recorded {
  readonly title: string;
  readonly lines: readonly string[];
  readonly answer: Answer;
  readonly files: ReadonlyMap<'out' | 'err', Buffer>;
}

/** Lines as a noded leaves them that is killed in the middle of its work. */
interface Cut {
  readonly title: string;
  readonly key: string;
  readonly requestId: string;
  /** Whole ones, as JSON; and the beginning of one more. */
  readonly lines: readonly string[];
  readonly torn: string;
  /** Events that stand there whole. */
  readonly events: readonly string[];
  readonly recorded: Recorded;
}

const functions = {
  cat: {body: '#!/bin/sh\nexec cat\n'},
  fail: {body: '#!/bin/sh\necho \'{"why":"no"}\'\necho note >&2\nexit 3\n'},
  garbage: {body: '#!/bin/sh\necho \'{"half":\'\n'},
  quiet: {body: '#!/bin/sh\nexit 0\n'},
  die: {body: '#!/bin/sh\nkill -9 $$\n'},
  vanishing: {body: '#!/bin/sh\n'},
  sleeper: {body: '#!/bin/sh\nexec sleep 60\n'},
  polite: {body: '#!/bin/sh\ntrap \'echo "\\"saved\\""; exit 0\' TERM\necho ready >&2\nwhile :; do sleep 0.02; done\n'},
  large: {body: '#!/bin/sh\nexec cat /dev/zero\n', manifest: 'max_output = 1000\n'},
};

function record(daemon: NodedDaemon, title: string, answer: Answer): Recorded {
  const key = answer.call.id.split(':')[3]!;
  const path = (kind: string): string => join(daemon.runDir, 'calls', `${key}.${kind}`);
  const kinds = (['out', 'err'] as const).filter((kind) => fs.existsSync(path(kind)));
  return {title, lines: linesOnFile(daemon.runDir, key), answer, files: new Map(kinds.map((kind) => [kind, fs.readFileSync(path(kind))]))};
}

/** One call of each kind of end. */
async function recordAll(daemon: NodedDaemon): Promise<Recorded[]> {
  const recorded: Recorded[] = [];
  let count = 0;
  const more = (): object => ({request_id: `recorded.${++count}`, reason: 'for the journal'});
  fs.unlinkSync(join(daemon.functionsDir, 'vanishing'));
  for (const name of ['cat', 'fail', 'garbage', 'quiet', 'die', 'vanishing', 'large']) {
    recorded.push(record(daemon, name, (await daemon.startFunction(name, {n: 1764670000123456}, 20, more())).json));
  }
  for (const name of ['sleeper', 'polite']) {
    const {json} = await daemon.startFunction(name, null, 0, more());
    if (name === 'polite') await daemon.waitForFunction(json.fnc_id, 10, {wake_on_stderr: true, stderr_from: 0});
    recorded.push(record(daemon, `aborted ${name}`, (await daemon.put('AbortFunction', {fnc_id: json.fnc_id, timeout: 20})).json));
  }
  const {json} = await daemon.startFunction('sleeper', null, 20, {...more(), abort_after: 0.05});
  recorded.push(record(daemon, 'sleeper past its deadline', json));
  return recorded;
}

const eventOf = (line: string): string => (JSON.parse(line) as {event: string}).event;

/** The lines of a call after each of them, and in the middle of each. */
function cutsOf(recorded: Recorded): Cut[] {
  const cuts: Cut[] = [];
  for (let whole = 0; whole <= recorded.lines.length; whole += 1) {
    for (const share of whole === recorded.lines.length ? [0] : [0, 0.01, 0.5, 1]) {
      const key = drawKey();
      const requestId = `cut.${key}`;
      const lines = recorded.lines.map((line) => line.replace(/"recorded\.\d+"/, JSON.stringify(requestId)));
      const [next = ''] = lines.splice(whole);
      const torn = sealLine(key, next).slice(0, -1);
      // A line without its newline is a whole fact: the next append begins with one.
      const events = share === 1 ? [...lines, next] : lines;
      cuts.push({title: `${recorded.title}, cut at ${share} behind line ${whole}`, key, requestId, lines, torn: torn.slice(0, Math.ceil(torn.length * share)), events: events.map(eventOf), recorded});
    }
  }
  return cuts;
}

function plant(daemon: NodedDaemon, {key, lines, torn, recorded}: Cut): void {
  const path = (kind: string): string => join(daemon.runDir, 'calls', `${key}.${kind}`);
  writeLog(daemon.runDir, lines.map((line) => [key, line]));
  fs.appendFileSync(join(daemon.runDir, 'log/0000000001.log'), `${torn}\n`);
  fs.writeFileSync(path('args'), 'null', {mode: 0o600});
  for (const [kind, bytes] of recorded.files) fs.writeFileSync(path(kind), bytes, {mode: 0o600});
}

function idOf({key, events, recorded}: Cut): string {
  const accepted = JSON.parse(recorded.lines[0]!) as {time: number; ppid: number};
  const cpid = events.includes('started') ? Number(recorded.answer.call.id.split(':')[1]) : 0;
  return makeCallId({ppid: accepted.ppid, cpid, acceptedAtMs: Math.round(accepted.time * 1000), key});
}

/** What must be the same before and after; `elapsed` and the like are read from clocks. */
function facts({finished, result, error, call}: Answer): object {
  const {fn_name, role, state, outcome, exit_code, signal, stopped_by, ended_at, stderr} = call;
  return {finished, result, error, fn_name, role, state, outcome, exit_code, signal, stopped_by, ended_at, stderr};
}

describe('recovery of a noded that was killed between any two lines of a call, or in the middle of one', function () {
  this.timeout(60_000);
  let daemon: NodedDaemon;
  let cuts: Cut[] = [];

  before(async () => {
    daemon = await NodedDaemon.start({functions});
    const recorded = await recordAll(daemon);
    await daemon.kill();
    cuts = recorded.flatMap(cutsOf);
    for (const cut of cuts) plant(daemon, cut);
    await daemon.start();
  });
  after(() => daemon.dispose());

  const check = async (filter: (events: readonly string[]) => boolean, look: (cut: Cut) => Promise<void>): Promise<void> => {
    const chosen = cuts.filter(({events}) => filter(events));
    expect(chosen).to.not.have.length(0);
    for (const cut of chosen) {
      await look(cut).catch((error: Error) => {
        error.message = `${cut.title}: ${error.message}\n${cut.lines.join('\n')}\n${cut.torn}`;
        throw error;
      });
    }
  };

  it('has made lines of every outcome that a function can have', () => {
    const outcomes = new Set(cuts.map(({recorded}) => recorded.answer.call.outcome));
    expect([...outcomes].sort()).to.deep.equal(['aborted', 'deadline', 'failed', 'invalid_output', 'ok', 'output_too_large', 'signaled', 'start_failed']);
  });

  it('knows nothing of a call whose acceptance was not on file, and keeps none of its files', async () => {
    await check((events) => events.length === 0, async (cut) => {
      expect((await daemon.get(`/calls/${idOf(cut)}`)).json.code).to.equal('unknown_call');
      expect((await daemon.put('WaitForFunction', {request_id: cut.requestId, timeout: 0})).json.code).to.equal('unknown_request');
      expect(fs.readdirSync(join(daemon.runDir, 'calls')).filter((name) => name.startsWith(cut.key))).to.deep.equal([]);
    });
  });

  it('calls lost what was accepted and has no end on file', async () => {
    await check((events) => events.length > 0 && !events.includes('ended'), async (cut) => {
      const {json} = await daemon.get(`/calls/${idOf(cut)}`);
      expect(json).to.deep.include({finished: true, result: null});
      expect(json.call).to.include({id: idOf(cut), outcome: 'lost', state: 'ended', exit_code: null, signal: null, request_id: cut.requestId});
      expect(json.error).to.include({code: 'lost'});
    });
  });

  it('answers for what had ended as before, whether or not the outcome was on file', async () => {
    await check((events) => events.includes('ended'), async (cut) => {
      const {json} = await daemon.get(`/calls/${idOf(cut)}`);
      expect(json.call).to.include({id: idOf(cut), request_id: cut.requestId});
      expect(facts(json)).to.deep.equal(facts(cut.recorded.answer));
    });
  });

  it('holds every request ID that was accepted: nothing runs again', async () => {
    await check((events) => events.length > 0, async (cut) => {
      const {json} = await daemon.put('WaitForFunction', {request_id: cut.requestId, timeout: 0});
      expect(json.call.id).to.equal(idOf(cut));
    });
    expect((await daemon.get('/status')).json.counts).to.include({starting: 0, running: 0, stopping: 0});
  });

  it('says the same after the next restart', async () => {
    const seen = new Map<Cut, object>();
    const known = (events: readonly string[]): boolean => events.length > 0;
    await check(known, async (cut) => void seen.set(cut, facts((await daemon.get(`/calls/${idOf(cut)}`)).json)));
    await daemon.kill();
    await daemon.start();
    await check(known, async (cut) => {
      expect(facts((await daemon.get(`/calls/${idOf(cut)}`)).json)).to.deep.equal(seen.get(cut));
      const lines = linesOnFile(daemon.runDir, cut.key);
      const whole = (event: string): string[] => lines.filter((line) => line.startsWith(`{"event":"${event}"`));
      // An undisturbed call whose output stands in its `ended` line needs no word more.
      const saysAll = whole('stopping').length === 0 && whole('ended').some((line) => /"std(out|err)":/.test(line));
      expect(whole('outcome').length).to.be.within(saysAll ? 0 : 1, 1);
    });
  });
});
