import {expect} from 'chai';
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as sinon from 'sinon';
import {limits} from '../../lib/base/limits';
import {drawKey} from '../../lib/call/call-id';
import {ProcessTrees, startTimeOf} from '../../lib/proc/process-tree';
import {turn} from '../support/clock';
import {withoutDescriptors} from '../support/no-descriptors';
import {isAlive} from '../support/processes';
import {until} from '../support/until';

// The module itself, not a copy of its members: a look is one listing of /proc, and is counted there.
const nodeFs = require('node:fs') as typeof import('node:fs');
const busyMs = 600;

describe('the look for what functions left behind', () => {
  const warnings: string[] = [];
  const trees = new ProcessTrees({log: {warn: (_fields, message) => void warnings.push(message)}});
  let listing: sinon.SinonSpy;

  beforeEach(() => {
    listing = sinon.spy(nodeFs, 'readdirSync');
  });
  afterEach(() => listing.restore());
  const looks = (): number => listing.args.filter(([path]) => path === '/proc').length;

  it('is paced, however many ends come: most of the time is not spent on looking', async () => {
    const begin = performance.now();
    let ends = 0;
    for (; performance.now() - begin < busyMs; ends += 1) {
      trees.sweep({key: drawKey(), pid: 0, startTime: null});
      await turn();
    }
    const elapsed = performance.now() - begin;
    expect(looks()).to.be.within(1, elapsed / limits.sweepPauseMs + 2);
    expect(ends, 'many ends share a look').to.be.above(2 * looks());
    await trees.idle();
  });

  it('comes at once when somebody waits for it, and finds all that is left', async () => {
    const keys = Array.from({length: 10}, () => drawKey());
    const children = keys.map((key) => spawn('sleep', ['600'], {detached: true, stdio: 'ignore', env: {NODED_CALL_KEY: key}}));
    const other = spawn('sleep', ['600'], {detached: true, stdio: 'ignore', env: {NODED_CALL_KEY: drawKey()}});
    try {
      await Promise.all([...children, other].map((child) => once(child, 'spawn')));
      for (const key of keys) trees.sweep({key, pid: 0, startTime: null});
      await trees.idle();
      expect(children.filter(({pid}) => isAlive(pid!))).to.deep.equal([]);
      expect(isAlive(other.pid!)).to.equal(true);
      expect(warnings).to.deep.equal([]);
    } finally {
      for (const child of [...children, other]) child.kill('SIGKILL');
    }
  });

  it('is repeated for a process that may have been between fork and exec, and carried nothing yet', async () => {
    const key = drawKey();
    trees.sweep({key, pid: 0, startTime: null, mayBeStarting: true});
    await until('the first look is over', () => looks() > 0);
    const child = spawn('sleep', ['600'], {detached: true, stdio: 'ignore', env: {NODED_CALL_KEY: key}});
    try {
      await once(child, 'spawn');
      await trees.idle();
      expect(isAlive(child.pid!)).to.equal(false);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('is made again when nothing could be opened, and says so once', async () => {
    const key = drawKey();
    const child = spawn('sleep', ['600'], {detached: true, stdio: 'ignore', env: {NODED_CALL_KEY: key}});
    const gate = join(tmpdir(), `noded-${key}`);
    try {
      await once(child, 'spawn');
      nodeFs.mkdirSync(gate);
      const without = withoutDescriptors(`while [ -d ${gate} ]; do sleep 0.02; done`);
      await until('nothing can be opened', () => {
        try {
          nodeFs.closeSync(nodeFs.openSync('/dev/null', 'r'));
          return false;
        } catch {
          return true;
        }
      });
      trees.sweep({key, pid: 0, startTime: null});
      await until('it says so', () => warnings.length > 0);
      nodeFs.rmdirSync(gate);
      await without;
      await trees.idle();
      expect(isAlive(child.pid!)).to.equal(false);
      expect(warnings).to.have.length(1);
      expect(warnings[0]).to.match(/^cannot look for what functions left behind, and tries again: EMFILE/);
    } finally {
      nodeFs.rmSync(gate, {recursive: true, force: true});
      child.kill('SIGKILL');
    }
  });

  describe('whose pid may have been used again since', () => {
    const sleeper = async (): Promise<ChildProcess & {readonly pid: number}> => {
      const child = spawn('sleep', ['600'], {detached: true, stdio: 'ignore', env: {}});
      await once(child, 'spawn');
      return child as ChildProcess & {readonly pid: number};
    };
    const roots: Readonly<Record<string, {readonly startTimeOf: (own: number) => number | null; readonly killed: boolean}>> = {
      'kills what has the number and the start time that are known': {startTimeOf: (own) => own, killed: true},
      'leaves alone what has the number and another start time': {startTimeOf: (own) => own - 1, killed: false},
      'leaves alone what has the number of a process that was reaped': {startTimeOf: () => null, killed: false},
    };
    for (const [title, {startTimeOf: known, killed}] of Object.entries(roots)) {
      it(title, async () => {
        const child = await sleeper();
        try {
          trees.sweep({key: drawKey(), pid: child.pid, startTime: known(startTimeOf(child.pid))});
          await trees.idle();
          expect(isAlive(child.pid)).to.equal(!killed);
        } finally {
          child.kill('SIGKILL');
        }
      });
    }

    it('leaves alone a leader with another start time, or one that is not known', async () => {
      const child = await sleeper();
      try {
        const own = startTimeOf(child.pid);
        const signals = sinon.spy(process, 'kill');
        try {
          for (const startTime of [own - 1, 0, null]) trees.killLeader({key: drawKey(), pid: child.pid, startTime});
          sinon.assert.notCalled(signals);
          trees.killLeader({key: drawKey(), pid: child.pid, startTime: own});
          sinon.assert.calledOnceWithExactly(signals, child.pid, 'SIGKILL');
        } finally {
          signals.restore();
        }
      } finally {
        child.kill('SIGKILL');
      }
    });

    it('signals nobody who got the number between the look and the signal', async () => {
      const child = await sleeper();
      const own = startTimeOf(child.pid);
      const read = nodeFs.readFileSync;
      let reads = 0;
      // The look reads the process that is meant; whoever has its number when the signal is due started later.
      const stub = sinon.stub(nodeFs, 'readFileSync').callsFake(((path: string, options: BufferEncoding) => {
        const text = read(path, options);
        if (path !== `/proc/${child.pid}/stat`) return text;
        reads += 1;
        return reads === 1 ? text : text.replace(` ${own} `, ` ${own + 1} `);
      }) as typeof nodeFs.readFileSync);
      try {
        trees.sweep({key: drawKey(), pid: child.pid, startTime: own});
        await trees.idle();
        expect(reads).to.be.above(1);
        expect(isAlive(child.pid)).to.equal(true);
      } finally {
        stub.restore();
        child.kill('SIGKILL');
      }
    });
  });
});
