/** Nodes that stand still, and masters that die: what Ganeti's RPC client knows of the one, and nodes care about the other. */
import {existsSync, readFileSync, writeFileSync} from 'node:fs';
import {expect} from 'chai';
import {describeIf} from '../support/as-root';
import type {NodedDaemon} from '../support/daemon';
import {isAlive} from '../support/processes';
import {until} from '../support/until';
import {GanetiWorld, noGaneti, protocolVersion} from './ganeti-world';
import type {Master} from './ganeti-world';

const addresses = {well: '127.0.0.1', frozen: '127.0.0.2'};

describeIf('Ganeti\'s RPC client and a node that stands still', noGaneti, () => {
  let world: GanetiWorld;
  let well: NodedDaemon;
  let frozen: NodedDaemon;
  let master: Master;

  before(async function () {
    this.timeout(60_000);
    world = await new GanetiWorld().open();
    well = await world.noded(addresses.well);
    frozen = await world.noded(addresses.frozen);
    master = await world.master({grace: 2});
  });
  after(() => world.dispose());
  afterEach(() => frozen.signal('SIGCONT'));

  it('knows long before the end of the class timeout that it is frozen, names the call there, and gets what others answer', async () => {
    const end = world.newFile();
    const begin = master.log.length;
    const called = master.call('until_file', addresses, {args: [world.newFile(), end], timeout: 3_600});
    await until('it is waited for', () => Object.values(addresses).every((address) => new RegExp(`${address}:\\d+ PUT /WaitForFunction \\S+ \\S+ finished`).test(master.log.slice(begin))));
    frozen.signal('SIGSTOP');
    await until('the frozen node was given up', () => /127\.0\.0\.2:\d+ PUT \/WaitForFunction \S+ \S+ finished, errmsg=Error 28/.test(master.log), 20_000);
    writeFileSync(end, '');
    const {results} = await called;
    expect(results.well).to.include({data: '[True, None]', fail_msg: null});
    expect(results.frozen!.fail_msg).to.match(/^Error 28: .*; no answer of the node for \d+ seconds, where call \d+:\S+ of until_file may still run$/);
  });

  it('fails as ever if it stood still from the first', async () => {
    frozen.signal('SIGSTOP');
    const {results} = await master.call('version', addresses);
    expect(results.well!.payload).to.equal(protocolVersion);
    expect(results.frozen!.fail_msg).to.match(/^Error 28: [^;]*$/);
  });

  it('is patient with one that stood still for a moment', async () => {
    const end = world.newFile();
    const begin = master.log.length;
    await master.configure('conversation', {SILENCE_PATIENCE: 10});
    const called = master.call('until_file', {node: addresses.frozen}, {args: [world.newFile(), end]});
    await until('it is waited for', () => /PUT \/WaitForFunction \S+ \S+ finished/.test(master.log.slice(begin)));
    frozen.signal('SIGSTOP');
    await until('an answer was missed', () => /PUT \/WaitForFunction \S+ \S+ finished, errmsg=Error 28/.test(master.log.slice(begin)), 20_000);
    frozen.signal('SIGCONT');
    writeFileSync(end, '');
    expect((await called).results.node).to.include({data: '[True, None]', fail_msg: null});
  });

  it('leaves a function alone when the master is killed, and its result can be had', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    const mortal = await world.master({grace: 2});
    const called = mortal.call('until_file', {node: addresses.well}, {args: [started, end]}).catch((error: Error) => error);
    const call = await until('it runs', async () => existsSync(started) && (await runningCalls(well))[0]);
    await world.stop(mortal.process, 'SIGKILL');
    expect(await called).to.be.an('error');
    expect(well.functionProcesses().filter(isAlive)).to.not.deep.equal([]);
    writeFileSync(end, '');
    const {json} = await well.put('WaitForFunction', {request_id: call.request_id, timeout: 20}, {client: world.client});
    expect(json).to.deep.include({finished: true, result: [true, null]});
    expect(readFileSync(started, 'utf8')).to.equal('x\n');
    await until('nothing is left of it', () => well.functionProcesses().length === 0);
  });

  async function runningCalls(noded: NodedDaemon): Promise<readonly {readonly request_id: string}[]> {
    const {json} = await noded.get('/calls?state=running&fn_name=until_file', {client: world.client});
    return (json as unknown as {calls: {request_id: string}[]}).calls;
  }
});
