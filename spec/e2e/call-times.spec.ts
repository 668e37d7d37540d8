/** When a call was accepted, started and ended: in order, and the same after a crash. */
import {expect} from 'chai';
import {NodedDaemon} from '../support/daemon';
import type {Answer} from '../support/daemon';

/** Says when it began, by the wall clock. */
const clock = {body: '#!/usr/bin/perl\nuse Time::HiRes; printf "%.6f\\n", Time::HiRes::time;\n'};
const calls = 60;

for (const spawner of ['forker', 'child'] as const) {
  describe(`the times of calls, ${spawner}`, () => {
    let node: NodedDaemon;
    const answers: Answer[] = [];

    before(async () => {
      node = await NodedDaemon.start({functions: {clock}, config: `spawner = "${spawner}"\n`});
      // Many at once: what is heard of them is heard late.
      for (let at = 0; at < calls; at += 20) {
        answers.push(...(await Promise.all(Array.from({length: 20}, () => node.startFunction('clock', 1, 30)))).map(({json}) => json));
      }
    });
    after(() => node.dispose());

    it('stand in order: accepted, started, what the function itself saw, ended', () => {
      for (const {call, result} of answers) {
        const acceptedAt = Number(call.id.split(':')[2]);
        const times = [acceptedAt, call.started_at!, Number(result) + 0.001, call.ended_at! + 0.021];
        expect(times, JSON.stringify(call)).to.deep.equal([...times].sort((a, b) => a - b));
      }
    });

    it('are no longer apart than the call took', () => {
      for (const {call} of answers) expect(call.ended_at! - call.started_at!).to.be.at.most(call.elapsed + 0.021);
    });

    it('are the same for the next noded', async () => {
      await node.kill();
      await node.start();
      for (const {call} of answers) {
        const {json} = await node.waitForFunction(call.id, 0);
        expect([json.call.started_at, json.call.ended_at]).to.deep.equal([call.started_at, call.ended_at]);
      }
    });
  });
}
