import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import {signaller} from '../support/early-signals';
import {fixtures} from '../support/fixtures';
import {until} from '../support/until';

describe('a signal that comes before noded is ready', function () {
  this.timeout(60_000);
  let daemon: NodedDaemon;
  let preload: string;
  before(() => {
    const root = new NodedDaemon();
    preload = join(root.root, 'signaller.js');
    daemon = new NodedDaemon({functions: fixtures, env: {NODE_OPTIONS: `--require ${preload}`}});
    after(() => root.dispose());
  });
  after(() => daemon.dispose());
  const says = (pattern: RegExp): number[] => daemon.logLines().flatMap(({msg}, index) => (pattern.test(msg) ? [index] : []));

  it('is SIGHUP: it waits, and one reload follows', async () => {
    fs.writeFileSync(preload, signaller('SIGHUP'));
    await daemon.start();
    await daemon.logged(/^reloaded/);
    daemon.signal('SIGHUP');
    await until('there was another one', () => says(/^reloaded/).length === 2);
    expect(says(/^noded is ready/)[0]).to.be.below(says(/^reloaded/)[0]!);
    expect((await daemon.stop()).code).to.equal(0);
  });

  it('is SIGUSR2: what was left is taken over and may end', async () => {
    fs.writeFileSync(preload, '');
    await daemon.start();
    const file = join(daemon.root, 'go');
    const id = await daemon.startReady('patient', file);
    await daemon.kill();
    fs.writeFileSync(preload, signaller('SIGUSR2'));
    daemon.launch();
    await daemon.logged(/^draining/, 25_000);
    fs.writeFileSync(file, '');
    expect(await daemon.exited).to.deep.equal({code: 0, signal: null});
    expect(says(/^noded is ready/)).to.deep.equal([]);
    fs.writeFileSync(preload, '');
    await daemon.start();
    expect((await daemon.waitForFunction(id, 0)).json.result).to.equal(true);
  });
});
