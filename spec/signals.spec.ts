/** Specs signal nothing but what they have started. */
import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {kill, signalGroup, signalProcess} from './support/processes';

describe('a signal of the specs', () => {
  const others = {'0, which is all of this run': 0, '1': 1, 'all processes': -1, 'this process': process.pid, 'the one that began it': process.ppid, 'no number': NaN, 'a part of one': 1.5, nothing: undefined as unknown as number};
  for (const [title, pid] of Object.entries(others)) {
    it(`does not reach ${title}`, () => {
      // SIGURG does no harm if it is sent all the same.
      for (const send of [() => signalProcess(pid, 'SIGURG'), () => signalGroup(pid, 'SIGURG')]) expect(send).to.throw('is no process that these specs have started');
    });
  }

  it('may come too late for a process that has ended', () => {
    const beyond = 2 ** 22 + 1; // what the kernel gives at most
    kill(beyond);
    signalGroup(beyond, 'SIGKILL');
    expect(() => signalProcess(beyond, 'SIGKILL')).to.throw('ESRCH');
  });

  it('is sent by nothing else', () => {
    const files = fs.readdirSync(__dirname, {recursive: true, encoding: 'utf8'}).filter((name) => name.endsWith('.ts') && !['signals.spec.ts', 'support/processes.ts'].includes(name));
    // Of itself a program may think what it likes.
    const senders = files.filter((name) => /\bprocess\.kill\((?!process\.pid\b)/.test(fs.readFileSync(join(__dirname, name), 'utf8')));
    expect(senders).to.deep.equal([]);
  });
});
