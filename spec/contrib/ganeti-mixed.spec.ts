/** A cluster of which some nodes have noded and some Ganeti's own node daemon: contrib/ganeti finds out, and remembers. */
import type {ChildProcess} from 'node:child_process';
import {existsSync, readFileSync, readdirSync, utimesSync} from 'node:fs';
import {join} from 'node:path';
import {expect} from 'chai';
import {describeIf} from '../support/as-root';
import type {NodedDaemon} from '../support/daemon';
import {childrenOf} from '../support/processes';
import {until} from '../support/until';
import {GanetiWorld, noGaneti, protocolVersion} from './ganeti-world';
import type {Master} from './ganeti-world';

const [newAddress, oldAddress, changing] = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];

describeIf('Ganeti\'s RPC client in a mixed cluster', noGaneti, () => {
  let world: GanetiWorld;
  let noded: NodedDaemon;
  let old: ChildProcess;
  let master: Master;

  before(async function () {
    this.timeout(60_000);
    world = await new GanetiWorld().open();
    noded = await world.noded(newAddress);
    old = await world.oldNode(oldAddress);
    master = await world.master();
  });
  after(() => world.dispose());

  /** What Ganeti's own daemon has logged of requests that it could not answer. */
  const tracebacks = (): number => readFileSync(join(world.root, 'old0/var/log/ganeti/node-daemon.log'), 'utf8').split('AttributeError: \'str\' object').length - 1;

  const marked = (): string[] => (existsSync(world.oldNodes) ? readdirSync(world.oldNodes) : []);

  it('calls both kinds, and remembers the old one', async () => {
    expect(marked()).to.deep.equal([]);
    const {results} = await master.call('version', {new: newAddress, old: oldAddress});
    expect(results.new).to.include({payload: protocolVersion, fail_msg: null});
    expect(results.old).to.include({payload: protocolVersion, fail_msg: null});
    expect(marked()).to.deep.equal([`${oldAddress}:${world.port}`]);
  });

  it('asks an old node nothing that it does not know, once that is known, from another process neither', async () => {
    const before = tracebacks();
    const another = await world.master();
    for (const one of [master, another]) expect((await one.call('version', {old: oldAddress})).results.old!.payload).to.equal(protocolVersion);
    expect(tracebacks()).to.equal(before);
    await another.end();
  });

  it('gives an old node\'s failures as ever', async () => {
    const classic = await world.master({adapted: false});
    for (const procedure of ['os_get', 'file_storage_dir_create']) {
      const [got, expected] = [await master.call(procedure, {old: oldAddress}), await classic.call(procedure, {old: oldAddress})];
      expect(got.results).to.deep.equal(expected.results);
      expect(got.results.old!.fail_msg).to.be.a('string');
    }
    await classic.end();
  });

  it('waits for both kinds at once', async () => {
    const called = master.call('test_delay', {new: newAddress, old: oldAddress}, {args: [2]});
    const seen = {new: false, old: false};
    await until('the function runs on both nodes', () => {
      seen.new ||= noded.functionProcesses().length > 0;
      seen.old ||= childrenOf(old.pid!).length > 0;
      return seen.new && seen.old;
    });
    const {results} = await called;
    expect([results.new, results.old].map((result) => result!.data)).to.deep.equal(['[True, None]', '[True, None]']);
  });

  it('goes on with the slices of new nodes while an old one is silent', async () => {
    const begin = master.log.length;
    const called = master.call('test_delay', {new: newAddress, old: oldAddress}, {args: [2]});
    await called;
    const waits = master.log.slice(begin).match(new RegExp(`${newAddress}:\\d+ PUT /WaitForFunction \\S+ \\S+ finished, errmsg=None`, 'g'));
    expect(waits).to.have.length.at.least(2);
  });

  it('looks again when what is known is too old', async () => {
    const mark = join(world.oldNodes, `${oldAddress}:${world.port}`);
    const before = tracebacks();
    utimesSync(mark, new Date(), new Date(Date.now() - 601_000));
    expect((await master.call('version', {old: oldAddress})).results.old!.payload).to.equal(protocolVersion);
    expect(tracebacks()).to.be.above(before);
    expect(marked()).to.deep.equal([`${oldAddress}:${world.port}`]);
  });

  it('believes no mark from the future', async () => {
    const before = tracebacks();
    utimesSync(join(world.oldNodes, `${oldAddress}:${world.port}`), new Date(), new Date(Date.now() + 3_600_000));
    expect((await master.call('version', {old: oldAddress})).results.old!.payload).to.equal(protocolVersion);
    expect(tracebacks()).to.be.above(before);
  });

  it('notices an upgrade and a downgrade, and runs a function once on the way', async function () {
    this.timeout(60_000);
    const daemon = await world.oldNode(changing);
    expect((await master.call('version', {node: changing})).results.node!.payload).to.equal(protocolVersion);
    expect(marked()).to.include(`${changing}:${world.port}`);

    await world.stop(daemon);
    const upgraded = await world.noded(changing);
    const file = world.newFile();
    expect((await master.call('tally', {node: changing}, {args: [file]})).results.node).to.include({data: '[True, None]', fail_msg: null});
    expect(readFileSync(file, 'utf8')).to.equal('x\n');
    expect(marked()).to.not.include(`${changing}:${world.port}`);

    await upgraded.kill();
    await world.oldNode(changing);
    expect((await master.call('test_delay', {node: changing}, {args: [0.1]})).results.node).to.include({data: '[True, None]', fail_msg: null});
    expect(marked()).to.include(`${changing}:${world.port}`);
  });
});
