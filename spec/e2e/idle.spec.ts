/** A noded that has nothing to do lets its machine sleep. */
import {expect} from 'chai';
import {readFileSync} from 'node:fs';
import {NodedDaemon} from '../support/daemon';
import {programs} from '../support/programs';

/** How often the event loop's thread has gone to sleep, and so was woken: proc_pid_status(5). */
function sleeps(pid: number): number {
  return Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/task/${pid}/status`, 'utf8'))![1]);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('an idle noded', () => {
  it('wakes about once a second, with a call that runs and one that is waited for', async () => {
    const node = await NodedDaemon.start({functions: {forever: programs.forever}});
    try {
      const {json} = await node.startFunction('forever', 1, 0);
      void node.put('WaitForFunction', {fnc_id: json.call.id, timeout: 300}).catch(() => {});
      const pid = node.pid;
      const seconds = 3;
      // What is left to do after a start takes longer on a slow machine: the quietest of some stretches counts.
      let fewest = Infinity;
      for (let tries = 0; tries < 4 && fewest > 2 * seconds; tries += 1) {
        await pause(2000);
        const before = sleeps(pid);
        await pause(seconds * 1000);
        fewest = Math.min(fewest, sleeps(pid) - before);
      }
      // Node looks at the connections once a second.
      expect(fewest).to.be.at.most(2 * seconds);
    } finally {
      await node.dispose();
    }
  });
});
