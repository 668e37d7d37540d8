/** The classic protocol, over the real daemon and Ganeti's real backend. */
import {expect} from 'chai';
import {execFileSync, spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import {dirname, join} from 'node:path';
import {describeIf} from '../support/as-root';
import {GanetiNoded, ganetiProgram, keepingAgent} from '../support/ganeti-noded';
import {ganetiProblem, ganetiShare} from '../support/ganeti-node';
import {RawConnection, parseAnswers} from '../support/raw-http';
import {until} from '../support/until';
import type {Response} from '../support/wire';

const failed = (message: string): string => `${JSON.stringify([false, `Error while executing backend function: ${message}`])}\n`;

describeIf('the classic protocol', ganetiProblem(), function () {
  let node: GanetiNoded;

  before(async function () {
    this.timeout(90_000);
    node = new GanetiNoded();
    node.configure('[limits]\nmax_request = 20000000\nmax_calls = 3\n');
    await node.start();
  });
  after(() => node.dispose());

  /** A file that a function waits for. */
  const gate = (name: string): string => join(node.directory, name);
  const open = (name: string): void => fs.writeFileSync(gate(name), '');
  const calls = async (): Promise<{fn_name: string; id: string; state: string}[]> => (JSON.parse((await node.get('/calls')).text) as {calls: {fn_name: string; id: string; state: string}[]}).calls;
  const running = (name: string): Promise<unknown> => until(`${name} runs`, async () => (await calls()).some(({fn_name, state}) => fn_name === name && state === 'running'));
  const forgotten = (): Promise<unknown> => until('nothing is left of any call', async () => (await calls()).length === 0 && node.spoolFiles().length === 0);

  for (const method of ['POST', 'PUT']) {
    it(`answers ${method} with the function's own bytes, and closes`, async () => {
      const version = execFileSync('/usr/bin/python3', ['-c', 'from ganeti import constants, serializer; import sys; sys.stdout.write(serializer.DumpJson((True, constants.PROTOCOL_VERSION)).decode("ascii"))'], {encoding: 'utf8', env: {PYTHONPATH: ganetiShare}});
      const {status, headers, text} = await node.ask('/version', '[]', {method});
      expect([status, text]).to.deep.equal([200, version]);
      expect(headers).to.include({'content-type': 'application/json', 'content-length': String(version.length), connection: 'close', server: 'noded', 'noded-protocol': '1'});
      expect(headers.date).to.be.a('string');
    });
  }

  for (const type of ['application/json', 'application/x-www-form-urlencoded', 'text/plain']) {
    it(`takes a body that calls itself ${type}`, async () => {
      expect((await node.ask('/spec_say', '[1]', {headers: {'Content-Type': type}})).text).to.equal('[true, "[1]"]\n');
    });
  }

  const numbers: Readonly<Record<string, string>> = {
    '[1795333344142123456]': '[1795333344142123456]',
    '[1.0]': '[1.0]',
    '[1e400]': '[inf]',
    '[123456789012345678901234567890]': '[123456789012345678901234567890]',
    '[1e2]\n': '[100.0]',
  };
  for (const [body, meaning] of Object.entries(numbers)) {
    it(`gives a function the number of ${JSON.stringify(body)} as it was sent`, async () => {
      expect((await node.ask('/spec_say', body)).text).to.equal(`[true, ${JSON.stringify(meaning)}]\n`);
    });
  }

  it('gives a result as the function wrote it, whatever JavaScript would make of it', async () => {
    expect((await node.ask('/spec_give', '[]')).text).to.equal('[true, {"nano": 1795333344142123456, "one": 1.0, "big": 123456789012345678901234567890, "tiny": 1e-07, "text": "\\u00e9</script>"}]\n');
  });

  describe('gives numbers that JSON has not as the serializer of this Ganeti writes them', () => {
    /** What Ganeti's own daemon sends. */
    const written = (count: number): string =>
      execFileSync('/usr/bin/python3', ['-c', `from ganeti import serializer; import sys; sys.stdout.write(serializer.DumpJson((True, [float("nan"), float("inf"), {"least": -float("inf")}] * ${count})).decode("ascii"))`], {encoding: 'utf8', env: {PYTHONPATH: ganetiShare}, maxBuffer: 1 << 26});

    it('which is as Python spells them', () => {
      expect(written(1)).to.equal('[true, [NaN, Infinity, {"least": -Infinity}]]\n');
    });

    for (const count of [1, 1_000, 100_000]) {
      it(`${3 * count} of them`, async () => {
        const {status, text} = await node.ask('/spec_no_numbers', `[${count}]`);
        expect([status, text === written(count)], text.slice(0, 200)).to.deep.equal([200, true]);
        await forgotten();
      });
    }

    it('but not to StartFunction, whose answer is JSON', async () => {
      const {status, json} = await node.put('StartFunction', {fn_name: 'spec_no_numbers', fn_args: [1], timeout: 20});
      expect([status, json.result, json.call.outcome]).to.deep.equal([200, null, 'invalid_output']);
      expect(json.error!.message).to.include('not one JSON value');
      await node.put('ForgetFunction', {fnc_id: json.call.id});
    });
  });

  it('takes UTF-8 in a body for what it is', async () => {
    expect((await node.ask('/spec_length', Buffer.from('["é→"]'))).text).to.equal('[true, 2]\n');
  });

  it('takes bodies and gives results of 12 MB', async () => {
    const size = 12_000_000;
    expect((await node.ask('/spec_length', `["${'x'.repeat(size)}"]`)).text).to.equal(`[true, ${size}]\n`);
    const {bytes} = await node.ask('/spec_repeat', `[${size}]`);
    expect(bytes.equals(Buffer.from(`[true, "${'x'.repeat(size)}"]\n`))).to.equal(true);
    await forgotten();
  });

  it('keeps a connection only for those who ask for that', async () => {
    const agent = keepingAgent();
    try {
      for (let round = 0; round < 2; round += 1) {
        const {headers, text} = await node.ask('/version', '[]', {agent});
        expect([headers.connection, text.startsWith('[true')]).to.deep.equal(['keep-alive', true]);
      }
      const sockets = Object.values(agent.freeSockets).flat();
      expect(sockets).to.have.length(1);
    } finally {
      agent.destroy();
    }
  });

  it('answers HTTP/1.0, and closes', async () => {
    const connection = await RawConnection.open(node.port, node.connection(node.candidate));
    connection.write('POST /version HTTP/1.0\r\nContent-Length: 2\r\n\r\n[]');
    await connection.end();
    expect(parseAnswers(connection.bytes).map(({status, body}) => [status, body.startsWith('[true')])).to.deep.equal([[200, true]]);
  });

  it('answers after 100 Continue who waits for that', async () => {
    const connection = await RawConnection.open(node.port, node.connection(node.candidate));
    connection.write('POST /version HTTP/1.1\r\nHost: n\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n');
    await until('it is told to go on', () => connection.bytes.includes('100 Continue'));
    connection.write('[]');
    await connection.end();
    expect(connection.bytes.toString()).to.match(/HTTP\/1\.1 200 OK[^]*\[true, \d+\]\n$/);
  });

  describe('refuses with a status and a line of text', () => {
    const refusal = ({status, headers, text}: Response): unknown => [status, headers['content-type'], headers.connection, text];
    const text = 'text/plain; charset=utf-8';

    for (const path of ['/nothing', '//version', '/version?x', '/version/', '/Version', '/__init__', '/']) {
      it(`404: ${path}`, async () => {
        expect(refusal(await node.ask(path, '[]'))).to.deep.equal([404, text, 'close', `this node has no procedure ${path.slice(1)}`]);
      });
    }

    it('405: another method', async () => {
      const answer = await node.ask('/version', '', {method: 'GET'});
      expect(refusal(answer)).to.deep.equal([405, text, 'close', 'this takes POST or PUT, not GET']);
      expect(answer.headers.allow).to.equal('POST, PUT');
    });

    it('413: a body over the limit', async () => {
      expect(refusal(await node.ask('/spec_length', `["${'x'.repeat(20_000_000)}"]`))).to.deep.equal([413, text, 'close', 'the body is over 20000000 bytes']);
    });

    it('400: no Host', async () => {
      const connection = await RawConnection.open(node.port, node.connection(node.candidate));
      connection.write('POST /version HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]');
      await connection.end();
      expect(parseAnswers(connection.bytes)).to.have.length(1);
      expect(parseAnswers(connection.bytes)[0]).to.deep.include({status: 400, body: 'Host is missing'});
    });

    it('503: as many calls run as may, while the quick functions go on', async () => {
      const waiting = ['a', 'b', 'c'].map((name) => node.ask('/spec_wait', JSON.stringify([gate(name)])));
      await until('three run', async () => (await calls()).filter(({state}) => state === 'running').length === 3);
      expect(refusal(await node.ask('/spec_say', '[]'))).to.deep.equal([503, text, 'close', 'as many calls run as may']);
      expect((await node.ask('/version', '[]')).status).to.equal(200);
      for (const name of ['a', 'b', 'c']) open(name);
      for (const answer of waiting) expect((await answer).text).to.equal('[true, "waited"]\n');
    });
  });

  describe('answers in the words of Ganeti', () => {
    for (const body of ['', '[1', '{', 'é', '[1] 2']) {
      it(`what is no JSON: ${JSON.stringify(body)}`, async () => {
        const {status, text} = await node.ask('/version', body);
        expect(status).to.equal(200);
        const [ok, message] = JSON.parse(text) as [boolean, string];
        expect(ok).to.equal(false);
        expect(message).to.match(/^Error while executing backend function: /);
      });
    }

    const ends: readonly (readonly [string, string, string])[] = [
      ['/spec_die', '[9]', 'the function was ended by SIGKILL'],
      ['/spec_die', '[15]', 'the function was ended by SIGTERM'],
      ['/spec_leave', '[3]', 'the function exited with code 3'],
      ['/spec_leave', '[0]', 'the function ended without a result'],
    ];
    for (const [path, body, message] of ends) {
      it(`a function that has no answer: ${path} ${body}`, async () => {
        const {status, text} = await node.ask(path, body);
        expect([status, text]).to.deep.equal([200, failed(message)]);
      });
    }

    it('a function that somebody aborted', async () => {
      const answer = node.ask('/spec_wait', JSON.stringify([gate('never')]));
      await running('spec_wait');
      const [call] = await calls();
      await node.put('AbortFunction', {fnc_id: call!.id, timeout: 20});
      expect((await answer).text).to.equal(failed('the call was aborted'));
      await forgotten();
    });
  });

  it('forgets a call once it is answered', async () => {
    await node.ask('/spec_give', '[]');
    await node.ask('/spec_repeat', '[100000]');
    await forgotten();
  });

  it('lets the call of a caller who has gone go on, and forgets it at its end', async () => {
    const {request, response} = node.begin('/spec_wait', JSON.stringify([gate('gone')]));
    response.catch(() => undefined);
    await running('spec_wait');
    request.destroy();
    await until('the log says that he has gone', () => / POST \/spec_wait HTTP\/1\.1 the caller has gone$/m.test(node.log));
    expect((await calls()).map(({state}) => state)).to.deep.equal(['running']);
    expect(JSON.parse((await node.get('/status')).text)).to.have.nested.property('counts.waiters', 0);
    open('gone');
    await forgotten();
  });

  it('keeps the result for whoever else waits for it, if its caller has gone', async () => {
    const {request, response} = node.begin('/spec_wait', JSON.stringify([gate('shared')]));
    response.catch(() => undefined);
    await running('spec_wait');
    const [call] = await calls();
    const other = node.put('WaitForFunction', {fnc_id: call!.id, timeout: 20});
    await until('he waits', async () => JSON.parse((await node.get('/status')).text).counts.waiters === 2);
    request.destroy();
    await until('one waits', async () => JSON.parse((await node.get('/status')).text).counts.waiters === 1);
    open('shared');
    expect((await other).json).to.deep.include({finished: true, result: [true, 'waited']});
    await node.put('ForgetFunction', {fnc_id: call!.id});
    await forgotten();
  });

  describe('beside it', () => {
    it('the operations call the same functions, in slices', async () => {
      const {json} = await node.put('StartFunction', {fn_name: 'spec_wait', fn_args: [gate('sliced')], timeout: 0});
      expect(json.finished).to.equal(false);
      open('sliced');
      const {text, headers} = await node.put('WaitForFunction', {fnc_id: json.fnc_id, timeout: 20});
      expect(text).to.include('"result":[true, "waited"]\n,"call"');
      expect(headers.connection).to.not.equal('close');
      await node.put('ForgetFunction', {fnc_id: json.fnc_id});
    });

    it('a result comes byte for byte here too', async () => {
      const {text} = await node.put('StartFunction', {fn_name: 'spec_give', fn_args: [], timeout: 20});
      expect(text).to.include('"result":[true, {"nano": 1795333344142123456, "one": 1.0,');
    });

    it('what the operations refuse is a problem', async () => {
      const {status, headers, json} = await node.put('StartFunction', {fn_name: 'nothing', fn_args: [], timeout: 0});
      expect([status, headers['content-type'], json.code]).to.deep.equal([404, 'application/problem+json', 'unknown_function']);
      expect((await node.ask('/status', '', {method: 'POST'})).json.code).to.equal('method_not_allowed');
    });

    it('nodectl --ganeti calls with the certificates of the cluster', () => {
      fs.chmodSync(node.path('var/lib/ganeti/client.pem'), 0o440); // as Ganeti has it
      const nodectl = (...words: string[]): {status: number | null; stdout: string; stderr: string} =>
        spawnSync(join(dirname(ganetiProgram()), 'nodectl'), [...words, '--ganeti', '-p', String(node.port), '--json'], {encoding: 'utf8', env: node.env});
      const {status, stdout, stderr} = nodectl('call', 'spec_say', '[1.0]');
      expect([status, stderr]).to.deep.equal([0, '']);
      expect(JSON.parse(stdout)).to.have.deep.property('result', [true, '[1.0]']);
      expect(nodectl('ps', '--no-ssl')).to.deep.include({status: 2, stderr: 'nodectl: --ganeti has its own certificates\n'});
    });

    it('GET /functions has those of Ganeti', async () => {
      const {functions} = JSON.parse((await node.get('/functions')).text) as {functions: {fn_name: string; urgent: boolean; leave_running: boolean}[]};
      const facts = new Map(functions.map(({fn_name, urgent, leave_running}) => [fn_name, [urgent, leave_running]]));
      expect(facts.size).to.be.above(100);
      for (const name of ['version', 'master_node_name', 'node_info', 'jobqueue_update', 'jobqueue_rename']) expect(facts.get(name), name).to.deep.equal([true, true]);
      for (const name of ['instance_start', 'hooks_runner', 'node_powercycle']) expect(facts.get(name), name).to.deep.equal([false, true]);
    });
  });

  it('writes a line for each request, in Ganeti\'s form', async () => {
    await node.ask('/version', '[]');
    await node.ask('/nothing', '[]');
    const stamp = String.raw`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: ganeti-noded pid=${node.pid} INFO 127\.0\.0\.1:\d+ `;
    await until('both are there', () => new RegExp(`${stamp}POST /version HTTP/1\\.1 200$`, 'm').test(node.log) && new RegExp(`${stamp}POST /nothing HTTP/1\\.1 404 \\(this node has no procedure nothing\\)$`, 'm').test(node.log));
  });
});
