import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {describeIf} from '../support/as-root';
import {signaller} from '../support/early-signals';
import {ganetiProblem} from '../support/ganeti-node';
import {GanetiNoded} from '../support/ganeti-noded';
import {until} from '../support/until';

describeIf('a SIGHUP that comes before ganeti-noded is ready', ganetiProblem(), function (this: Mocha.Suite) {
  this.timeout(60_000);
  let node: GanetiNoded;
  before(() => (node = new GanetiNoded()));
  after(() => node.dispose());

  it('waits, and one reload follows', async () => {
    const preload = join(node.directory, 'signaller.js');
    fs.writeFileSync(preload, signaller('SIGHUP'));
    await node.start([], ['env', `NODE_OPTIONS=--require ${preload}`]);
    await until('it has been carried out', () => node.log.includes('reloaded certificates'));
    expect((await node.stop()).code).to.equal(0);
    expect(node.log.match(/reloaded certificates/g)).to.have.length(1);
  });
});
