/** Many classic calls: afterwards the node is as it was. The long run, which looks at the daemon's memory too, is `ganeti-soak` of bench/. */
import {expect} from 'chai';
import {describeIf} from '../support/as-root';
import {ganetiProblem} from '../support/ganeti-node';
import {GanetiNoded} from '../support/ganeti-noded';
import {complaints, leftovers, settled} from '../support/ganeti-soak';
import {until} from '../support/until';

const calls = 500;
const atOnce = 8;

describeIf('ganeti-noded after many calls', ganetiProblem(), () => {
  let noded: GanetiNoded;

  before(async function () {
    this.timeout(60_000);
    noded = new GanetiNoded();
    await noded.start();
  });
  after(() => noded.dispose());

  async function call(count: number): Promise<void> {
    let left = count;
    const caller = async (): Promise<void> => {
      while (left-- > 0) {
        const {status, text} = await noded.ask('/version', '[]\n');
        expect(status, text).to.equal(200);
        expect(text).to.match(/^\[true, \d+\]\n$/);
      }
    };
    await Promise.all(Array.from({length: atOnce}, caller));
  }

  it('has no descriptor, zombie or file more, and its fork server no memory', async function () {
    this.timeout(180_000);
    const {pid, runDir} = noded;
    // Files are removed after the answer, and on a disk not on the loop.
    const filesAreGone = (): Promise<boolean> => until('the files are gone', () => leftovers(pid, runDir).spoolFiles.length === 0);
    await call(calls / 10);
    await filesAreGone();
    const before = await settled(pid, runDir, leftovers(pid, runDir));
    await call(calls);
    await filesAreGone();
    const after = await settled(pid, runDir, before);
    expect(complaints(before, after)).to.deep.equal([]);
    expect(after.spoolFiles).to.deep.equal([]);
    // Python allocates by the MiB: a hundredth of what it has is less than one of 500 calls could keep.
    expect(after.residentBytes.forkServer / before.residentBytes.forkServer, 'growth of the fork server').to.be.below(1.02);
    const {counts} = (await noded.get('/status')).json as unknown as {counts: Readonly<Record<string, number>>};
    expect(counts).to.include({starting: 0, running: 0, ended: 0, waiters: 0});
  });
});
