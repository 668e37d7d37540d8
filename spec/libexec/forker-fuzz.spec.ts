import {expect} from 'chai';
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {describeIf} from '../support/as-root';
import {buildFuzzer} from '../support/forker-builds';
import {writeQuit, writeSignal, writeStart} from '../../lib/proc/fork-frames';

const seconds = Number(process.env.NODED_SPEC_FUZZ_SECONDS ?? 10);
const key = '0123456789abcdef';
const spec = {name: 'f', program: '/bin/true', maxRunning: null, maxOutputBytes: 1 << 20, killAfterMs: null, urgent: false, leaveRunning: false, user: null, nice: null, config: null};

/** Real frames, one alone and several in a row, for the fuzzer to begin with. */
function writeCorpus(directory: string): void {
  const start = (args: Buffer | null): Buffer => writeStart({key, spec, env: ['A=b', 'LANG=C.UTF-8'], spooled: args === null, args, accepted: args === null ? '{"event":"accepted"}\n' : null, lastTry: false});
  const frames = [start(null), start(Buffer.from('[1]')), start(Buffer.alloc(80_000, ' ')), writeSignal(key, 'kill'), writeSignal(key, 'terminate'), writeQuit()];
  [...frames, Buffer.concat(frames)].forEach((bytes, index) => fs.writeFileSync(join(directory, String(index)), bytes));
}

const {problem, program} = buildFuzzer();
describeIf('the fork server\'s frame parser under a fuzzer', problem, () => {
  let directory: string;
  before(() => (directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-fuzz-'))));
  after(() => fs.rmSync(directory, {recursive: true, force: true}));

  it(`stays inside its buffers for ${seconds} s`, function () {
    this.timeout((seconds + 60) * 1000);
    const corpus = join(directory, 'corpus');
    fs.mkdirSync(corpus);
    writeCorpus(corpus);
    const {status, signal, stderr} = spawnSync(program, [`-max_total_time=${seconds}`, '-max_len=200000', `-artifact_prefix=${directory}/`, corpus], {encoding: 'utf8', cwd: directory, maxBuffer: 1 << 26});
    const finding = fs.readdirSync(directory).filter((name) => name !== 'corpus').map((name) => `${name}: ${fs.readFileSync(join(directory, name)).subarray(0, 512).toString('hex')}`);
    expect([status, signal], `${finding.join('\n')}\n${stderr.slice(-4000)}`).to.deep.equal([0, null]);
    const runs = Number(/Done (\d+) runs/.exec(stderr)?.[1]);
    expect(runs).to.be.above(1000);
  });
});
