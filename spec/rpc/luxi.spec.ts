/** The local socket (DESIGN.md section 8, LUXI binding): the same operations, in messages that end with ETX. */
import {expect} from 'chai';
import {statSync, truncateSync} from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import type {CallView} from '../support/daemon';
import {LocalConnection} from '../support/local-socket';
import type {LocalAnswer} from '../support/local-socket';
import {sampleOf} from '../support/metrics';
import {programs} from '../support/programs';
import {until} from '../support/until';

const maxRequestBytes = 65_536;

describe('the local socket', () => {
  let node: NodedDaemon;
  let path = '';
  let local: LocalConnection;

  before(async () => {
    node = await NodedDaemon.start({functions: {cat: programs.cat, forever: programs.forever, fails: programs.fails, large: programs.large}, config: `[limits]\nmax_request = ${maxRequestBytes}\n`});
    path = join(node.runDir, 'noded.sock');
  });
  beforeEach(async () => {
    local = await LocalConnection.open(path);
  });
  afterEach(() => local.destroy());
  after(() => node.dispose());

  const callOf = ({result}: LocalAnswer): CallView => result.call as CallView;
  const start = (fnName: string, args: unknown, timeout: number): Promise<LocalAnswer> => local.ask('StartFunction', {fn_name: fnName, fn_args: args, timeout});
  const waiters = async (): Promise<number> => sampleOf((await node.get('/metrics')).text, 'noded_waiters');

  it('can be opened by its owner only', () => {
    const {mode} = statSync(path);
    expect((mode & 0o170000) === 0o140000, 'a socket').to.equal(true);
    expect(mode & 0o777).to.equal(0o600);
  });

  it('serves every operation, for the role local', async () => {
    const done = await start('cat', {a: 1}, 20);
    expect(done).to.deep.include({success: true}).and.to.have.deep.nested.property('result.result', {a: 1});
    expect(callOf(done)).to.include({role: 'local', outcome: 'ok'});
    const {fnc_id: callId} = (await start('forever', null, 0)).result;
    expect((await local.ask('WaitForFunction', {fnc_id: callId, timeout: 0})).result.finished).to.equal(false);
    expect((await local.ask('WaitForFunctions', {fnc_ids: [callId, callOf(done).id], timeout: 5})).result.unfinished).to.deep.equal([callId]);
    expect((await local.ask('ForgetFunction', {fnc_id: callId})).result.code).to.equal('still_running');
    expect(callOf(await local.ask('AbortFunction', {fnc_id: callId, timeout: 20})).outcome).to.equal('aborted');
    expect(callOf(await local.ask('GetCall', {fnc_id: callId})).outcome).to.equal('aborted');
    expect((await local.ask('ListCalls', {state: 'ended'})).result.calls).to.be.an('array').with.lengthOf(2);
    expect((await local.ask('ForgetFunction', {fnc_id: callOf(done).id})).result).to.deep.equal({fnc_id: callOf(done).id, forgotten: true});
    expect((await local.ask('WaitForFunction', {fnc_id: callOf(done).id, timeout: 0})).result.code).to.equal('call_expired');
  });

  it('tells what there is: functions, status, and the metrics as one JSON string', async () => {
    expect((await local.ask('ListFunctions')).result.functions).to.be.an('array').with.lengthOf(4);
    expect((await local.ask('GetStatus', [])).result).to.have.nested.property('limits.max_request', maxRequestBytes);
    const metrics = await local.ask('GetMetrics', {});
    expect(metrics.result).to.be.a('string').that.includes('noded_calls_running 0\n');
  });

  it('takes a message in pieces of one byte', async () => {
    for (const byte of Buffer.from('{"method":"StartFunction","args":{"fn_name":"cat","fn_args":"\u00e9\ud83d\ude00","timeout":20}}\x03')) local.write(Buffer.from([byte]));
    expect((await local.next()).result.result).to.equal('\u00e9\ud83d\ude00');
  });

  it('takes a message cut in two anywhere', async () => {
    const message = Buffer.from('{"method":"GetStatus"}\x03');
    for (let at = 1; at < message.length; at += 1) {
      local.write(message.subarray(0, at));
      await new Promise((resolve) => setImmediate(resolve));
      local.write(message.subarray(at));
      expect((await local.next()).success).to.equal(true);
    }
  });

  it('serves several messages of one write in their order, one at a time', async () => {
    const messages = Array.from({length: 20}, (_, n) => JSON.stringify({method: 'StartFunction', args: {fn_name: 'cat', fn_args: n, timeout: 20}}));
    local.write(`${messages.join('\x03')}\x03{"method":"GetStatus"}\x03`);
    for (let n = 0; n < 20; n += 1) expect((await local.next()).result.result).to.equal(n);
    expect((await local.next()).result).to.have.property('uptime');
  });

  it('passes arguments and results byte for byte', async () => {
    const raw = '{ "n":1764670000123456789, "f":1.0, "e":1e999, "z":-0, "k":{"b":1,"a":2} }';
    local.write(`{"args":{"timeout":20,"fn_args":${raw},"fn_name":"cat"},"method":"StartFunction"}\x03`);
    expect(await local.nextText()).to.include(`"result":${raw},"call"`);
  });

  const refused: Readonly<Record<string, readonly [message: string, code: string]>> = {
    'no JSON': ['this is no JSON', 'bad_json'],
    'nothing': ['', 'bad_json'],
    'an array': ['[]', 'bad_json'],
    'two values': ['{"method":"GetStatus"}{}', 'bad_json'],
    'the method twice': ['{"method":"GetStatus","method":"GetStatus"}', 'bad_json'],
    'no method': ['{"args":{}}', 'unknown_operation'],
    'an unknown method': ['{"method":"SubmitJob","args":[]}', 'unknown_operation'],
    'a method that is an object\'s': ['{"method":"constructor","args":[]}', 'unknown_operation'],
    'an unknown member': ['{"method":"GetStatus","arg":{}}', 'unknown_field'],
    'another version': ['{"method":"GetStatus","version":2}', 'bad_field'],
    'arguments in an array': ['{"method":"GetStatus","args":[1]}', 'bad_json'],
    'an unknown argument': ['{"method":"GetStatus","args":{"verbose":true}}', 'unknown_field'],
    'too deep nesting': [`{"method":"StartFunction","args":{"fn_name":"cat","timeout":1,"fn_args":${'['.repeat(1000)}${']'.repeat(1000)}}}`, 'bad_json'],
  };
  for (const [what, [message, code]] of Object.entries(refused)) {
    it(`refuses ${what}, and the connection goes on`, async () => {
      local.write(`${message}\x03`);
      const answer = await local.next();
      expect(answer.success).to.equal(false);
      expect(answer.result).to.include({code, started: 'no'});
      expect((await local.ask('GetStatus')).success).to.equal(true);
    });
  }

  it('refuses a message over max_request, in one answer, and ends the connection', async () => {
    const refusals = async (): Promise<number> => sampleOf((await node.get('/metrics')).text, 'noded_refused_total{code="request_too_large"}');
    const before = await refusals();
    for (let sent = 0; sent < 16 * maxRequestBytes; sent += 8_192) local.write('x'.repeat(8_192));
    const answer = await local.next();
    expect(answer.result).to.include({code: 'request_too_large', status: 413});
    await until('the connection is ended', () => local.closed);
    expect(local.bytes.toString().split('\x03')).to.have.lengthOf(2);
    await until('all of it has been taken', () => local.socket.writableLength === 0 || local.socket.errored !== null);
    expect(local.socket.errored).to.equal(null);
    expect(await refusals()).to.equal(before + 1);
    expect((await node.get('/status')).status).to.equal(200);
  });

  it('takes a whole message that is behind one being served, and more than the limit of them', async () => {
    const {fnc_id: callId} = (await start('forever', null, 0)).result;
    local.write(`{"method":"WaitForFunction","args":{"fnc_id":"${callId as string}","timeout":60}}\x03`);
    await until('it waits', async () => (await waiters()) === 1);
    const message = `{"method":"StartFunction","args":{"fn_name":"cat","timeout":20,"fn_args":"${'x'.repeat(40_000)}"}}\x03`;
    for (let count = 0; count < 6; count += 1) local.write(message);
    await node.put('AbortFunction', {fnc_id: callId, timeout: 20});
    expect(callOf(await local.next()).outcome).to.equal('aborted');
    for (let count = 0; count < 6; count += 1) expect((await local.next()).result.result).to.have.lengthOf(40_000);
  });

  it('leaves in the kernel what is sent behind a message being served, beyond the limit of one, and takes it afterwards', async () => {
    const {fnc_id: callId} = (await start('forever', null, 0)).result;
    local.write(`{"method":"WaitForFunction","args":{"fnc_id":"${callId as string}","timeout":60}}\x03`);
    await until('it waits', async () => (await waiters()) === 1);
    const messages = 100;
    for (let count = 0; count < messages; count += 1) local.write(`{"method":"GetStatus"${' '.repeat(60_000)}}\x03`);
    // With every answer over another connection the daemon has had a turn to read some of them: in so many, all of them.
    const other = await LocalConnection.open(path);
    for (let turns = 0; turns < 2 * messages; turns += 1) expect(await other.ask('GetStatus')).to.include({success: true});
    other.destroy();
    expect(local.socket.writableLength).to.be.above((messages * 60_000) / 2);
    await node.put('AbortFunction', {fnc_id: callId, timeout: 20});
    expect(callOf(await local.next()).outcome).to.equal('aborted');
    for (let count = 0; count < messages; count += 1) expect(await local.nextText()).to.include('"uptime"');
  });

  it('gives a large result whole, and then the next answer', async () => {
    const size = 20_000_000;
    local.write(`{"method":"StartFunction","args":{"fn_name":"large","fn_args":${size},"timeout":25}}\x03{"method":"GetStatus"}\x03`);
    const text = await local.nextText(25_000);
    expect((JSON.parse(text) as LocalAnswer).result.result).to.have.lengthOf(size);
    expect((await local.next()).result).to.have.property('uptime');
  });

  it('breaks off when a result is cut short under way, and nobody takes the rest for an answer', async () => {
    const {id} = callOf(await start('large', 30_000_000, 25));
    const taken = local.bytes.length;
    local.socket.once('data', () => local.socket.pause());
    local.write(`{"method":"WaitForFunction","args":{"fnc_id":"${id}","timeout":0}}\x03`);
    await until('the answer has begun', () => local.socket.isPaused());
    truncateSync(join(node.runDir, 'calls', `${id.split(':').at(-1)}.out`), 1000);
    local.socket.resume();
    await until('the connection breaks', () => local.closed, 20_000);
    expect(local.bytes.length - taken).to.be.below(30_000_000);
    expect(local.bytes.subarray(taken).toString('latin1')).not.to.include('\x03').and.not.to.include('"success":false');
    expect((await node.get('/status')).status).to.equal(200);
  });

  it('tells a function\'s failure as success of the operation', async () => {
    const answer = await start('fails', null, 20);
    expect(answer.success).to.equal(true);
    expect(callOf(answer)).to.include({outcome: 'failed', exit_code: 3});
    expect(answer.result.error).to.include({code: 'failed'});
  });

  it('drops the wait of one who goes away, and never the call', async () => {
    const {fnc_id: callId} = (await start('forever', null, 0)).result;
    local.write(`{"method":"WaitForFunction","args":{"fnc_id":"${callId as string}","timeout":60}}\x03{"method":"WaitForFunction","args":{"fnc_id":"${callId as string}","timeout":60}}\x03`);
    await until('it waits', async () => (await waiters()) === 1);
    local.destroy();
    await until('the wait is dropped', async () => (await waiters()) === 0);
    expect((await node.waitForFunction(callId as string, 0)).json.call.state).to.equal('running');
    await node.put('AbortFunction', {fnc_id: callId, timeout: 20});
  });

  it('serves 2,000 messages on one connection without a warning', async () => {
    for (let round = 0; round < 20; round += 1) {
      local.write('{"method":"GetStatus"}\x03'.repeat(100));
      for (let count = 0; count < 100; count += 1) expect(await local.nextText()).to.include('"success":true');
    }
    expect(node.log).not.to.match(/MaxListenersExceeded|Warning/);
  });
});
