import {once} from 'node:events';
import type {ServerResponse} from 'node:http';
import * as net from 'node:net';
import {expect} from 'chai';
import {NodedError, NodeClient, TransportError, parseResult} from '../../lib';
import type {Answer, HealthReport, NodeClientOptions} from '../../lib';
import {ScriptedNode, answerText, answers, cutsOff, refuses, resets, saysNothing, trickles} from './scripted-node';

const running = answers(answerText({finished: false}));
const ended = answers(answerText({finished: true, result: '"done"'}));
const unknownRequest = refuses(404, {code: 'unknown_request', started: 'no', detail: 'this node has seen no such request ID'});

/** The error of what must fail. */
async function failure(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

async function transportFailure(promise: Promise<unknown>): Promise<TransportError> {
  const error = await failure(promise);
  expect(error).to.be.instanceOf(TransportError);
  return error as TransportError;
}

describe('NodeClient', () => {
  let node: ScriptedNode;
  const clients: NodeClient[] = [];
  const health: HealthReport[] = [];

  function open(options: Partial<NodeClientOptions> = {}): NodeClient {
    const small = {deadAfterMs: 1_500, graceMs: 500, patienceMs: 25_000, firstPauseMs: 5, longestPauseMs: 20};
    const client = new NodeClient({host: '127.0.0.1', port: node.port, ...small, onHealth: (report) => void health.push(report), ...options});
    clients.push(client);
    return client;
  }

  const echo = {fnName: 'echo', fnArgs: null, timeoutMs: 50} as const;

  beforeEach(async () => {
    node = new ScriptedNode();
    await node.listen();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    health.length = 0;
    await node.close();
  });

  describe('what is sent and read', () => {
    it('arguments given as text go out byte for byte, and a result stays the bytes it was', async () => {
      const args = '{"n":1764670000123456789, "f":1.0,"e":1e999,"s":"\\u00e9"}';
      node.on('/StartFunction', (response, {text}) => {
        const begin = text.indexOf('"fn_args":') + '"fn_args":'.length;
        answers(answerText({finished: true, result: text.slice(begin, begin + args.length)}))(response, node.asked[0]!);
      });
      const answer = await open().startFunction({fnName: 'echo', fnArgsJson: args, timeoutMs: 50});
      expect(answer.resultJson).to.equal(args);
      expect(parseResult<{f: number}>(answer).f).to.equal(1);
    });

    it('arguments given as a value become JSON', async () => {
      node.on('/StartFunction', ended);
      await open().startFunction({fnName: 'echo', fnArgs: {a: [1]}, timeoutMs: 50, abortAfterMs: 1500, reason: 'why not'});
      expect(node.asked[0]?.body).to.include({fn_name: 'echo', timeout: 0.05, abort_after: 1.5, reason: 'why not'});
      expect(node.asked[0]?.body.fn_args).to.deep.equal({a: [1]});
    });

    for (const text of ['', ' ', '{', '1,"abort_after":0', '1}', '1 2']) {
      it(`arguments that are not one JSON value (${JSON.stringify(text)}) are not sent`, async () => {
        const error = await failure(open().startFunction({fnName: 'echo', fnArgsJson: text, timeoutMs: 50}));
        expect(error).to.be.instanceOf(NodedError).with.property('code', 'bad_json');
        expect(node.asked).to.deep.equal([]);
      });
    }

    it('every start has a request ID, the given one or one of its own', async () => {
      node.on('/StartFunction', ended);
      const client = open();
      await client.startFunction(echo);
      await client.startFunction(echo);
      await client.startFunction({...echo, requestId: 'the.masters-own:1'});
      const [first, second, third] = node.asked.map(({body}) => body.request_id);
      expect(first).to.match(/^[A-Za-z0-9._:-]{8,128}$/);
      expect(second).to.match(/^[A-Za-z0-9._:-]{8,128}$/).and.not.equal(first);
      expect(third).to.equal('the.masters-own:1');
    });

    it('a refusal is a NodedError with all that the node told', async () => {
      const pointers = [{pointer: '/size', message: 'must be integer'}];
      node.on('/StartFunction', refuses(422, {code: 'invalid_args', started: 'no', detail: 'size is wrong', pointers}));
      const error = (await failure(open().startFunction(echo))) as NodedError;
      expect(error).to.be.instanceOf(NodedError);
      expect(error).to.include({code: 'invalid_args', status: 422, started: 'no', message: 'size is wrong'});
      expect(error.detail.pointers).to.deep.equal(pointers);
    });

    it('an answer of something that is not noded is no refusal and is not asked for again', async () => {
      const page = (status: number) => (response: ServerResponse): void => void response.writeHead(status, {'content-type': 'text/html'}).end('<html>');
      node.on('/WaitForFunction', page(502), page(200), answers('{"fnc_id":null}'));
      const client = open();
      for (let round = 1; round <= 3; round += 1) {
        const error = await transportFailure(client.waitForFunction({call: {callId: 'x'}, timeoutMs: 10}));
        expect(error).to.include({code: 'bad_answer', started: 'unknown'});
        expect(node.asked).to.have.length(round);
      }
    });

    it('what a function says of its failure comes with the message, and nothing else does', async () => {
      const messageOf = async (outcome: string, result: string): Promise<string | undefined> => {
        const error = JSON.stringify({code: outcome, message: 'it ended'});
        node.on('/WaitForFunction', answers(answerText({finished: true, outcome, result}).replace('"error":null', `"error":${error}`)));
        return (await open().waitForFunction({call: {callId: 'x'}, timeoutMs: 0})).error?.message;
      };
      const sentence = `no room on \u00abdisk\u00bb ${'x'.repeat(5_000)}`;
      expect(await messageOf('failed', `\n{"a": [1], "error": ${JSON.stringify(sentence)}}`)).to.equal(`it ended: ${sentence}`);
      for (const result of ['null', '[]', '"error"', '3', '{}', '{"error": null}', '{"error": " "}', '{"error": {"error": "deeper"}}', '{"e": {"error": "deeper"}}']) {
        expect(await messageOf('failed', result), result).to.equal('it ended');
      }
      expect(await messageOf('deadline', '{"error": "another"}')).to.equal('it ended');
    });

    it('the answers of several calls are told apart, each with its own bytes', async () => {
      const results = ['[1,[2,"]"],{"a":"\\\\\\""}]', '{"b":"},{"}', '12345678901234567890'];
      const finished = results.map((result, position) => answerText({finished: true, result, id: `id${position}`})).join(' , ');
      node.on('/WaitForFunctions', answers(`{"finished": [ ${finished} ], "unfinished": ["id3"], "unknown": [{"fnc_id":"id4","code":"unknown_call"}]}`));
      const got = await open().waitForFunctions(['id0', 'id1', 'id2', 'id3', 'id4'], 50);
      expect(got.finished.map(({resultJson}) => resultJson)).to.deep.equal(results);
      expect(got.finished.map(({call}) => call.id)).to.deep.equal(['id0', 'id1', 'id2']);
      expect(got.unfinished).to.deep.equal(['id3']);
      expect(got.unknown).to.deep.equal([{callId: 'id4', code: 'unknown_call'}]);
    });

    it('no answer of several is an empty list', async () => {
      node.on('/WaitForFunctions', answers('{"finished":[],"unfinished":["id0"],"unknown":[]}'));
      expect((await open().waitForFunctions(['id0'], 50)).finished).to.deep.equal([]);
    });

    it('the lists of a node are read, and a page knows the next one', async () => {
      node.on('/calls', answers('{"calls":[{"id":"a","fn_name":"echo"}],"next":17}'));
      node.on('/calls/1:2:3.000:00', ended);
      node.on('/functions', answers('{"functions":[{"fn_name":"echo"}]}'));
      node.on('/metrics', (response) => void response.writeHead(200, {'content-type': 'text/plain'}).end('noded_waiters 0\n'));
      const client = open();
      const page = await client.calls({state: 'running', limit: 1});
      expect(page.next).to.equal(17);
      expect(page.calls[0]).to.include({id: 'a', fnName: 'echo'});
      expect((await client.functions())[0]).to.deep.equal({fn_name: 'echo'});
      expect(await client.metrics()).to.equal('noded_waiters 0\n');
      expect(await client.status()).to.deep.equal({});
    });

    it('one connection is kept and used again', async () => {
      node.on('/WaitForFunction', running);
      const client = open();
      for (let round = 0; round < 3; round += 1) await client.waitForFunction({call: {callId: 'x'}, timeoutMs: 0});
      expect(node.asked.map(({connection}) => connection)).to.deep.equal([1, 1, 1]);
    });

    it('without TLS only this machine can be called', () => {
      for (const host of ['10.0.0.1', 'node1', '127.0.0.1.example.com']) expect(() => open({host})).to.throw(RangeError);
      for (const host of ['localhost', '127.1.2.3', '::1']) open({host});
    });
  });

  describe('a start whose answer is lost', () => {
    it('is not sent again if the node knows the request', async () => {
      node.on('/StartFunction', resets);
      node.on('/WaitForFunction', ended);
      const answer = await open().startFunction(echo);
      expect(answer.resultJson).to.equal('"done"');
      expect(node.of('/StartFunction')).to.have.length(1);
      expect(node.of('/WaitForFunction')[0]?.body.request_id).to.equal(node.of('/StartFunction')[0]?.body.request_id);
    });

    it('is sent again under the same request ID if the node has not seen it', async () => {
      node.on('/StartFunction', resets, resets, ended);
      node.on('/WaitForFunction', unknownRequest);
      expect((await open().startFunction(echo)).finished).to.equal(true);
      const [first, second, third] = node.of('/StartFunction').map(({text}) => text);
      expect(second).to.equal(first);
      expect(third).to.equal(first);
      expect(node.of('/WaitForFunction')).to.have.length(2);
    });

    it('is asked for as well when the answer is only late', async () => {
      node.on('/StartFunction', saysNothing);
      node.on('/WaitForFunction', ended);
      expect((await open().startFunction(echo)).finished).to.equal(true);
      expect(health[0]).to.include({health: 'late', node: `127.0.0.1:${node.port}`});
      expect(node.asked.map(({path}) => path)).to.deep.equal(['/StartFunction', '/status', '/WaitForFunction']);
    });

    it('may have started something, as long as the node cannot be asked', async () => {
      node.on('/StartFunction', (response, asked) => {
        resets(response, asked);
        void node.close();
      });
      const error = await transportFailure(open({patienceMs: 60}).startFunction(echo));
      expect(error).to.include({started: 'unknown', health: 'down'});
    });

    it('is not asked for if another refusal comes', async () => {
      node.on('/StartFunction', resets);
      node.on('/WaitForFunction', refuses(410, {code: 'call_lost', started: 'unknown'}));
      expect(await failure(open().startFunction(echo))).to.be.instanceOf(NodedError).with.property('code', 'call_lost');
      expect(node.of('/StartFunction')).to.have.length(1);
    });
  });

  describe('a node that does not answer', () => {
    it('is down if no connection can be made, and a start has started nothing', async () => {
      await node.close();
      const error = await transportFailure(open().startFunction(echo));
      expect(error).to.include({code: 'ECONNREFUSED', health: 'down', started: 'no', connected: false});
      expect(health.map((report) => report.health)).to.deep.equal(['down']);
    });

    it('is silent if it takes connections and says nothing', async () => {
      const mute = net.createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
      await once(mute, 'listening');
      const client = open({port: (mute.address() as net.AddressInfo).port, patienceMs: 0});
      const error = await transportFailure(client.waitForFunction({call: {callId: 'x'}, timeoutMs: 10}));
      client.close();
      mute.close();
      expect(error).to.include({code: 'no_answer', health: 'silent', connected: true});
    });

    it('does not accept this master if it closes all connections and has never answered', async () => {
      for (const path of ['/StartFunction', '/status']) node.on(path, resets);
      const error = await transportFailure(open().startFunction(echo));
      expect(error).to.include({code: 'not_accepted', started: 'unknown', lasting: true});
      expect(node.of('/StartFunction')).to.have.length(1);
    });

    it('is late if /status answers, which is asked on a fresh connection', async () => {
      node.on('/WaitForFunction', running, saysNothing, ended);
      const client = open();
      await client.waitForFunction({call: {callId: 'x'}, timeoutMs: 0});
      expect((await client.waitForFunction({call: {callId: 'x'}, timeoutMs: 10})).finished).to.equal(true);
      expect(health.map((report) => report.health)).to.deep.equal(['late']);
      const [first, second, status] = node.asked.map(({connection}) => connection);
      expect(second).to.equal(first);
      expect(status).to.not.equal(first);
    });

    it('is not late if its answer was there in time, and this process stood still', async () => {
      node.on('/WaitForFunction', (response, asked) => {
        response.once('finish', () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500));
        ended(response, asked);
      });
      expect((await open().waitForFunction({call: {callId: 'x'}, timeoutMs: 0})).finished).to.equal(true);
      expect(health).to.deep.equal([]);
      expect(node.of('/WaitForFunction')).to.have.lengthOf(1);
    });

    it('has restarted if another noded answers, and the wait goes on', async () => {
      const first = node;
      first.on('/WaitForFunction', (response) => {
        response.socket?.destroy();
        first.instance = 'boot:2:2';
        first.on('/WaitForFunction', ended);
      });
      const client = open();
      await client.status();
      expect((await client.waitForFunction({call: {callId: 'x'}, timeoutMs: 10})).finished).to.equal(true);
      expect(health.map((report) => report.health)).to.deep.equal(['restarted']);
    });

    it('is waited for while it is away', async () => {
      const {port} = node;
      const next = new ScriptedNode();
      next.instance = 'boot:2:2';
      next.on('/WaitForFunction', ended);
      node.on('/WaitForFunction', (response, asked) => {
        resets(response, asked);
        void node.close();
      });
      const onHealth = (report: HealthReport): void => {
        health.push(report);
        if (health.length === 2) void next.listen(port);
      };
      const client = open({onHealth});
      await client.status();
      expect((await client.waitForFunction({call: {callId: 'x'}, timeoutMs: 10})).finished).to.equal(true);
      await next.close();
      expect(health.map((report) => report.health)).to.include.members(['down', 'restarted']);
    });

    it('is not asked again without patience', async () => {
      node.on('/WaitForFunction', resets);
      await transportFailure(open({patienceMs: 0}).waitForFunction({call: {callId: 'x'}, timeoutMs: 10}));
      expect(node.of('/WaitForFunction')).to.have.length(1);
    });

    it('is asked again when only an idle connection was closed, and nobody hears of it', async () => {
      node.on('/WaitForFunction', running, resets, ended);
      const client = open({patienceMs: 0});
      await client.waitForFunction({call: {callId: 'x'}, timeoutMs: 0});
      expect((await client.waitForFunction({call: {callId: 'x'}, timeoutMs: 0})).finished).to.equal(true);
      expect(health).to.deep.equal([]);
    });

    it('loses nothing by an answer that is cut off', async () => {
      node.on('/WaitForFunction', cutsOff, ended);
      expect((await open().waitForFunction({call: {callId: 'x'}, timeoutMs: 10})).finished).to.equal(true);
      const error = await transportFailure(open({patienceMs: 0}).waitForFunction({call: {callId: 'x'}, timeoutMs: 10}).then(() => {
        node.on('/WaitForFunction', cutsOff);
        return open({patienceMs: 0}).waitForFunction({call: {callId: 'x'}, timeoutMs: 10});
      }));
      expect(error.code).to.equal('cut_off');
    });

    it('is silent if its answer never becomes whole, also to the question how it is', async () => {
      for (const path of ['/WaitForFunction', '/status']) node.on(path, trickles);
      const error = await transportFailure(open({patienceMs: 0}).waitForFunction({call: {callId: 'x'}, timeoutMs: 10}));
      expect(error).to.include({code: 'no_answer', health: 'silent'});
    });

    it('has forgotten a call even if the first answer that said so was lost', async () => {
      node.on('/ForgetFunction', resets, refuses(410, {code: 'call_expired', started: 'yes'}));
      await open().forgetFunction('x');
      node.on('/ForgetFunction', refuses(410, {code: 'call_expired', started: 'yes'}));
      expect(await failure(open().forgetFunction('x'))).to.have.property('code', 'call_expired');
    });
  });

  describe('callFunction', () => {
    it('waits in slices until the call has ended, and tells every answer on the way', async () => {
      node.on('/StartFunction', running);
      node.on('/WaitForFunction', running, running, ended);
      const client = open();
      const seen: Answer[] = [];
      const answer = await client.callFunction({fnName: 'echo', fnArgs: null, onProgress: (one) => void seen.push(one)});
      expect(answer.resultJson).to.equal('"done"');
      expect(seen.map(({call}) => call.state)).to.deep.equal(['running', 'running', 'running']);
      for (const {body} of node.asked) expect(body.timeout).to.be.within(0, client.sliceMs / 1000);
      expect(node.of('/WaitForFunction')[0]?.body.fnc_id).to.equal(answer.call.id);
    });

    it('needs one request for a function that is quick', async () => {
      node.on('/StartFunction', ended);
      await open().callFunction({fnName: 'echo', fnArgs: null});
      expect(node.asked).to.have.length(1);
    });

    it('gives up waiting when its time is over, and the answer says that the call goes on', async () => {
      node.on('/StartFunction', running);
      node.on('/WaitForFunction', running);
      expect((await open().callFunction({fnName: 'echo', fnArgs: null, timeoutMs: 20})).finished).to.equal(false);
    });

    describe('when its time is over', () => {
      // Patience would last longer than any spec.
      const patienceMs = 3_600_000;
      const call = {fnName: 'echo', fnArgs: null, timeoutMs: 300} as const;

      for (const [what, step] of [['is cut off', cutsOff], ['never becomes whole', trickles], ['never comes', saysNothing]] as const) {
        it(`ends, though every answer ${what}, and may have started something`, async () => {
          for (const path of ['/StartFunction', '/WaitForFunction', '/status']) node.on(path, step);
          expect(await transportFailure(open({patienceMs}).callFunction(call))).to.include({started: 'unknown', health: 'silent'});
          const error = await transportFailure(open({patienceMs}).followFunction({callId: 'x'}, {timeoutMs: 300}));
          expect(error.health).to.equal('silent');
        });
      }

      it('ends, though the node lives and only its answers are cut off', async () => {
        node.on('/WaitForFunction', cutsOff);
        expect((await transportFailure(open({patienceMs}).followFunction({callId: 'x'}, {timeoutMs: 300}))).health).to.equal('late');
      });

      it('ends, though the node is only busy', async () => {
        node.on('/StartFunction', refuses(429, {code: 'function_busy', started: 'no', retry_after: 0.01}));
        expect(await failure(open({patienceMs}).callFunction(call))).to.have.property('code', 'function_busy');
      });

      it('has asked the node for no more than was left of it', async () => {
        node.on('/StartFunction', cutsOff, ended);
        node.on('/WaitForFunction', refuses(404, {code: 'unknown_request', started: 'no'}));
        await open({deadAfterMs: 60_000}).callFunction({...call, timeoutMs: 20_000});
        const [first, again] = node.of('/StartFunction').map(({body}) => body.timeout as number);
        expect(again).to.be.below(first!);
      });

      it('an abort ends too, if it was told so', async () => {
        for (const path of ['/AbortFunction', '/status']) node.on(path, cutsOff);
        const abort = {call: {callId: 'x'}, timeoutMs: 300, giveUpAfterMs: 300};
        expect((await transportFailure(open({patienceMs}).abortFunction(abort))).health).to.equal('silent');
      });
    });

    it('follows stderr from where it was', async () => {
      const piece = (from: number, text: string) => answers(answerText({finished: false, stderr: {from, next: from + text.length, text}}));
      node.on('/StartFunction', piece(0, 'one\n'));
      node.on('/WaitForFunction', piece(4, 'two\n'), ended);
      let text = '';
      await open().callFunction({fnName: 'echo', fnArgs: null, followStderr: true, onProgress: ({call}) => void (text += call.stderr?.text)});
      expect(text).to.equal('one\ntwo\n');
      expect(node.of('/WaitForFunction').map(({body}) => [body.stderr_from, body.wake_on_stderr])).to.deep.equal([[4, true], [8, true]]);
    });

    it('waits as long as a busy node asks for, and then starts', async () => {
      const busy = refuses(429, {code: 'function_busy', started: 'no', retry_after: 0.03});
      node.on('/StartFunction', busy, busy, ended);
      expect((await open().callFunction({fnName: 'echo', fnArgs: null})).finished).to.equal(true);
      expect(node.of('/StartFunction')).to.have.length(3);
    });

    it('does not wait longer than its patience lasts', async () => {
      node.on('/StartFunction', refuses(503, {code: 'draining', started: 'no', retry_after: 3600}));
      expect(await failure(open().callFunction({fnName: 'echo', fnArgs: null}))).to.have.property('code', 'draining');
      expect(node.of('/StartFunction')).to.have.length(1);
    });

    it('leaves refusals to the caller of startFunction', async () => {
      node.on('/StartFunction', refuses(429, {code: 'function_busy', started: 'no', retry_after: 0}));
      expect(await failure(open().startFunction(echo))).to.have.property('code', 'function_busy');
      expect(node.asked).to.have.length(1);
    });

    it('goes on waiting for a node that lives, however often its answers are late', async () => {
      node.on('/StartFunction', running);
      node.on('/WaitForFunction', saysNothing, saysNothing, ended);
      expect((await open({patienceMs: 0}).callFunction({fnName: 'echo', fnArgs: null})).finished).to.equal(true);
    });

    it('knows that the function was started when the node is gone afterwards', async () => {
      node.on('/StartFunction', (response, asked) => {
        response.setHeader('connection', 'close');
        running(response, asked);
        void node.close();
      });
      const error = await transportFailure(open({patienceMs: 30}).callFunction({fnName: 'echo', fnArgs: null}));
      expect(error).to.include({health: 'down', started: 'unknown'});
    });

    for (const path of ['/StartFunction', '/WaitForFunction']) {
      it(`ends with the signal's reason while ${path.slice(1)} is open, and aborts no call`, async () => {
        const controller = new AbortController();
        const reason = new Error('the master has changed its mind');
        node.on('/StartFunction', running);
        node.on(path, () => controller.abort(reason));
        expect(await failure(open().callFunction({fnName: 'echo', fnArgs: null, signal: controller.signal}))).to.equal(reason);
        expect(node.of('/AbortFunction')).to.deep.equal([]);
      });
    }

    it('ends with the signal\'s reason in a pause between two tries', async () => {
      const controller = new AbortController();
      const reason = new Error('enough');
      node.on('/StartFunction', (response, asked) => {
        refuses(503, {code: 'spool_full', started: 'no', retry_after: 4})(response, asked);
        response.on('close', () => setImmediate(() => controller.abort(reason)));
      });
      expect(await failure(open().callFunction({fnName: 'echo', fnArgs: null, signal: controller.signal}))).to.equal(reason);
    });
  });
});
