import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {describeIf} from '../support/as-root';
import {FaultInjector, faultsOfTheLoop, injectionProblem} from '../support/injected-faults';
import type {NamedFault} from '../support/injected-faults';
import {SpawnerBench, nodedForkers} from '../support/spawner-bench';
import type {ForkerOnMedium, Run} from '../support/spawner-bench';
import {until} from '../support/until';

interface Fault extends NamedFault {
  /** Only what is done with the log. */
  readonly inLog?: true;
  /** The stage of the start that fails; or the call goes on, and this is what the fork server says, if anything. */
  readonly stage?: 'journal' | 'open' | 'spawn' | 'exec';
  readonly says?: RegExp;
  /** The function goes on until this was said; or for so long that its start is written before its end. */
  readonly meanwhile?: true;
  readonly slow?: true;
}

const log = /cannot write to the log/;

const noRoom = ['EMFILE', 'ENFILE', 'ENOMEM'];
const fullDisk = ['ENOSPC', 'ENOMEM', 'EAGAIN'];

/** What is asked of a filesystem: of the one in memory by the thread that does all else too. */
const ofFiles: readonly Fault[] = [
  ...noRoom.flatMap((errno): Fault[] => [
    {call: 'openat', errno, nth: 1, what: 'the file of stdout', stage: 'open'},
    {call: 'openat', errno, nth: 2, what: 'the file of stderr', stage: 'open'},
    {call: 'memfd_create', errno, nth: 1, what: 'memory for the arguments', stage: 'open'},
  ]),
  {call: 'openat', errno: 'ENOSPC', nth: 1, what: 'the file of stdout', stage: 'open'},
  ...['ENOSPC', 'ENOMEM'].flatMap((errno): Fault[] => [1, 2].map((nth) => ({call: 'linkat', errno, nth, what: 'a name for the output', says: /cannot have a name/, meanwhile: true}))),
  ...fullDisk.map((errno): Fault => ({call: 'pwrite64', errno, nth: 1, what: 'the arguments', stage: 'open'})),
  ...fullDisk.flatMap((errno): Fault[] => [
    {call: 'write', errno, nth: 1, inLog: true, what: 'the log, for the acceptance', stage: 'journal'},
    {call: 'write', errno, nth: 2, inLog: true, what: 'the log, for the start', says: log, slow: true},
    {call: 'write', errno, nth: 3, inLog: true, what: 'the log, for the end', says: log, slow: true},
  ]),
];

const ofProcesses: readonly Fault[] = ['EAGAIN', 'ENOMEM'].flatMap((errno): Fault[] => [
  {call: 'vfork,clone,clone3', errno, nth: 1, what: 'a process', stage: 'spawn'},
  {call: 'execveat', errno, nth: 1, inChild: true, what: 'exec', stage: 'exec'},
  {call: 'setsid', errno, nth: 1, inChild: true, what: 'a session', stage: 'spawn'},
  {call: 'dup2', errno, nth: 3, inChild: true, what: 'a standard stream', stage: 'spawn'},
  {call: 'prlimit64', errno, nth: 1, inChild: true, what: 'a limit', stage: 'spawn'},
  {call: 'rt_sigprocmask', errno, nth: 1, inChild: true, what: 'the signal mask', stage: 'spawn'},
  ...faultsOfTheLoop(errno),
  {call: 'kill', errno, nth: 1, what: 'the signal to what is left of the group'},
  {call: 'read', errno, nth: 1, what: 'the signals, or its start time'},
  {call: 'read', errno, nth: 2, what: 'the signals or the children'},
]);

/** The program, opened after so many files, and then what else is read and written for a call. */
const ofItsOwn = (opened: number): readonly Fault[] =>
  noRoom.flatMap((errno): Fault[] => [
    {call: 'openat', errno, nth: opened + 1, what: 'the program', stage: 'exec'},
    // Its start time if a clock tick passed meanwhile, its output, the list of children, what these are.
    ...[2, 3, 4, 5, 6].map((nth): Fault => ({call: 'openat', errno, nth: opened + nth, what: 'what is read and written beside it'})),
  ]);

/** Where calls of the system for files are made. */
const threadOf = ({medium}: ForkerOnMedium): {readonly onThread?: true} => (medium === 'disk' ? {onThread: true} : {});

const faultsOf = (forker: ForkerOnMedium): readonly Fault[] => [...ofFiles.map((fault) => ({...fault, ...threadOf(forker)})), ...ofItsOwn(forker.medium === 'disk' ? 0 : 2), ...ofProcesses];

function describeFaults(forker: ForkerOnMedium): void {
  let bench: SpawnerBench;
  const injector = new FaultInjector();

  before(async () => {
    bench = new SpawnerBench(forker);
    await bench.open();
  });
  afterEach(() => injector.release());
  after(() => bench.dispose());

  for (const fault of faultsOf(forker)) {
    const {call, errno, nth, what, stage, says, meanwhile, slow} = fault;
    const title = stage === undefined ? 'ends no call' : stage === 'journal' ? 'refuses a start' : `is a start that failed, with its errno and "${stage}"`;
    it(`${title}: ${call.split(',')[0]} ${nth}, ${errno}, for ${what}`, async () => {
      const gate = join(bench.root, `gate of ${call} ${nth} ${errno}`);
      const wait = meanwhile === true ? `until [ -e '${gate}' ]; do sleep 0.02; done\n` : slow === true ? 'sleep 0.2\n' : '';
      const spec = bench.define('prints', `#!/bin/sh\nsetsid sleep 60 &\necho note >&2\n${wait}exec cat\n`);
      await injector.inject(bench.forkServer, {...fault, ...(fault.inLog === true ? {paths: [`${bench.runDir}/log/0000000001.log`]} : {})});
      bench.warnings.length = 0;
      const server = bench.forkServer;
      const run: Run = bench.spawn(spec, {args: '[1]'});
      const itSays = says === undefined ? Promise.resolve() : until(`it says ${says}`, () => bench.warnings.some((warning) => says.test(warning)));
      if (meanwhile === true) await itSays;
      fs.writeFileSync(gate, '');
      await until('it has ended, or is refused', () => run.ending ?? run.refusal ?? false);
      if (stage === 'journal') {
        expect(run.refusal).to.include({code: errno === 'ENOSPC' ? 'spool_full' : 'spawner_unavailable'});
        expect(run.events).to.deep.equal(['spawn returned', 'refused']);
        expect(fs.readdirSync(`${bench.runDir}/calls`).filter((name) => name.startsWith(run.key))).to.deep.equal([]);
      } else if (stage === undefined) {
        expect(run.ending).to.include({kind: 'exited', exitCode: 0, output: 'json'});
        expect(run.events).to.deep.equal(['spawn returned', 'started', 'ended']);
      } else {
        expect(run.ending).to.include({kind: 'not_started', errno, stage});
        expect(run.events).to.deep.equal(['spawn returned', 'ended']);
      }
      await itSays;
      // What was left behind is looked for while faults are still to come; but every child has a count of its own.
      await bench.nothingLeftOf(run);
      await injector.release();
      const next = await bench.run(spec, {args: '[2]'});
      expect(next.ending).to.include({kind: 'exited', exitCode: 0, output: 'json'});
      expect(next.stdout).to.equal('[2]');
      await bench.nothingLeftOf(next);
      expect(bench.forkServer).to.equal(server);
    });
  }

  it('that never gives stdout a name again leaves no result, by its report as by its line', async () => {
    await injector.inject(bench.forkServer, {call: 'linkat', errno: 'ENOSPC', nth: '1+', ...threadOf(forker)});
    const run = await bench.run(bench.define('large', '#!/bin/sh\nyes 1 | head -n 5000 | tr -d "\\n"\n'));
    expect(run.ending).to.include({kind: 'lost', reason: 'stdout could not be read: its file is gone or cut short'});
    expect(bench.journal(run).at(-1)).to.include({event: 'ended', exit_code: 0, stdout_lost: true});
  });

  it('that passes lets a function have its names after all, while it runs', async () => {
    await injector.inject(bench.forkServer, {call: 'linkat', errno: 'ENOSPC', nth: 1, ...threadOf(forker)});
    const run = bench.spawn(bench.define('talks', '#!/bin/sh\necho one\necho ready >&2\nexec sleep 60\n'));
    await until('stdout has a name', () => run.stdout === 'one\n');
    run.process.signal('kill');
    expect(await run.ended()).to.include({signal: 'SIGKILL', stdoutBytes: 4});
  });
}

describeIf('a system call of the fork server that fails', injectionProblem(), () => {
  for (const forker of nodedForkers) {
    describe(`whose run directory is ${forker.medium === 'disk' ? 'on a disk' : 'in memory'}`, () => describeFaults(forker));
  }
});
