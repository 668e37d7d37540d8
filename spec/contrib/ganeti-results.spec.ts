/** Ganeti's RPC client with contrib/ganeti, against real nodeds: what Ganeti's code gets to see. */
import {existsSync, readFileSync, readdirSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {expect} from 'chai';
import {describeIf} from '../support/as-root';
import type {NodedDaemon} from '../support/daemon';
import {until} from '../support/until';
import {GanetiWorld, noGaneti, protocolVersion} from './ganeti-world';
import type {Master, RpcResult} from './ganeti-world';

/** Texts that a parser of another kind would spoil, or that Ganeti wraps. */
const results = [
  '[true, 3000000]',
  '[true, null]',
  '[true, [1795333344142123456, 1.0, 1e400, -0.0, 0.1]]',
  '[true, {"name": "\\u00e4\\ud83d\\ude00", "raw": "ä", "nested": [[], {}, [[]]]}]',
  '[true, {"osparams_private": {"password": "secret"}, "result": {"finished": false}}]',
  '[false, "it is not to be had"]',
  '[false, null]',
  '[true]',
  '42',
  '[true, {"code": "unknown_call", "finished": false}]',
];

describeIf('Ganeti\'s RPC client on nodeds: what comes back', noGaneti, () => {
  let world: GanetiWorld;
  let noded: NodedDaemon;
  let second: NodedDaemon;
  let master: Master;

  before(async function () {
    this.timeout(60_000);
    world = await new GanetiWorld().open();
    noded = await world.noded('127.0.0.1');
    second = await world.noded('127.0.0.2');
    master = await world.master();
  });
  after(() => world.dispose());

  async function one(procedure: string, args: readonly unknown[] = [], timeout = 60): Promise<RpcResult> {
    const {results: {n1}} = await master.call(procedure, {n1: '127.0.0.1'}, {args, timeout});
    return n1!;
  }

  for (const text of results) {
    it(`is what the classic way makes of ${text}`, async () => {
      const file = world.newFile();
      writeFileSync(file, `${text}\n`);
      const [got, classic] = [await one('from_file', [file]), await master.command<RpcResult>({do: 'decode', text})];
      expect(got).to.deep.equal(classic);
    });
  }

  it('is what a function gets, too: its arguments, byte for byte', async () => {
    const {payload} = await one('echo_pair', [[1.0, 'ä', {deep: [null, true]}]]);
    expect(payload).to.equal('[[1, \'ä\', {\'deep\': [None, True]}]]');
  });

  it('is a result of Ganeti\'s generated wrappers, with names that are resolved', async () => {
    const {results: found} = await master.command<{results: Record<string, RpcResult>}>({do: 'generated', name: 'version', nodes: ['127.0.0.1', '127.0.0.2']});
    expect(Object.values(found).map(({payload}) => payload)).to.deep.equal([protocolVersion, protocolVersion]);
  });

  it('is of all nodes at once, offline ones as ever', async () => {
    // Each of the two ends only when the other one has come, too.
    const {results: found} = await master.call('meeting', {n1: '127.0.0.1', n2: '127.0.0.2', n3: null}, {args: [world.newFile()]});
    expect(found.n1).to.include({payload: 'None', fail_msg: null});
    expect(found.n2).to.include({data: '[True, None]', fail_msg: null});
    expect(found.n3).to.include({offline: true, fail_msg: 'Node is marked offline'});
  });

  it('takes more slices than one, and leaves nothing on the node', async () => {
    const before = master.log.length;
    expect(await one('test_delay', [1.5])).to.include({data: '[True, None]', fail_msg: null});
    await until('the log tells of all', () => /PUT \/ForgetFunction \S+ \S+ finished/.test(master.log.slice(before)));
    expect(master.log.slice(before).match(/PUT \/WaitForFunction \S+ \S+ finished/g)).to.have.length.at.least(1);
    await until('no file of a call is left', () => readdirSync(join(noded.runDir, 'calls')).length === 0);
  });

  it('is known to Ganeti\'s lock monitor, which is told when there is nothing more to see', async () => {
    const {pending} = await master.call('version', {n1: '127.0.0.1'});
    expect(pending).to.deep.equal([[]]);
  });

  it('is an error that names the call, at the end of the procedure\'s own timeout; the function runs on', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    const {fail_msg: message} = await one('until_file', [started, end], 1);
    expect(message).to.match(/^no result after \d+ seconds; call \d+:\d+:[\d.]+:[0-9a-f]+ of until_file still runs on the node$/);
    expect(noded.functionProcesses()).to.not.deep.equal([]);
    writeFileSync(end, '');
    await until('the function has ended', () => noded.functionProcesses().length === 0);
  });

  it('is an error with what the function said, if that failed', async () => {
    expect((await one('fails')).fail_msg).to.match(/^the function exited with code 3 \(failed, call \S+ of fails\); it said: no such disk$/);
  });

  it('is an error with the reason of a refusal', async () => {
    expect((await one('nothing')).fail_msg).to.equal('unknown_function: this node has no function "nothing"');
  });

  it('is an error if the call is aborted', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    const result = one('until_file', [started, end]);
    const running = async (): Promise<{id: string; request_id: string}[]> => (await noded.get('/calls?state=running', {client: world.client}) as unknown as {json: {calls: {id: string; request_id: string}[]}}).json.calls;
    const calls = await until('it runs', async () => existsSync(started) && (await running()).length > 0 && running());
    expect(calls[0]!.request_id).to.match(/^ganeti-\d+-[0-9a-f]{32}$/);
    await noded.put('AbortFunction', {fnc_id: calls[0]!.id, timeout: 10}, {client: world.client});
    expect((await result).fail_msg).to.include('aborted').and.include(calls[0]!.id);
  });

  it('is an error if a result cannot be had any more, with its outcome', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    await second.stop();
    expect((await master.call('version', {n1: '127.0.0.1', n2: '127.0.0.2'})).results.n2!.fail_msg).to.match(/^Error 7: /); // as ever: nothing was begun
    await second.start();
    const result = master.call('until_file', {n2: '127.0.0.2'}, {args: [started, end]});
    await until('it has said that it runs', () => existsSync(started) && readFileSync(started, 'utf8') !== '');
    await second.stop(); // "terminate": the function is stopped, and its waiters are told; between two slices there is none
    await second.start();
    expect((await result).results.n2!.fail_msg).to.include('shutdown').and.include('of until_file');
    expect(readFileSync(started, 'utf8')).to.equal('x\n');
  });

  it('is had in the end where a node is too busy at first', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    const another = await world.master();
    const calls = [master, another].map((one) => one.call('single', {n1: '127.0.0.1'}, {args: [started, end]}));
    await until('one was refused', () => (master.log + another.log).includes('function_busy'));
    writeFileSync(end, '');
    for (const {results: {n1}} of await Promise.all(calls)) expect(n1).to.include({data: '[True, None]', fail_msg: null});
    expect(readFileSync(started, 'utf8')).to.equal('x\nx\n');
    await another.end();
  });

  it('is an error where a node stays too busy', async () => {
    const end = world.newFile();
    const another = await world.master();
    await another.configure('conversation', {RESTART_PATIENCE: 1});
    const call = master.call('single', {n1: '127.0.0.1'}, {args: [world.newFile(), end]});
    await until('it runs', () => noded.functionProcesses().length > 0);
    const {results: {n1}} = await another.call('single', {n1: '127.0.0.1'}, {args: [world.newFile(), end]});
    expect(n1!.fail_msg).to.match(/^function_busy: .*; and so for \d+ seconds, when it was asked for single with request ID \S+$/);
    writeFileSync(end, '');
    await call;
    await another.end();
  });

  it('is of 40 nodes as of one', async () => {
    const nodes = Object.fromEntries(Array.from({length: 40}, (_, at) => [`n${at}`, at % 2 === 0 ? '127.0.0.1' : '127.0.0.2']));
    const {results: found} = await master.call('version', nodes);
    expect(Object.values(found).map(({payload, fail_msg: message}) => message ?? payload)).to.deep.equal(Array(40).fill(protocolVersion));
  });
});
