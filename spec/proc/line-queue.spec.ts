import {expect} from 'chai';
import {DiskWork, fileStats} from '../../lib/proc/disk-work';
import type {Work} from '../../lib/proc/disk-work';
import {LineQueue} from '../../lib/proc/line-queue';
import {turn} from '../support/clock';

for (const isThreaded of [false, true]) {
  describe(`lines that wait to be appended, ${isThreaded ? 'on a thread' : 'at once'}`, () => {
    let disk: DiskWork;
    let queue: LineQueue;
    let writes: string[];
    let told: string[];
    let warnings: string[];
    /** What the next writes come to: null is well. */
    let failures: (Error | null)[];

    function* write(lines: Buffer): Work<void> {
      yield* fileStats(0);
      writes.push(lines.toString());
      const failure = failures.shift() ?? null;
      if (failure !== null) throw failure;
    }
    const tell = (name: string) => (error: Error | null) => void told.push(error === null ? name : `${name}: ${(error as NodeJS.ErrnoException).code}`);
    const full = (written: number): Error => Object.assign(new Error('ENOSPC: full'), {code: 'ENOSPC', written});

    beforeEach(() => {
      [writes, told, warnings, failures, disk] = [[], [], [], [], new DiskWork()];
      if (isThreaded) disk.useThread();
      queue = new LineQueue({disk, log: {warn: (_fields, message) => void warnings.push(message)}}, write);
    });

    it('go in one write with all that come in their turn of the loop', async () => {
      queue.add('a\n');
      queue.add('b\n');
      expect(writes).to.deep.equal([]);
      await turn();
      await disk.passed();
      queue.add('c\n');
      await turn();
      await disk.passed();
      expect(writes).to.deep.equal(['a\nb\n', 'c\n']);
    });

    it('go at once when somebody waits for them, behind those that came before', async () => {
      queue.add('a\n');
      queue.put('b\n', tell('b'));
      if (!isThreaded) expect([writes, told]).to.deep.equal([['a\n', 'b\n'], ['b']]);
      queue.add('c\n');
      queue.flush();
      await disk.passed();
      expect([writes.join(''), told]).to.deep.equal(['a\nb\nc\n', ['b']]);
    });

    it('go once, however often that is asked', async () => {
      queue.put('a\n', tell('a'));
      for (let times = 0; times < 3; times += 1) queue.flush();
      await turn();
      await disk.passed();
      expect(writes).to.deep.equal(['a\n']);
    });

    it('that are lost are told of to whoever waits for them, and else to the log', async () => {
      failures = [full(0), null, full(0)];
      queue.put('a\n', tell('a'));
      await disk.passed();
      queue.add('b\n');
      queue.flush();
      await disk.passed();
      queue.add('c\n');
      queue.flush();
      await disk.passed();
      expect(told).to.deep.equal(['a: ENOSPC']);
      expect(warnings).to.deep.equal(['cannot write to the log of calls: ENOSPC: full']);
    });
  });
}

describe('lines that wait while a disk is at work', () => {
  it('go in one write, and those count that became whole before the disk was full', async () => {
    const disk = new DiskWork();
    disk.useThread();
    const [writes, told, warnings]: [string[], string[], string[]] = [[], [], []];
    // After the newline that a write begins with: the first two lines, and half of the third.
    const failure = Object.assign(new Error('ENOSPC: full'), {code: 'ENOSPC', written: 1 + 4 + 3 + 1});
    const queue = new LineQueue({disk, log: {warn: (_fields, message) => void warnings.push(message)}}, function* (lines) {
      yield* fileStats(0);
      writes.push(lines.toString());
      throw failure;
    });
    disk.do(() => fileStats(0), () => {});
    for (const [name, line] of [['one', 'öa\n'], ['two', 'bb\n'], ['three', 'ccc\n']] as const) queue.put(line, (error) => told.push(`${name}: ${error === null}`));
    queue.add('dd\n');
    await turn();
    await disk.passed();
    expect(writes).to.deep.equal(['öa\nbb\nccc\ndd\n']);
    expect(told).to.deep.equal(['one: true', 'two: true', 'three: false']);
    expect(warnings).to.have.length(1);
  });
});
