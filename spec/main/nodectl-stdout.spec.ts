/** What nodectl prints may not arrive: it must not pass for an answer. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import {expect} from 'chai';
import {exitCodes} from '../../lib/main/nodectl-exit';
import {describeIf} from '../support/as-root';
import {freePort} from '../support/free-port';
import {injectionProblem} from '../support/injected-faults';
import {RunningNoded, nodectl, nodectlInShell, until} from './running-noded';
import type {Ended, RunOptions} from './running-noded';

interface Line {
  readonly outcome: string | null;
  readonly result: unknown;
  readonly call: {readonly id: string};
}

const line = ({stdout}: Ended): Line => JSON.parse(stdout) as Line;

describe('nodectl whose output does not arrive', function () {
  this.timeout(60_000);
  // One result that no pipe takes at once, and one that a file takes whole.
  const noded = new RunningNoded({
    big: 'head -c 400000 /dev/zero | tr "\\0" x | sed \'s/.*/"&"/\'',
    small: 'echo true',
    talks: 'while echo word >&2; do sleep 0.05; done',
    sleep30: 'exec sleep 30',
  });
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'noded-stdout-'));
  const file = path.join(directory, 'out');

  const on = (command: string, ...args: string[]): string[] => [command, '--no-ssl', '-p', String(noded.port), ...args];
  const readerLeaves: RunOptions['whileRunning'] = async (child) => void child.stdout?.destroy();
  /** The call that it names. */
  const idIn = ({stderr}: Ended): string => /^nodectl: 127\.0\.0\.1: its answer could not be printed: (\S+)$/m.exec(stderr)?.[1] ?? 'none';

  let closedPort = 0;
  before(async () => {
    await noded.start();
    closedPort = await freePort();
  });
  after(async () => {
    await noded.remove();
    fs.rmSync(directory, {recursive: true, force: true});
  });

  it('says why, has an exit code of its own, and names the call, whose answer is still there', async () => {
    const ended = await nodectlInShell(on('call', 'small'), (command) => `exec ${command} > /dev/full`);
    expect(ended.code).to.equal(exitCodes.notPrinted);
    expect(ended.stderr).to.match(/^nodectl: standard output: ENOSPC: [^\n]+$/m);
    const [, again] = /^nodectl: to wait again: nodectl (.*)$/m.exec(ended.stderr)!;
    const {outcome, result, call} = line(await nodectl(again!.split(' ')));
    expect({outcome, result, id: call.id}).to.deep.equal({outcome: 'ok', result: true, id: idIn(ended)});
  });

  it('is no success where a file takes a part of it and no more', async () => {
    // A write that was cut short is no error yet: on a full disk it is the same.
    const ended = await nodectlInShell(on('call', 'big'), (command) => `ulimit -f 100; exec ${command} > '${file}'`);
    expect(fs.statSync(file).size).to.be.within(1, 400_000);
    expect(ended.code).to.equal(exitCodes.notPrinted);
    expect(ended.stderr).to.match(/^nodectl: standard output: EFBIG: /m);
    expect(line(await nodectl(on('wait', idIn(ended)))).outcome).to.equal('ok');
  });

  it('tells so of every command', async () => {
    const {id} = line(await nodectl(on('start', '--request-id', 'stdout:sleeper', 'sleep30'))).call;
    const commands = [['--help'], ['--version'], ['call', '--help'], ['keygen', path.join(directory, 'keys')], on('start', '--request-id', 'stdout:sleeper', 'sleep30'), on('wait', '-t', '0', id), on('functions'), on('status'), on('ps'), on('abort', id)];
    for (const command of commands) {
      const ended = await nodectlInShell(command, (words) => `exec ${words} > /dev/full`);
      expect(ended.code, command.join(' ')).to.equal(exitCodes.notPrinted);
      expect(ended.stderr, command.join(' ')).to.match(/^nodectl: standard output: ENOSPC: /m);
      if (command.includes('sleep30') || command.includes(id)) expect(ended.stderr).to.include(id);
    }
  });

  it('calls every node all the same', async () => {
    const ended = await nodectlInShell(on('call', '-n', '127.0.0.1,localhost', 'small'), (command) => `exec ${command} > /dev/full`);
    expect(ended.stderr.match(/: its answer could not be printed: /g)).to.have.length(2);
    expect(ended.code).to.equal(exitCodes.notPrinted);
  });

  it('ends quietly when its reader has had enough, and not as success', async () => {
    for (const command of [on('call', 'big'), on('functions')]) {
      expect(await nodectl(command, {whileRunning: readerLeaves})).to.deep.include({code: exitCodes.notPrinted, stderr: ''});
    }
  });

  it('does not go on following when nobody reads, or nothing can be written', async () => {
    const {id} = line(await nodectl(on('start', 'talks'))).call;
    const reads: RunOptions['whileRunning'] = async (child, said) => {
      await until('something is said', () => said().includes('word'));
      child.stdout?.destroy();
    };
    expect(await nodectl(on('logs', '-f', id), {whileRunning: reads})).to.include({code: exitCodes.notPrinted, stderr: ''});
    const ended = await nodectlInShell(on('logs', '-f', id), (command) => `exec ${command} > /dev/full`);
    expect(ended.code).to.equal(exitCodes.notPrinted);
    await nodectl(on('abort', id));
  });

  it('leaves calls running when its reader leaves', async () => {
    // The one cannot be reached, which cannot be printed, while the other runs.
    const ended = await nodectl(on('call', '-n', `127.0.0.1,127.0.0.1:${closedPort}`, '--request-id', 'stdout:leaves', 'sleep30'), {whileRunning: readerLeaves});
    expect(ended.code).to.equal(exitCodes.notPrinted);
    expect((await nodectl(on('wait', '-t', '0', '--request-id', 'stdout:leaves'))).code).to.equal(exitCodes.stillRunning);
    await nodectl(on('abort', '--request-id', 'stdout:leaves'));
  });

  describeIf('on a filesystem that says so when the file is closed', injectionProblem(), () => {
    it('is no success', async () => {
      const strace = `strace -f -qq -o /dev/null -P '${file}' -e trace=close -e inject=close:error=EDQUOT`;
      const ended = await nodectlInShell(on('call', 'small'), (command) => `exec 9> '${file}'; exec ${strace} ${command} >&9 9>&-`);
      expect(ended.code).to.equal(exitCodes.notPrinted);
      expect(ended.stderr).to.match(/^nodectl: standard output: EDQUOT: /m);
      expect(line(await nodectl(on('wait', idIn(ended)))).outcome).to.equal('ok');
    });
  });
});
