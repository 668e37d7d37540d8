/** Answers that get lost on their way to Ganeti's RPC client: no function runs twice, and none is given up too early. */
import {existsSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {expect} from 'chai';
import {describeIf} from '../support/as-root';
import type {NodedDaemon} from '../support/daemon';
import {until} from '../support/until';
import {CuttingProxy} from './cutting-proxy';
import type {Cut} from './cutting-proxy';
import {GanetiWorld, noGaneti} from './ganeti-world';
import type {Master, RpcResult} from './ganeti-world';

const fin: Cut = {bytes: 0, ending: 'fin'};
const rst: Cut = {bytes: 0, ending: 'rst'};
const silence: Cut = {bytes: 0, ending: 'silence'};
const halfWay: Cut = {bytes: 200, ending: 'fin'};

const losses: Readonly<Record<string, readonly Cut[]>> = {
  'that ends the connection': [fin],
  'that resets it': [rst],
  'that just does not come': [silence],
  'of which a part comes': [halfWay],
  'that ends the connection, as do the next four': [fin, fin, fin, fin, fin],
  'that is one of many, each lost in another way': [rst, halfWay, silence, fin, rst],
};

describeIf('Ganeti\'s RPC client whose answers get lost', noGaneti, () => {
  let world: GanetiWorld;
  let noded: NodedDaemon;
  let proxy: CuttingProxy;

  before(async function () {
    this.timeout(60_000);
    world = await new GanetiWorld().open();
    // Without a fork server, so that functions do not outlive it.
    noded = await world.noded('127.0.0.1', 'spawner = "child"');
    proxy = await CuttingProxy.open(world.port, '127.0.0.2', '127.0.0.1');
  });
  after(async () => {
    await proxy.close();
    await world.dispose();
  });
  afterEach(() => {
    proxy.cuts = [];
    proxy.lostRequests = 0;
    proxy.closed = false;
  });

  /** A process that knows nothing of this node. Only where an answer is withheld is it short of patience. */
  async function fresh<T>(use: (master: Master) => Promise<T>, cuts: readonly Cut[] = []): Promise<T> {
    const master = await world.master(cuts.includes(silence) ? {grace: 4} : {});
    try {
      return await use(master);
    } finally {
      await master.end();
    }
  }

  const callOf = (master: Master, procedure: string, args: readonly unknown[], timeout = 60): Promise<RpcResult> =>
    master.call(procedure, {node: '127.0.0.2'}, {args, timeout}).then(({results}) => results.node!);

  for (const [title, cuts] of Object.entries(losses)) {
    it(`runs a function once, if the answer to its start is one ${title}`, async () => {
      const file = world.newFile();
      const result = await fresh((master) => {
        proxy.cuts = [...cuts];
        return callOf(master, 'tally', [file]);
      }, cuts);
      expect(result, result.fail_msg ?? '').to.include({data: '[True, None]', fail_msg: null});
      expect(proxy.cuts).to.deep.equal([]);
      expect(readFileSync(file, 'utf8')).to.equal('x\n');
      expect(existsSync(world.oldNodes), 'the node is not taken for an old one').to.equal(false);
    });

    it(`gets the result, if the answer to a wait is one ${title}`, async () => {
      const [started, end] = [world.newFile(), world.newFile()];
      const result = await fresh(async (master) => {
        const called = callOf(master, 'until_file', [started, end]);
        await until('it is waited for', () => /PUT \/WaitForFunction \S+ \S+ finished/.test(master.log));
        proxy.cuts = [...cuts];
        await until('all answers are lost', () => proxy.cuts.length === 0, 25_000);
        writeFileSync(end, '');
        return called;
      }, cuts);
      expect(result, result.fail_msg ?? '').to.include({data: '[True, None]', fail_msg: null});
      expect(readFileSync(started, 'utf8')).to.equal('x\n');
    });
  }

  it('starts a function that was never started, if its start got lost on the way', async () => {
    const file = world.newFile();
    const {result, log} = await fresh(async (master) => {
      proxy.lostRequests = 1;
      return {result: await callOf(master, 'tally', [file]), log: () => master.log};
    });
    expect(result, result.fail_msg ?? '').to.include({data: '[True, None]', fail_msg: null});
    expect(readFileSync(file, 'utf8')).to.equal('x\n');
    expect(log().match(/PUT \/StartFunction \S+ \S+ finished/g)).to.have.length(2);
  });

  it('starts a function once, if the connection breaks before or while its start is sent', async () => {
    for (let times = 1; times <= 8; times += 1) {
      const file = world.newFile();
      const result = await fresh((master) => {
        proxy.brokenHandshakes = 1;
        return callOf(master, 'tally', [file]);
      });
      expect(result, result.fail_msg ?? '').to.include({data: '[True, None]', fail_msg: null});
      expect(readFileSync(file, 'utf8')).to.equal('x\n');
    }
  });

  it('gives up a function whose start gets lost again and again', async () => {
    const file = world.newFile();
    const result = await fresh(async (master) => {
      proxy.lostRequests = 100;
      await master.configure('conversation', {RESTART_PATIENCE: 2});
      return callOf(master, 'tally', [file]);
    });
    expect(result.fail_msg).to.match(/^Error \d+: .*no answer of the node for \d+ seconds, where tally with request ID ganeti-\d+-[0-9a-f]{32} may still run$/);
    expect(existsSync(file)).to.equal(false);
  });

  it('hears what became of a call when noded was killed and started again', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    const result = await fresh(async (master) => {
      const called = callOf(master, 'until_file', [started, end]);
      await until('it runs', () => existsSync(started) && readFileSync(started, 'utf8') !== '');
      await noded.kill();
      await noded.start();
      return called;
    });
    expect(result.fail_msg).to.match(/lost, call \S+ of until_file\)$/);
    expect(readFileSync(started, 'utf8')).to.equal('x\n');
  });

  it('does not start a function again on a node that has lost its memory', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    const result = await fresh(async (master) => {
      proxy.cuts = Array<Cut>(100).fill(fin);
      const called = callOf(master, 'until_file', [started, end]);
      await until('it runs', () => existsSync(started) && readFileSync(started, 'utf8') !== '');
      proxy.closed = true;
      await noded.kill();
      noded.killFunctions();
      rmSync(noded.runDir, {recursive: true});
      await noded.start();
      proxy.cuts = [];
      proxy.closed = false;
      return called;
    });
    expect(result.fail_msg).to.match(/^the answer to the start of until_file with request ID \S+ was lost, and nothing proves that it never ran$/);
    expect(readFileSync(started, 'utf8')).to.equal('x\n');
  });

  it('is told of a node that has lost its memory while it waited', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    const result = await fresh(async (master) => {
      const called = callOf(master, 'until_file', [started, end]);
      await until('it is waited for', () => /PUT \/WaitForFunction \S+ \S+ finished/.test(master.log));
      await noded.kill();
      noded.killFunctions();
      rmSync(noded.runDir, {recursive: true});
      await noded.start();
      return called;
    });
    expect(result.fail_msg).to.match(/^unknown_call: .*; it was asked for call \S+ of until_file$/);
    expect(readFileSync(started, 'utf8')).to.equal('x\n');
  });

  it('gives up after a while on a node that refuses connections, and names the call', async () => {
    const [started, end] = [world.newFile(), world.newFile()];
    const result = await fresh(async (master) => {
      await master.configure('conversation', {RESTART_PATIENCE: 2});
      const called = callOf(master, 'until_file', [started, end]);
      await until('it is waited for', () => /PUT \/WaitForFunction \S+ \S+ finished/.test(master.log));
      await noded.kill();
      return called;
    });
    expect(result.fail_msg).to.match(/^Error \d+: .*; no answer of the node for \d+ seconds, where call \S+ of until_file may still run$/);
    await noded.start();
  });

  it('fails at once, as ever, on a node where nobody listens', async () => {
    const result = await fresh(async (master) => {
      const called = await master.call('version', {node: '127.0.0.9'});
      return called.results.node!;
    });
    expect(result.fail_msg).to.match(/^Error 7: [^;]+$/);
  });
});
