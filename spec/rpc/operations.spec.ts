/** The operations end to end: times, aborts, request IDs and waits for many (DESIGN.md section 8). */
import {expect} from 'chai';
import {writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import type {Answer} from '../support/daemon';
import {sampleOf} from '../support/metrics';
import {programs} from '../support/programs';
import {until} from '../support/until';

const functions = {
  cat: programs.cat,
  fails: programs.fails,
  forever: programs.forever,
  until_file: programs.until_file,
  bounded: {...programs.forever, manifest: 'abort_after = 200\nmax_abort_after = 400\nkill_after = 1\n'},
  capped: {...programs.forever, manifest: 'max_abort_after = 400\nkill_after = 1\n'},
  stubborn: {body: '#!/bin/sh\ntrap "" TERM\necho ready >&2\nwhile :; do sleep 0.05; done\n', manifest: 'kill_after = 1000\n'},
  patient: {body: '#!/bin/sh\ntrap "" TERM\necho ready >&2\nwhile :; do sleep 0.05; done\n', manifest: 'kill_after = 0\n'},
  traced: {body: '#!/bin/sh\nprintf \'"%s|%s|%s"\' "${TRACEPARENT-none}" "$NODED_FN_NAME" "${NODED_REQUEST_ID-none}"\n'},
};

interface Many {
  readonly finished: readonly Answer[];
  readonly unfinished: readonly string[];
  readonly unknown: readonly {readonly fnc_id: string; readonly code: string}[];
}

describe('operations', () => {
  let node: NodedDaemon;
  let started: string[] = [];
  let files = 0;

  before(async () => {
    node = await NodedDaemon.start({functions});
  });
  afterEach(async () => {
    await Promise.all(started.splice(0).map((callId) => node.put('AbortFunction', {fnc_id: callId, timeout: 10, kill_after: 0.01})));
  });
  after(() => node.dispose());

  const newFile = (): string => join(node.root, `go-on-${++files}`);
  const begin = async (fnName: string, args: unknown = null, more: object = {}): Promise<string> => {
    const {json, text} = await node.startFunction(fnName, args, 0, more);
    expect(json.fnc_id, text).to.be.a('string');
    started.push(json.fnc_id!);
    return json.fnc_id!;
  };
  const waitForMany = async (callIds: readonly string[], timeout: number): Promise<Many> => JSON.parse((await node.put('WaitForFunctions', {fnc_ids: callIds, timeout})).text) as Many;
  const abort = (callId: string, timeout: number, more: object = {}): Promise<{json: Answer}> => node.put('AbortFunction', {fnc_id: callId, timeout, ...more});

  describe('times', () => {
    /** Seconds from the start of a call to its deadline, as the answer tells them; null without one. */
    const deadlineOf = async (fnName: string, more: object = {}): Promise<number | null> => {
      const callId = await begin(fnName, null, more);
      const {abort_at: at, started_at: from} = (await node.waitForFunction(callId, 0)).json.call as unknown as {abort_at: number | null; started_at: number};
      return at === null ? null : Math.round((at - from) / 10) * 10;
    };

    it('a wait is no longer than max_wait, whatever it says', async () => {
      const brief = await NodedDaemon.start({functions, config: '[limits]\nmax_wait = 0.2\n'});
      try {
        const {json} = await brief.startFunction('forever', null, 1e9);
        expect(json.finished).to.equal(false);
        const again = await brief.waitForFunction(json.fnc_id, 86_400);
        expect(again.json.finished).to.equal(false);
        expect(again.json.waited).to.be.at.least(0.19).and.below(60);
        const many = await brief.put('WaitForFunctions', {fnc_ids: [json.fnc_id], timeout: 300});
        expect(JSON.parse(many.text)).to.deep.include({finished: [], unfinished: [json.fnc_id]});
        const stopped = await brief.put('AbortFunction', {fnc_id: json.fnc_id, timeout: 1e6, kill_after: 0.01});
        expect(stopped.status).to.equal(200);
      } finally {
        await brief.dispose();
      }
    });

    it('a call has the deadline that its request says', async () => {
      expect(await deadlineOf('forever')).to.equal(null);
      expect(await deadlineOf('forever', {abort_after: 5_000})).to.equal(5_000);
    });

    it('the manifest says it where the request does not, and bounds it where it does', async () => {
      expect(await deadlineOf('bounded')).to.equal(200);
      expect(await deadlineOf('bounded', {abort_after: 100})).to.equal(100);
      expect(await deadlineOf('bounded', {abort_after: 300})).to.equal(300);
      expect(await deadlineOf('bounded', {abort_after: 86_400})).to.equal(400);
      expect(await deadlineOf('capped')).to.equal(400);
      expect(await deadlineOf('capped', {abort_after: 100_000})).to.equal(400);
    });

    it('a deadline ends the call; the wait that runs over it is told', async () => {
      const {json} = await node.startFunction('forever', null, 20, {abort_after: 0.2});
      expect(json.call).to.include({outcome: 'deadline', stopped_by: 'deadline', signal: 'SIGTERM'});
      expect(json.error).to.include({code: 'deadline'});
    });

    it('timeout 0 is answered once the process runs, with its whole call ID, even if it ends at once', async () => {
      for (let round = 0; round < 10; round += 1) {
        const {json} = await node.startFunction('cat', round, 0);
        expect(json.call.id).to.match(/^\d+:[1-9]\d*:\d+\.\d+:[0-9a-f]{16}$/);
        const {json: ended} = await node.waitForFunction(json.call.id, 20);
        expect(ended).to.include({finished: true, result: round});
        expect(ended.call.id).to.equal(json.call.id);
      }
    });
  });

  describe('AbortFunction', () => {
    const ready = async (fnName: string): Promise<string> => {
      const callId = await begin(fnName);
      await until('it ignores SIGTERM', async () => (await node.waitForFunction(callId, 0)).json.call.stderr.text.includes('ready'));
      return callId;
    };

    it('sends SIGKILL after the kill_after of the request, not of the manifest', async () => {
      const {json} = await abort(await ready('stubborn'), 20, {kill_after: 0.05});
      expect(json.call).to.include({outcome: 'aborted', signal: 'SIGKILL', stopped_by: 'aborted'});
    });

    it('can be asked again to kill sooner, but not later; the first cause stays', async () => {
      const callId = await ready('patient');
      expect((await abort(callId, 0)).json.call).to.include({state: 'stopping', outcome: null});
      const {json} = await abort(callId, 20, {kill_after: 0.05});
      expect(json.call).to.include({outcome: 'aborted', signal: 'SIGKILL'});
      expect((await abort(callId, 0, {kill_after: 0.01})).json.call).to.include({outcome: 'aborted', signal: 'SIGKILL', ended_at: json.call.ended_at});
    });

    it('waits no longer than its timeout, and answers all who wait', async () => {
      const callId = await ready('patient');
      const wait = node.waitForFunction(callId, 60);
      expect((await abort(callId, 0.1)).json).to.include({finished: false, fnc_id: callId});
      await abort(callId, 20, {kill_after: 0.01});
      expect((await wait).json.call.outcome).to.equal('aborted');
    });

    it('finds the call by its request ID', async () => {
      const callId = await begin('forever', null, {request_id: 'abort.by.request'});
      const {json} = await node.put('AbortFunction', {request_id: 'abort.by.request', timeout: 20});
      expect(json.call).to.include({id: callId, outcome: 'aborted'});
    });

    it('gives a call that has ended its true outcome', async () => {
      const {call} = (await node.startFunction('cat', 7, 20)).json;
      const {json} = await abort(call.id, 5);
      expect(json).to.include({finished: true, result: 7});
      expect(json.call).to.include({outcome: 'ok', stopped_by: null});
    });
  });

  describe('request IDs', () => {
    it('make of many starts one call; all wait along, and one of them has started it', async () => {
      const before = sampleOf((await node.get('/metrics')).text, 'noded_duplicates_total');
      const file = newFile();
      const more = {request_id: 'many.starts.one.call'};
      const starts = Array.from({length: 8}, () => node.startFunction('until_file', file, 60, more));
      await until('all wait', async () => (await node.get('/status')).json.counts.waiters === 8);
      const early = await node.startFunction('until_file', file, 0, more);
      expect(early.json).to.include({finished: false}).and.to.have.nested.property('call.duplicate', true);
      writeFileSync(file, '');
      const answers = (await Promise.all(starts)).map(({json}) => json);
      expect(answers.map(({result}) => result)).to.deep.equal(Array(8).fill('seen'));
      expect(new Set(answers.map(({call}) => call.id)).size).to.equal(1);
      expect(answers.filter(({call}) => !call.duplicate)).to.have.lengthOf(1);
      expect(sampleOf((await node.get('/metrics')).text, 'noded_duplicates_total') - before).to.equal(8);
    });

    it('tell arguments apart byte for byte', async () => {
      const start = (args: string): Promise<{status: number}> => node.request('PUT', '/StartFunction', `{"fn_name":"cat","timeout":20,"request_id":"byte.for.byte","fn_args":${args}}`);
      expect((await start('{"a":1}')).status).to.equal(200);
      expect((await start('{"a":1}')).status).to.equal(200);
      expect((await start('{"a":1.0}')).status).to.equal(422);
    });
  });

  describe('WaitForFunctions', () => {
    it('answers each of many calls once, however often it is named', async () => {
      const ended = (await Promise.all(Array.from({length: 20}, (_, n) => node.startFunction('cat', n, 20)))).map(({json}) => json.call.id);
      const running = await begin('forever');
      const stranger = '1:2:3.000:00000000deadbeef';
      const many = await waitForMany([...ended, running, ...ended, stranger, running, stranger], 60);
      expect(many.finished.map(({call}) => call.id)).to.deep.equal(ended);
      expect(many.finished.map(({result}) => result)).to.deep.equal(Array.from({length: 20}, (_, n) => n));
      expect(many.unfinished).to.deep.equal([running]);
      expect(many.unknown).to.deep.equal([{fnc_id: stranger, code: 'unknown_call'}]);
    });

    it('names each call as the request did, also by the ID that it had while it was starting', async () => {
      const early = (callId: string): string => callId.replace(/^(\d+):\d+:/, '$1:0:');
      const running = await begin('forever');
      const {call} = (await node.startFunction('cat', 1, 20)).json;
      await node.put('ForgetFunction', {fnc_id: call.id});
      const many = await waitForMany([early(running), early(call.id)], 0);
      expect(many.unfinished).to.deep.equal([early(running)]);
      expect(many.unknown).to.deep.equal([{fnc_id: early(call.id), code: 'call_expired'}]);
    });

    it('answers with the first that ends, and then with the next', async () => {
      const [slow, quick] = [newFile(), newFile()];
      const callIds = [await begin('until_file', slow), await begin('until_file', quick)];
      const first = waitForMany(callIds, 60);
      await until('it waits', async () => (await node.get('/status')).json.counts.waiters === 1);
      writeFileSync(quick, '');
      expect((await first).finished.map(({call}) => call.id)).to.deep.equal([callIds[1]]);
      expect((await first).unfinished).to.deep.equal([callIds[0]]);
      const second = waitForMany((await first).unfinished, 60);
      writeFileSync(slow, '');
      expect((await second).finished.map(({call}) => call.id)).to.deep.equal([callIds[0]]);
    });

    it('does not wait for calls that nobody knows', async () => {
      const many = await waitForMany(['1:2:3.000:00000000deadbeef', 'nonsense', ''], 60);
      expect(many).to.deep.include({finished: [], unfinished: []});
      expect(many.unknown).to.have.lengthOf(3);
    });

    it('takes 10,000 call IDs and no more', async () => {
      const callIds = Array.from({length: 10_001}, (_, n) => `1:2:3.000:${n.toString(16).padStart(16, '0')}`);
      expect((await waitForMany(callIds.slice(1), 1)).unknown).to.have.lengthOf(10_000);
      for (const ids of [callIds, [], [1], 'x', null]) expect((await node.put('WaitForFunctions', {fnc_ids: ids, timeout: 1})).json.code).to.equal('bad_field');
    });
  });

  describe('what comes along with a start', () => {
    it('TRACEPARENT, if it is one, and the names of the call', async () => {
      const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
      const ask = async (traceparent: string, more: object = {}): Promise<unknown> => (await node.put('StartFunction', {fn_name: 'traced', fn_args: null, timeout: 20, ...more}, {headers: {traceparent}})).json.result;
      expect(await ask(trace, {request_id: 'traced.request'})).to.equal(`${trace}|traced|traced.request`);
      expect(await ask(trace)).to.equal(`${trace}|traced|none`);
      for (const wrong of ['x'.repeat(200), 'a b', '']) expect(await ask(wrong)).to.equal('none|traced|none');
    });

    it('the reason stands in the log, and the arguments do not', async () => {
      await node.startFunction('fails', {password: 'a secret of the master'}, 20, {reason: 'opcode 42 of job 7'});
      const line = await until('the log names the reason', () => node.logLines().find(({reason}) => reason === 'opcode 42 of job 7'));
      expect(line).to.include({fn_name: 'fails', outcome: 'failed', role: 'local'});
      expect(node.log).not.to.include('a secret');
    });
  });
});
