/** A noded that finds the fork server of a later one: after an upgrade that was taken back. */
import {expect} from 'chai';
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {BuiltNoded} from '../support/built';
import {NodedDaemon} from '../support/daemon';
import {buildForkerOfVersion} from '../support/forker-builds';
import {forkServersIn, isAlive} from '../support/processes';
import {programs} from '../support/programs';
import {until} from '../support/until';

const laterVersion = 99;

/** noded with a fork server whose frames nobody else knows. */
function makeLater(): BuiltNoded {
  const later = new BuiltNoded({forker: true});
  fs.copyFileSync(buildForkerOfVersion(laterVersion), join(later.root, 'libexec/noded-forker'));
  const frames = join(later.root, 'lib/proc/fork-frames.js');
  const text = fs.readFileSync(frames, 'utf8');
  const changed = text.replace(/frameVersion = \d+;/, `frameVersion = ${laterVersion};`);
  if (changed === text) throw new Error('there is no version to be changed');
  fs.writeFileSync(frames, changed);
  return later;
}

describe('the fork server of a later noded', () => {
  let built: BuiltNoded;
  let later: BuiltNoded;
  let node: NodedDaemon;
  let program: string;
  before(() => {
    built = new BuiltNoded({forker: true});
    later = makeLater();
    program = join(built.root, 'installed');
  });
  beforeEach(async () => {
    install(later);
    node = await NodedDaemon.start({program, functions: {until_file: programs.until_file}, config: 'on_stop = "leave"\n'});
  });
  afterEach(() => node.dispose());
  after(() => {
    later.dispose();
    built.dispose();
  });

  const install = (one: BuiltNoded): void => {
    fs.rmSync(program, {force: true});
    fs.symlinkSync(one.program, program);
  };

  it('makes way where it has nothing to do', async () => {
    const [before] = forkServersIn(node.runDir);
    await node.kill();
    install(built);
    await node.start();
    expect(forkServersIn(node.runDir)).to.have.lengthOf(1).and.not.to.include(before);
  });

  it('keeps the calls that it runs, and noded out until they have ended', async () => {
    const mark = join(node.root, 'mark');
    const {id} = (await node.startFunction('until_file', mark, 0)).json.call;
    await node.kill();
    install(built);
    const {status, stderr} = spawnSync(program, node.commandLine(), {encoding: 'utf8'});
    expect(status, stderr).to.equal(75);
    expect(stderr).to.include(`cannot be used, and may have calls: it speaks version ${laterVersion}, and this noded `).and.to.include('; calls that run there: 1');
    expect(isAlive(Number(id.split(':')[1]))).to.equal(true);
    fs.writeFileSync(mark, '');
    await until('it has ended', () => !isAlive(Number(id.split(':')[1])));
    await node.start();
    expect((await node.waitForFunction(id, 20)).json.result).to.equal('seen');
  });
});
