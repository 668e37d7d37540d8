import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {BuiltNoded} from '../support/built';
import {NodedDaemon} from '../support/daemon';
import type {Response} from '../support/daemon';
import {forkServersIn, noForkServerIn} from '../support/processes';
import {until} from '../support/until';

/** Ways for noded to end that nobody meant, in answer to signals that it does not use itself. */
const preload = `
process.on('SIGWINCH', () => { throw new Error('nobody expected this'); });
process.on('SIGIO', () => { for (const hog = []; ; ) hog.push(new Array(100000).fill(0).map((_, index) => ({index}))); });
`;

interface Death {
  readonly title: string;
  readonly signal: NodeJS.Signals;
  readonly calls: number;
  readonly exit: readonly (number | string | null)[];
}

const deaths: readonly Death[] = [
  {title: 'SIGKILL', signal: 'SIGKILL', calls: 200, exit: [null, 'SIGKILL']},
  {title: 'a segmentation fault', signal: 'SIGSEGV', calls: 20, exit: [null, 'SIGSEGV']},
  {title: 'an error that nobody expected', signal: 'SIGWINCH', calls: 20, exit: [70, null]},
  {title: 'a heap that is out of memory', signal: 'SIGIO', calls: 20, exit: [null, 'SIGABRT']},
];

/** How call `n` ends: in the four ways that a function can. */
const endings: readonly ((n: number) => {readonly outcome: string; readonly result: unknown; readonly exit_code: number | null; readonly signal: string | null})[] = [
  (n) => ({outcome: 'ok', result: {n}, exit_code: 0, signal: null}),
  (n) => ({outcome: 'failed', result: {n}, exit_code: (n % 200) + 1, signal: null}),
  () => ({outcome: 'invalid_output', result: null, exit_code: 0, signal: null}),
  () => ({outcome: 'signaled', result: null, exit_code: null, signal: 'SIGUSR1'}),
];

describe('the calls of a noded that died, taken over by the next one', function () {
  this.timeout(60_000);
  let built: BuiltNoded;
  let daemon: NodedDaemon;
  let gate: string;

  before(async () => {
    built = new BuiltNoded({forker: true});
    daemon = new NodedDaemon({program: built.program, env: {NODE_OPTIONS: `--max-old-space-size=64 --require ${join(built.root, 'preload.cjs')}`}});
    fs.writeFileSync(join(built.root, 'preload.cjs'), preload);
    fs.mkdirSync(join(daemon.root, 'counts'));
    gate = join(daemon.root, 'gate');
    execFileSync('mkfifo', [gate]);
    // Every second one waits in a child that has a session of its own.
    const body = `#!/bin/sh
      ulimit -c 0; read -r n; echo x >> ${daemon.root}/counts/$n; echo ready >&2
      if [ $((n / 4 % 2)) = 0 ]; then : < ${gate}; else setsid -w sh -c ': < ${gate}'; fi
      [ $((n % 4)) = 2 ] || printf '{"n":%s}' $n
      case $((n % 4)) in 1) exit $((n % 200 + 1));; 2) echo no JSON;; 3) kill -USR1 $$; sleep 60;; esac\n`;
    fs.writeFileSync(join(daemon.functionsDir, 'work'), body, {mode: 0o755});
    await daemon.start();
  });
  after(async () => {
    await daemon?.dispose();
    built?.dispose();
  });

  const facts = ({json}: Response): object => {
    const {outcome, exit_code, signal} = json.call;
    return {outcome, result: json.result, exit_code, signal};
  };

  deaths.forEach(({title, signal, calls, exit}, round) => {
    it(`go on, each to its own end: ${calls} after ${title}`, async () => {
      const numbers = Array.from({length: calls}, (_, index) => round * 1000 + index);
      const start = (n: number): Promise<Response> => daemon.startFunction('work', n, 0, {request_id: `takeover.${n}`});
      const ids = await Promise.all(numbers.map(async (n) => (await start(n)).json.fnc_id));
      await until('all of them wait', () => numbers.every((n) => fs.existsSync(join(daemon.root, 'counts', String(n)))));
      const forkers = forkServersIn(daemon.runDir);
      daemon.signal(signal);
      const {code, signal: by} = await daemon.exited;
      expect([code, by]).to.deep.equal(exit);
      await daemon.start();
      expect(forkServersIn(daemon.runDir)).to.deep.equal(forkers);
      expect((await daemon.get('/status')).json.counts.running).to.equal(calls);
      const again = await start(numbers[0]!);
      expect(again.json.call).to.include({id: ids[0], duplicate: true, state: 'running'});
      const waits = Promise.all(ids.map((id) => daemon.waitForFunction(id, 50)));
      const fd = fs.openSync(gate, 'w');
      try {
        const answers = await waits;
        expect(answers.map(({json}) => json.call.id)).to.deep.equal(ids);
        expect(answers.map(facts)).to.deep.equal(numbers.map((n) => endings[n % 4]!(n)));
      } finally {
        fs.closeSync(fd);
      }
      for (const n of numbers) expect(fs.readFileSync(join(daemon.root, 'counts', String(n)), 'utf8')).to.equal('x\n');
      await until('nothing is left', () => daemon.functionProcesses().length === 0);
    });
  });

  it('end while no noded is there, and are known to the next one', async () => {
    const ids = await Promise.all([5000, 5001, 5002, 5003].map(async (n) => (await daemon.startFunction('work', n, 0)).json.fnc_id));
    await until('they wait', () => [5000, 5001, 5002, 5003].every((n) => fs.existsSync(join(daemon.root, 'counts', String(n)))));
    await daemon.kill();
    const fd = fs.openSync(gate, 'w');
    try {
      await until('all have ended', () => daemon.functionProcesses().length === 0);
    } finally {
      fs.closeSync(fd);
    }
    await daemon.start();
    const answers = await Promise.all(ids.map((id) => daemon.waitForFunction(id, 0)));
    expect(answers.map(facts)).to.deep.equal([5000, 5001, 5002, 5003].map((n) => endings[n % 4]!(n)));
  });

  it('survive a stranger on the fork server\'s socket who talks nonsense', async () => {
    const id = await daemon.startReady('work', 6000);
    await daemon.kill();
    const perl = 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un($ARGV[0])) or die; syswrite S, "nonsense" x 100; 1 while sysread S, $x, 4096;';
    execFileSync('perl', ['-e', perl, join(daemon.runDir, 'forker.sock')]);
    await daemon.start();
    expect((await daemon.waitForFunction(id, 0)).json.call.state).to.equal('running');
    fs.closeSync(fs.openSync(gate, 'w'));
    expect(facts(await daemon.waitForFunction(id, 20))).to.deep.equal(endings[0]!(6000));
  });

  it('end with the fork server at SIGTERM, which ends with noded', async () => {
    const id = await daemon.startReady('work', 7000);
    const forkers = forkServersIn(daemon.runDir);
    expect(forkers).to.have.length(1);
    const wait = daemon.waitForFunction(id, 20);
    await until('the wait is open', async () => (await daemon.get('/status')).json.counts.waiters === 1);
    expect(await daemon.stop()).to.deep.equal({code: 0, signal: null});
    expect((await wait).json.call.outcome).to.equal('shutdown');
    await noForkServerIn(daemon.runDir);
    expect(daemon.functionProcesses()).to.deep.equal([]);
  });
});
