/** Something removes files of a run directory that is in use: a cleaner of /tmp, an administrator. */
import {expect} from 'chai';
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import {forkServersIn, isAlive, signalProcess} from '../support/processes';
import {programs} from '../support/programs';
import {BuiltNoded} from '../support/built';
import {until} from '../support/until';

const names = ['lock', 'forker.lock', 'forker.sock', 'noded.sock'];

/** systemd-tmpfiles(8) takes whatever is older than a second, as it does of /tmp after ten days. */
function clean({root, functionsDir, configFile}: NodedDaemon): void {
  const config = join(root, 'tmpfiles.conf');
  fs.writeFileSync(config, `e ${root} - - - 1s\n${[functionsDir, configFile, config].map((path) => `x ${path}\n`).join('')}`);
  const {status, stderr} = spawnSync('systemd-tmpfiles', ['--clean', `--prefix=${root}`, config], {encoding: 'utf8'});
  expect(status, stderr).to.equal(0);
}

describe('a run directory that is cleaned', () => {
  let built: BuiltNoded;
  before(() => {
    built = new BuiltNoded({forker: true});
  });
  after(() => built.dispose());

  for (const spawner of ['forker', 'child'] as const) {
    describe(`by hand, ${spawner}`, () => {
      let node: NodedDaemon;
      let call: string;
      let mark: string;
      beforeEach(async () => {
        node = await NodedDaemon.start({program: built.program, functions: {cat: programs.cat, until_file: programs.until_file}, config: `spawner = "${spawner}"\n`});
        mark = join(node.root, 'mark');
        call = (await node.startFunction('until_file', mark, 0)).json.call.id;
        for (const name of names) fs.rmSync(join(node.runDir, name), {force: true});
      });
      afterEach(() => node.dispose());

      const endsWell = async (): Promise<void> => {
        fs.writeFileSync(mark, '');
        const {json} = await node.waitForFunction(call, 30);
        expect([json.finished, json.call.outcome, json.result]).to.deep.equal([true, 'ok', 'seen']);
      };
      const second = (...more: string[]): [code: number | null, said: string] => {
        const {status, stderr} = spawnSync(built.program, [...node.commandLine(), ...more], {encoding: 'utf8'});
        return [status, stderr];
      };

      it('keeps a second noded out, that does no harm', async () => {
        const [code, said] = second('-p', '0');
        expect([code, said]).to.deep.equal([75, `noded: ${node.runDir} is in use by another noded\n`]);
        await endsWell();
      });

      it('is left alone where the port is another\'s', async () => {
        await node.kill();
        // Whoever has the port now: nothing of the run directory was looked at.
        const holder = await NodedDaemon.start({program: built.program});
        try {
          const before = fs.readdirSync(join(node.runDir, 'calls'));
          const [code, said] = second('-p', String(holder.port));
          expect([code, said]).to.deep.equal([71, `noded: cannot listen on 127.0.0.1 port ${holder.port}: EADDRINUSE\n`]);
          expect(fs.readdirSync(join(node.runDir, 'calls'))).to.deep.equal(before);
          expect(isAlive(Number(call.split(':')[1])), 'the function goes on').to.equal(true);
        } finally {
          await holder.dispose();
        }
      });

      it('is there again for new calls after all of it was removed', async () => {
      fs.rmSync(node.runDir, {recursive: true});
      // The call that finds it gone is refused, and has started nothing.
      expect((await node.startFunction('cat', 0, 20)).json).to.include({code: 'spool_full', started: 'no'});
      await until('a call has its files', async () => (await node.startFunction('cat', 1, 20)).json.result === 1);
    });

    if (spawner === 'forker') {
        it('is found by the next noded with its fork server and its calls', async () => {
          const [server] = forkServersIn(node.runDir);
          await node.kill();
          await node.start();
          expect(forkServersIn(node.runDir)).to.deep.equal([server]);
          await endsWell();
        });

        it('is not taken from a fork server that stands still and cannot be found by its names', async () => {
          const [server] = forkServersIn(node.runDir);
          signalProcess(server!, 'SIGSTOP');
          await node.kill();
          const [code, said] = second();
          expect(code, said).to.equal(75);
          signalProcess(server!, 'SIGCONT');
          await until('its names are there again', () => fs.existsSync(join(node.runDir, 'forker.sock')));
          await node.start();
          await endsWell();
        });
      }
    });
  }

  describe('by systemd-tmpfiles(8)', () => {
    let node: NodedDaemon;
    before(async () => {
      node = await NodedDaemon.start({program: built.program, functions: {forever: programs.forever}});
    });
    after(() => node.dispose());
    const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

    it('keeps all that is in it while noded runs, and what the fork server needs when it is alone', async () => {
      const call = (await node.startFunction('forever', null, 0)).json.call.id;
      const stray = join(node.root, 'stray');
      fs.writeFileSync(stray, '');
      const before = fs.readdirSync(node.runDir);
      await pause(2_000);
      clean(node);
      expect(fs.existsSync(stray), 'what lies beside it').to.equal(false);
      expect(fs.readdirSync(node.runDir)).to.deep.equal(before);

      await node.kill();
      await pause(2_000);
      clean(node);
      expect(fs.readdirSync(node.runDir)).to.include.members(['calls', 'forker.sock', 'log']);
      expect(fs.readdirSync(join(node.runDir, 'log')), 'segments').to.not.have.length(0);
      await node.start();
      expect((await node.waitForFunction(call, 0)).json.call.state).to.equal('running');
    });
  });
});
