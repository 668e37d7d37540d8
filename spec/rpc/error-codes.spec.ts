/** Every refusal of DESIGN.md section 8, as a master meets it. */
import {expect} from 'chai';
import {renameSync, rmSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import type {AddressInfo} from 'node:net';
import {NodedError, errorCodes} from '../../lib/base/errors';
import type {ErrorCode} from '../../lib/base/errors';
import {roleOf} from '../../lib/rpc/tls';
import {CertificateShop, fingerprintOf, roleText} from '../support/certificates';
import type {Authority} from '../support/certificates';
import {listen} from '../support/bare-binding';
import {NodedDaemon} from '../support/daemon';
import type {TlsPaths} from '../support/daemon';
import {problemOf, problems} from '../support/problems';
import type {ProblemResponse} from '../support/problems';
import {programs} from '../support/programs';
import {RawConnection, putText} from '../support/raw-http';
import {until} from '../support/until';

const functions = {cat: programs.cat, forever: programs.forever, strict: programs.strict, single: programs.single};

describe('the error codes', () => {
  const seen = new Set<ErrorCode>();

  function expectProblem(response: ProblemResponse, code: ErrorCode): Record<string, unknown> {
    seen.add(code);
    return problemOf(response, code);
  }

  describe('of a node that listens without TLS', () => {
    let node: NodedDaemon;
    const running: string[] = [];
    const begin = async (fnName: string): Promise<string> => {
      const {json} = await node.startFunction(fnName, null, 0);
      running.push(json.fnc_id ?? '');
      return json.fnc_id ?? '';
    };

    before(async () => {
      // Without a fork server a call can be lost with noded alone.
      const limits = 'spawner = "child"\n[limits]\nmax_calls = 3\nmax_urgent_calls = 0\nmax_waiters = 2\nmax_request = 65536\n';
      node = await NodedDaemon.start({functions, config: limits});
    });
    afterEach(async () => {
      for (const callId of running.splice(0)) await node.put('AbortFunction', {fnc_id: callId, timeout: 0, kill_after: 0.01});
      if (node.isRunning) await until('nothing runs', async () => (await node.get('/metrics')).text.includes('\nnoded_calls_running 0\n'));
    });
    after(() => node.dispose());

    it('bad_json: what is not one JSON object', async () => {
      for (const body of ['', '{', '[1]', '7', '{"fn_name":"cat"} x', '{"timeout":1,"timeout":2}', Buffer.from('{"fn_name":"\xff"}', 'latin1')]) {
        expectProblem(await node.request('PUT', '/StartFunction', body), 'bad_json');
      }
    });

    it('bad_field: a member of the wrong type names itself', async () => {
      const problem = expectProblem(await node.startFunction('cat', null, 1, {request_id: 'short'}), 'bad_field');
      expect(problem.field).to.equal('request_id');
    });

    it('unknown_field: no member is silently ignored', async () => {
      const problem = expectProblem(await node.startFunction('cat', null, 1, {abort_afer: 5}), 'unknown_field');
      expect(problem.field).to.equal('abort_afer');
      expectProblem(await node.request('PUT', '/WaitForFunction?timeout=1', {fnc_id: 'x', timeout: 1}), 'unknown_field');
      expectProblem(await node.get('/status?verbose=1'), 'unknown_field');
    });

    it('bad_timeout: only a number of seconds from 0 on', async () => {
      for (const timeout of ['-1', '"5"', 'null', '1e999', 'true', '[]']) {
        expectProblem(await node.request('PUT', '/StartFunction', `{"fn_name":"cat","fn_args":1,"timeout":${timeout}}`), 'bad_timeout');
      }
      expectProblem(await node.put('StartFunction', {fn_name: 'cat', fn_args: 1}), 'bad_timeout');
    });

    it('bad_request: what is not HTTP as noded takes it', async () => {
      expectProblem(await node.request('GET', '/status', 'a body'), 'bad_request');
      expectProblem(await node.get('/calls/%zz'), 'bad_request');
    });

    it('unknown_operation: the path names nothing', async () => {
      expectProblem(await node.put('NoSuchOperation', {}), 'unknown_operation');
      for (const path of ['/', '/status/', '/functions/cat', '/calls/1/2', '/startfunction', '/constructor']) expectProblem(await node.get(path), 'unknown_operation');
    });

    it('unknown_function: this node has no such program', async () => {
      for (const name of ['nothing', '../cat', 'cat.toml', '__proto__']) expectProblem(await node.startFunction(name, null, 1), 'unknown_function');
    });

    it('unknown_call: an ID that this node never gave', async () => {
      for (const id of ['1:2:3.000:00000000deadbeef', 'nonsense']) expectProblem(await node.waitForFunction(id, 0), 'unknown_call');
      expectProblem(await node.get('/calls/nonsense'), 'unknown_call');
    });

    it('unknown_request: a start with this request ID never came here', async () => {
      expectProblem(await node.put('WaitForFunction', {request_id: 'never.seen.here', timeout: 0}), 'unknown_request');
    });

    it('method_not_allowed: and the one that is', async () => {
      const put = await node.request('DELETE', '/StartFunction');
      expectProblem(put, 'method_not_allowed');
      expect(put.headers.allow).to.equal('PUT');
      const get = await node.request('PUT', '/status', {});
      expectProblem(get, 'method_not_allowed');
      expect(get.headers.allow).to.equal('GET');
    });

    it('request_too_large: a body over max_request', async () => {
      expectProblem(await node.startFunction('cat', 'x'.repeat(65_536), 1), 'request_too_large');
    });

    it('unsupported_media_type: a body that says it is something else', async () => {
      expectProblem(await node.put('StartFunction', {}, {headers: {'content-type': 'text/plain'}}), 'unsupported_media_type');
    });

    it('still_running: a call is not forgotten before its end', async () => {
      const callId = await begin('forever');
      expect(expectProblem(await node.put('ForgetFunction', {fnc_id: callId}), 'still_running').fnc_id).to.equal(callId);
    });

    it('call_expired: a result that was forgotten; its outcome is given', async () => {
      const {call} = (await node.startFunction('cat', 1, 10, {request_id: 'expired.request'})).json;
      expect((await node.put('ForgetFunction', {fnc_id: call.id})).status).to.equal(200);
      expect(expectProblem(await node.waitForFunction(call.id, 0), 'call_expired').outcome).to.equal('ok');
      // And its request ID is not good for a second run.
      expectProblem(await node.startFunction('cat', 1, 10, {request_id: 'expired.request'}), 'call_expired');
    });

    it('invalid_args: with JSON pointers to what does not fit', async () => {
      const problem = expectProblem(await node.startFunction('strict', {size: 'big'}, 1), 'invalid_args');
      expect(problem.pointers).to.be.an('array').with.nested.property('[0].pointer', '/size');
    });

    it('request_id_reused: for other arguments, or another function', async () => {
      await node.startFunction('cat', 1, 10, {request_id: 'reused.request'});
      expectProblem(await node.startFunction('cat', 2, 10, {request_id: 'reused.request'}), 'request_id_reused');
      expectProblem(await node.startFunction('strict', {size: 1}, 10, {request_id: 'reused.request'}), 'request_id_reused');
    });

    it('function_busy: as many calls of this function as its manifest says', async () => {
      await begin('single');
      expectProblem(await node.startFunction('single', null, 0), 'function_busy');
    });

    it('too_many_calls: as many calls as the node takes', async () => {
      for (let calls = 0; calls < 3; calls += 1) await begin('forever');
      expectProblem(await node.startFunction('cat', 1, 0), 'too_many_calls');
    });

    it('too_many_waiters: of a wait, of an abort, and of a start, which then does not start', async () => {
      const callId = await begin('forever');
      const other = await begin('forever');
      const waits = [node.waitForFunction(callId, 60), node.waitForFunction(callId, 60)];
      await until('both wait', async () => (await node.get('/status')).json.counts.waiters === 2);
      expectProblem(await node.waitForFunction(callId, 60), 'too_many_waiters');
      expectProblem(await node.put('AbortFunction', {fnc_id: other, timeout: 5}), 'too_many_waiters');
      const cats = async (): Promise<string[]> => (JSON.parse((await node.get('/calls?fn_name=cat')).text) as {calls: {id: string}[]}).calls.map(({id}) => id);
      const before = await cats();
      for (const timeout of [5, 0]) expectProblem(await node.startFunction('cat', 1, timeout), 'too_many_waiters');
      expect(await cats()).to.deep.equal(before);
      await node.put('AbortFunction', {fnc_id: callId, timeout: 0});
      for (const {json} of await Promise.all(waits)) expect(json.call.outcome).to.equal('aborted');
    });

    it('too_many_in_flight: the second request on a connection, after the answer of the first', async () => {
      const connection = await RawConnection.open(node.port);
      try {
        connection.write(putText('StartFunction', {fn_name: 'cat', fn_args: 'first', timeout: 10}) + putText('StartFunction', {fn_name: 'cat', fn_args: 'second', timeout: 10}));
        const [first, second, ...more] = await connection.answers(2);
        expect(JSON.parse(first!.body)).to.include({result: 'first'});
        expectProblem({...second!, text: second!.body}, 'too_many_in_flight');
        expect(second!.headers.connection).to.equal('close');
        expect(more).to.deep.equal([]);
        await connection.end();
      } finally {
        connection.destroy();
      }
    });

    it('spawner_unavailable: the files of a call cannot be made, and not for want of room', async () => {
      const calls = join(node.runDir, 'calls');
      renameSync(calls, `${calls}.aside`);
      writeFileSync(calls, 'this is no directory');
      try {
        expectProblem(await node.startFunction('cat', 1, 1), 'spawner_unavailable');
      } finally {
        rmSync(calls);
        renameSync(`${calls}.aside`, calls);
      }
      expect((await node.startFunction('cat', 1, 10)).json.result).to.equal(1);
    });

    it('spool_full: the directory of the calls is gone; the next call has a new one', async () => {
      const calls = join(node.runDir, 'calls');
      renameSync(calls, `${calls}.aside`);
      expectProblem(await node.startFunction('cat', 1, 1), 'spool_full');
      expect((await node.startFunction('cat', 1, 10)).json.result).to.equal(1);
    });

    it('call_lost: the machine or noded died under it, and it was forgotten', async () => {
      const {json} = await node.startFunction('forever', null, 0, {request_id: 'lost.request'});
      await node.kill();
      await node.start();
      const lost = await node.waitForFunction(json.fnc_id, 0);
      expect(lost.status).to.equal(200);
      expect(lost.json.call.outcome).to.equal('lost');
      await node.put('ForgetFunction', {fnc_id: json.call.id});
      expect(expectProblem(await node.waitForFunction(json.fnc_id, 0), 'call_lost').outcome).to.equal('lost');
      expectProblem(await node.startFunction('forever', null, 0, {request_id: 'lost.request'}), 'call_lost');
    });

    it('draining: no new calls, while the old ones can be waited for', async () => {
      const {json} = await node.startFunction('forever', null, 0);
      node.signal('SIGUSR2');
      await until('it drains', async () => (await node.get('/status')).json.draining);
      expectProblem(await node.startFunction('cat', 1, 1), 'draining');
      expect((await node.put('AbortFunction', {fnc_id: json.fnc_id, timeout: 20})).json.call.outcome).to.equal('aborted');
      expect(await node.exited).to.deep.equal({code: 0, signal: null});
    });
  });

  it('spool_full: less room than min_free', async () => {
    const node = await NodedDaemon.start({functions, config: '[limits]\nmin_free = 9007199254740991\n'});
    try {
      expectProblem(await node.startFunction('cat', 1, 1), 'spool_full');
    } finally {
      await node.dispose();
    }
  });

  describe('of a node that listens with TLS', () => {
    const shop = new CertificateShop();
    let node: NodedDaemon;
    let site: Authority;
    let stranger: TlsPaths;

    before(async () => {
      site = shop.authority('site');
      const own = site.issue({subject: '/CN=node', usage: 'serverAuth'});
      const client = site.issue({subject: '/CN=master'});
      stranger = site.issue({subject: '/CN=stranger'});
      const config = roleText('master', [fingerprintOf(client), 'CN=brief'], ['cat']);
      node = await NodedDaemon.start({functions, config, tls: {...own, client}});
    });
    after(async () => {
      await node.dispose();
      shop.dispose();
    });

    it('forbidden: a certificate of no role, and a function that the role does not have', async () => {
      expectProblem(await node.get('/status', {client: stranger}), 'forbidden');
      expectProblem(await node.startFunction('forever', null, 0), 'forbidden');
    });

    it('certificate_expired: on a connection that was opened before', async () => {
      const briefUntil = Date.now() + 8_000;
      const brief = site.issue({subject: '/CN=brief', to: new Date(briefUntil)});
      expect((await node.get('/status', {client: brief})).status).to.equal(200);
      const refused = await until('it expires', async () => {
        const response = await node.get('/status', {client: brief});
        return response.status !== 200 && response;
      }, 20_000);
      expect(Date.now()).to.be.at.least(Math.floor(briefUntil / 1000) * 1000);
      expect(String(expectProblem(refused, 'certificate_expired').detail)).to.match(/good from .* to .*; this node's clock says /);
    });
  });

  it('no_certificate: a connection that shows none has no role', () => {
    expect(() => roleOf(null, [])).to.throw(NodedError).with.property('code', 'no_certificate');
    expect(new NodedError('no_certificate')).to.include({status: problems.no_certificate[0], started: problems.no_certificate[1]});
    seen.add('no_certificate');
  });

  it('internal: a mistake of noded is an answer, is in the log, and tells nothing of its inside', async () => {
    const logged: string[] = [];
    const refused: string[] = [];
    const log = {debug: () => undefined, info: () => undefined, warn: () => undefined, error: (_fields: object, message: string) => void logged.push(message)};
    const binding = await listen({StartFunction: () => Promise.reject(new TypeError('the secret inside'))}, log, (code) => void refused.push(code));
    const connection = await RawConnection.open((binding.server.address() as AddressInfo).port);
    try {
      connection.write(putText('StartFunction', {}));
      const [answer] = await connection.answers(1);
      const problem = expectProblem({...answer!, text: answer!.body}, 'internal');
      expect(JSON.stringify(problem)).not.to.include('secret');
      expect(logged).to.have.lengthOf(1).and.to.satisfy(([line]: string[]) => line?.includes('the secret inside'));
      expect(refused).to.deep.equal(['internal']);
    } finally {
      connection.destroy();
      await binding.close(0);
    }
  });

  // In a block of its own: mocha runs the specs of a block before the blocks in it.
  describe('taken together', () => {
    it('have all been seen, and the table is the one of the program', () => {
      expect([...seen].sort()).to.deep.equal([...errorCodes].sort());
      expect(Object.keys(problems).sort()).to.deep.equal([...errorCodes].sort());
    });
  });
});
