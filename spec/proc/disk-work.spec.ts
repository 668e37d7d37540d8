import {expect} from 'chai';
import fc from 'fast-check';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {DiskWork, closeFile, doNow, fileStats, openFile, unlinkFile, withFile, writeOnce} from '../../lib/proc/disk-work';
import type {Work} from '../../lib/proc/disk-work';

const {O_APPEND, O_CREAT, O_EXCL, O_WRONLY} = fs.constants;

for (const isThreaded of [false, true]) {
  describe(`work with a disk, ${isThreaded ? 'on a thread' : 'at once'}`, () => {
    let directory: string;
    let disk: DiskWork;
    let told: string[];
    beforeEach(() => {
      directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-work-'));
      disk = new DiskWork();
      if (isThreaded) disk.useThread();
      told = [];
    });
    afterEach(() => fs.rmSync(directory, {recursive: true}));

    const path = (name: string): string => join(directory, name);
    const append = (name: string, text: string): Work<number> => withFile(path(name), O_WRONLY | O_CREAT | O_APPEND, (fd) => writeOnce(fd, Buffer.from(text)));
    const give = (name: string, work: () => Work<unknown>): void => disk.do(work, (error, result) => told.push(error === null ? `${name}: ${String(result)}` : `${name} failed: ${(error as NodeJS.ErrnoException).code ?? error.message}`));
    function* throws(message: string): Work<never> {
      yield* fileStats(0);
      throw new Error(message);
    }

    it('says how it works', () => expect(disk.isThreaded).to.equal(isThreaded));

    it(`${isThreaded ? 'has done nothing' : 'is done'} when it has been given`, async () => {
      give('a', () => append('a', 'text'));
      expect(told).to.deep.equal(isThreaded ? [] : ['a: 4']);
      await disk.passed();
      expect(told).to.deep.equal(['a: 4']);
      expect(fs.readFileSync(path('a'), 'utf8')).to.equal('text');
    });

    it('is begun when all before it is done, well or not, and tells each of its own', async () => {
      give('write', () => append('a', 'one'));
      give('remove', () => unlinkFile(path('a')));
      give('again', () => unlinkFile(path('a')));
      give('early', () => {
        throw new Error('before its first step');
      });
      give('own', () => throws('of its own'));
      give('after', () => append('a', 'other'));
      await disk.passed();
      expect(told).to.deep.equal(['write: 3', 'remove: undefined', 'again failed: ENOENT', 'early failed: before its first step', 'own failed: of its own', 'after: 5']);
      expect(fs.readFileSync(path('a'), 'utf8')).to.equal('other');
    });

    it('has passed at once when there is none', () => disk.passed());

    it('takes what is given by who is told of its end', async () => {
      await new Promise<void>((resolve) => {
        disk.do(() => append('a', 'x'), () => disk.do(() => unlinkFile(path('a')), () => disk.do(() => append('b', 'y'), () => resolve())));
      });
      expect(fs.readdirSync(directory)).to.deep.equal(['b']);
    });

    it('throws the error of a step where the step was, so that files are closed', async () => {
      const open = (): string[] => fs.readdirSync('/proc/self/fd').map((fd) => `/proc/self/fd/${fd}`).filter((link) => fs.existsSync(link) && fs.readlinkSync(link).startsWith(directory));
      give('closes', () => withFile(path('a'), O_WRONLY | O_CREAT | O_EXCL, () => throws('meanwhile')));
      give('exists', () => openFile(path('a'), O_WRONLY | O_CREAT | O_EXCL));
      give('closed', () => closeFile(9999));
      await disk.passed();
      expect(told).to.deep.equal(['closes failed: meanwhile', 'exists failed: EEXIST', 'closed failed: EBADF']);
      expect(open()).to.deep.equal([]);
      expect(fs.statSync(path('a')).mode & 0o777).to.equal(0o600);
    });

    it('keeps the order of any work of any number of steps, however it is given', () =>
      fc.assert(
        fc.asyncProperty(fc.array(fc.record({steps: fc.integer({min: 0, max: 3}), fails: fc.boolean(), gives: fc.boolean()}), {maxLength: 30}), async (pieces) => {
          const order: number[] = [];
          const expected: number[] = [];
          const give = (n: number, {steps, fails}: (typeof pieces)[number], done = (): void => {}): void => {
            expected.push(n);
            disk.do(function* () {
              for (let step = 0; step < steps; step += 1) yield* fileStats(0);
              order.push(n);
              if (fails) yield* closeFile(9999);
            }, (error) => {
              expect(error !== null).to.equal(fails);
              expect(order.at(-1)).to.equal(n);
              done();
            });
          };
          pieces.forEach((piece, n) => give(n, piece, piece.gives ? () => give(n + 1000, piece) : undefined));
          for (let turns = 0; turns < 3; turns += 1) await disk.passed();
          expect(order).to.deep.equal(expected);
        }),
        {numRuns: 50},
      ));
  });
}

describe('work that cannot wait', () => {
  it('is done at once on the loop, whatever waits', async () => {
    const disk = new DiskWork();
    disk.useThread();
    let done = false;
    disk.do(() => fileStats(0), () => (done = true));
    expect(doNow(fileStats(0))).to.be.instanceOf(fs.Stats);
    expect(done).to.equal(false);
    await disk.passed();
    expect(done).to.equal(true);
    expect(() => doNow(closeFile(9999))).to.throw('EBADF');
  });
});
