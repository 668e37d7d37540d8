import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {expect} from 'chai';
import {describeIf} from '../support/as-root';
import {GanetiBench} from '../support/ganeti-bench';
import {ganetiProblem} from '../support/ganeti-node';
import {FaultInjector, faultsOfTheLoop, injectionProblem} from '../support/injected-faults';
import type {NamedFault} from '../support/injected-faults';
import {until} from '../support/until';

interface Fault extends NamedFault {
  /** The stage of the start that fails; the words on stderr of a function process that fails; or the call goes on, and what is said of it before it may end. */
  readonly stage?: 'journal' | 'open' | 'spawn';
  readonly fails?: RegExp;
  readonly says?: RegExp;
}

const faults: readonly Fault[] = [
  ...['EMFILE', 'ENOSPC'].flatMap((errno): Fault[] => [
    {call: 'openat', errno, nth: 1, what: 'the file of stdout', stage: 'open'},
    {call: 'openat', errno, nth: 2, what: 'the file of stderr', stage: 'open'},
    // Its start time if a clock tick passed meanwhile.
    ...[3, 4].map((nth): Fault => ({call: 'openat', errno, nth, what: 'what is read and written beside it'})),
  ]),
  ...['ENOSPC', 'EIO'].flatMap((errno): Fault[] => [
    {call: 'write', errno, nth: 1, what: 'the log, for the acceptance', stage: 'journal'},
    // (The end of a function is a write too, into the pipe of its signals.)
    {call: 'write', errno, nth: 2, what: 'the log, for the start', says: /cannot write to the log/},
  ]),
  ...['EAGAIN', 'ENOMEM'].flatMap((errno): Fault[] => [
    {call: 'clone,clone3', errno, nth: 1, what: 'a process', stage: 'spawn'},
    {call: 'setsid', errno, nth: 1, inChild: true, what: 'a session', fails: new RegExp(errno === 'EAGAIN' ? 'temporarily' : 'memory')},
    {call: 'dup2', errno, nth: 2, inChild: true, what: 'stdout', fails: /./},
    {call: 'prlimit64', errno, nth: 1, inChild: true, what: 'a limit', fails: /./},
    ...faultsOfTheLoop(errno),
    {call: 'read', errno, nth: 1, what: 'the signals'},
    {call: 'newfstatat', errno, nth: 2, what: 'the size of stderr'},
  ]),
];

describeIf('a system call of noded-ganeti that fails', ganetiProblem() ?? injectionProblem(), () => {
  let bench: GanetiBench;
  const injector = new FaultInjector();
  before(async () => {
    bench = new GanetiBench();
    await bench.open();
    await bench.call('version', []);
  });
  afterEach(() => injector.release());
  after(() => bench.dispose());

  for (const fault of faults) {
    const {call, errno, nth, what, stage, fails, says} = fault;
    const title = stage === 'journal' ? 'refuses a start' : stage !== undefined ? `is a start that failed, with its errno and "${stage}"` : fails !== undefined ? 'is a function process that failed, and says why' : 'ends no call';
    it(`${title}: ${call.split(',')[0]} ${nth}, ${errno}, for ${what}`, async () => {
      const server = bench.forkServer;
      bench.warnings.length = 0;
      await injector.inject(server, fault);
      const gate = join(bench.root, `gate of ${errno}`);
      if (says !== undefined) execFileSync('mkfifo', [gate]);
      const run = says === undefined ? bench.start('spec_print', ['thing']) : bench.start('spec_wait', [gate]);
      if (says !== undefined) {
        await until(`it says ${says}`, () => bench.warnings.some((warning) => says.test(warning)));
        fs.writeFileSync(gate, '.');
      }
      await until('it has ended, or is refused', () => run.ending ?? run.refusal ?? false);
      await injector.release();
      if (stage === 'journal') expect(run.refusal).to.include({code: errno === 'EMFILE' ? 'spawner_unavailable' : 'spool_full'});
      else if (stage !== undefined) expect(run.ending).to.include({kind: 'not_started', errno, stage});
      else if (fails !== undefined) {
        expect(run.ending).to.include({kind: 'exited', exitCode: 70, output: 'empty'});
        expect(run.stderr).to.match(/^noded-ganeti: /).and.match(fails);
      } else {
        expect(run.ending, run.stderr).to.include({kind: 'exited', exitCode: 0, output: 'json'});
        expect(run.stdout).to.equal(says === undefined ? '[true, true]\n' : '[true, "waited"]\n');
      }
      expect(run.events).to.deep.equal(stage === undefined ? ['spawn returned', 'started', 'ended'] : ['spawn returned', stage === 'journal' ? 'refused' : 'ended']);
      expect((await bench.call('spec_echo', [1])).stdout).to.equal('[true, [1]]\n');
      expect(bench.forkServer).to.equal(server);
    });
  }
});
