import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {dirname, join} from 'node:path';
import {describeIf} from '../support/as-root';
import {buildForker, buildForkerOfSlots} from '../support/forker-builds';
import {ganetiForker, hasGaneti, makeGanetiNode} from '../support/ganeti-node';
import {FaultInjector, injectionProblem} from '../support/injected-faults';
import {forkServersIn, isAlive, kill} from '../support/processes';
import {SpawnerBench, forkerKind, ganetiKind} from '../support/spawner-bench';
import type {SpawnerKind} from '../support/spawner-bench';
import {until} from '../support/until';

const slots = 4;

/** noded-ganeti with few slots. */
function smallGaneti(directory: string): string {
  const program = join(directory, 'noded-ganeti');
  const text = `#!/usr/bin/python3 -IB\nimport sys\nsys.path.insert(0, ${JSON.stringify(dirname(ganetiForker))})\nfrom noded_ganeti import calls, startup\ncalls.MAX_CALLS = ${slots}\nstartup.main(sys.argv)\n`;
  fs.writeFileSync(program, text, {mode: 0o755});
  return program;
}

const directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-slots-'));
after(() => fs.rmSync(directory, {recursive: true}));

interface Kind {
  readonly usual: SpawnerKind;
  readonly small: SpawnerKind;
}

const kinds: readonly Kind[] = [
  {usual: forkerKind('noded-forker', buildForker), small: forkerKind('noded-forker', () => buildForkerOfSlots(slots))},
  ...(hasGaneti ? [{usual: ganetiKind, small: forkerKind('noded-ganeti', () => smallGaneti(directory), (runDir) => makeGanetiNode(dirname(runDir)).env)}] : []),
];

/** It leaves a process in a session of its own, and says its pid. */
const leaves = '#!/bin/sh\nsetsid sleep 60 &\necho $!\n';

for (const {usual, small} of kinds) {
  describeIf(`${usual.name} that cannot look at its children`, injectionProblem(), () => {
    let bench: SpawnerBench;
    const injector = new FaultInjector();
    const leftovers: number[] = [];
    const open = async (kind: SpawnerKind, errno: string, isListOnly: boolean): Promise<void> => {
      bench = new SpawnerBench(kind);
      await bench.open();
      const list = `/proc/self/task/${bench.forkServer}/children`;
      await injector.inject(bench.forkServer, {call: 'openat', errno, nth: '1+', paths: isListOnly ? [list] : [list, '/proc']});
    };
    const leave = async (): Promise<number> => {
      const run = await bench.run(bench.define('leaves', leaves));
      expect(run.ending).to.include({kind: 'exited', exitCode: 0, output: 'json'});
      leftovers.push(Number(run.stdout));
      return Number(run.stdout);
    };
    afterEach(async () => {
      await injector.release();
      leftovers.splice(0).filter(isAlive).forEach(kill);
      await bench.dispose();
    });

    it('because there is no list of them looks through /proc, and says so once', async () => {
      await open(usual, 'ENOENT', true);
      for (let count = 0; count < 3; count += 1) {
        const left = await leave();
        await until('what it left is dead', () => !isAlive(left));
      }
      const said = bench.warnings.filter((warning) => warning.includes('/proc'));
      expect(said).to.have.lengthOf(1).with.property('0').that.matches(/has no list of its children/);
    });

    it('has slots for new calls all the same, and looks again when it can', async () => {
      await open(small, 'EMFILE', false);
      for (let count = 0; count < 3 * slots; count += 1) await leave();
      expect(bench.warnings.filter((warning) => warning.includes('/proc'))).to.have.lengthOf(2);
      await injector.release();
      await until('all is dead', () => !leftovers.some(isAlive));
    });

    it('ends when it is told to all the same', async () => {
      await open(usual, 'EMFILE', false);
      await leave();
      const close = bench.close();
      await until('it has gone', () => forkServersIn(bench.runDir).length === 0);
      await close;
    });
  });
}
