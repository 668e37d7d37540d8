import {expect} from 'chai';
import {
  describeManifest, endLeftovers, errorIn, livingInGroup, resultOf, runFunction, startFunction, until,
} from './run-function';

describe('the function test_delay', () => {
  afterEach(endLeftovers);

  for (const [args, slept] of [['0', 0], ['[0]', 0], ['0.05', 0.05], [' [\n 5e-2\t] ', 0.05], ['-0', 0]] as const) {
    it(`sleeps for ${JSON.stringify(args)} and says how long`, async () => {
      const ended = await startFunction('test_delay', args).ended;
      expect(ended).to.include({code: 0, stderr: ''});
      expect(JSON.parse(ended.stdout)).to.deep.equal({slept});
    });
  }

  it('says on stderr each second how far it is', async () => {
    const ended = await runFunction('test_delay', [1.25]);
    expect(ended.stderr).to.equal('slept 1 s of 1.25 s\n');
    expect(JSON.parse(ended.stdout)).to.deep.equal({slept: 1.25});
  });

  it('never sleeps shorter than it was told', async () => {
    const from = process.hrtime.bigint();
    await resultOf('test_delay', 1.01);
    expect(Number(process.hrtime.bigint() - from) / 1e9).to.be.at.least(1.01);
  });

  const bad = ['-1', '[-0.5]', '86400.5', '1e300', '[1,2]', '[]', '[[1]]', '1 2', '08', '0x10', '""', '"1; id"',
    '"$(id)"', 'null', 'Infinity', ''];
  for (const args of bad) {
    it(`refuses ${JSON.stringify(args)} without sleeping`, async () => {
      expect(errorIn(await startFunction('test_delay', args).ended)).to.match(/number|day/);
    });
  }

  it('ends at once by SIGTERM to its group and leaves nothing behind', async () => {
    const running = startFunction('test_delay', '[86400]');
    await until('progress', () => running.stderr().includes('slept 1 s of 86400 s\n'));
    running.signalGroup('SIGTERM');
    expect(await running.ended).to.include({code: null, signal: 'SIGTERM', stdout: ''});
    await until('nobody lives in the group', () => livingInGroup(running.pid).length === 0);
  });

  describeManifest('test_delay', [0, 5, 0.25, [5], [86400]],
    [-1, 86401, [], [1, 2], ['1'], '1', null, {seconds: 1}]);
});
