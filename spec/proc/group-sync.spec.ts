import {expect} from 'chai';
import {GroupSync} from '../../lib/proc/group-sync';
import {turn} from '../support/clock';

describe('a sync for many', () => {
  let syncs: {readonly end: () => void; readonly fail: (error: Error) => void}[];
  let group: GroupSync;
  let told: string[];
  beforeEach(() => {
    syncs = [];
    told = [];
    group = new GroupSync(() => new Promise((end, fail) => void syncs.push({end, fail})));
  });
  const wait = (name: string): void => void group.done().then(() => told.push(name), (error: Error) => told.push(`${name}: ${error.message}`));
  const later = async (): Promise<void> => {
    for (let turns = 0; turns < 3; turns += 1) await turn();
  };

  it('is one for all that come in a turn, and not before its end', async () => {
    for (const name of ['a', 'b', 'c']) wait(name);
    expect(syncs).to.have.length(0);
    await later();
    expect(syncs).to.have.length(1);
    expect(told).to.deep.equal([]);
    syncs[0]!.end();
    await later();
    expect(told).to.deep.equal(['a', 'b', 'c']);
  });

  it('is another one for those that come while it is at work, together', async () => {
    wait('a');
    await later();
    for (const name of ['b', 'c']) wait(name);
    await later();
    expect(syncs).to.have.length(1);
    syncs[0]!.end();
    await later();
    expect([told, syncs.length]).to.deep.equal([['a'], 2]);
    syncs[1]!.end();
    await later();
    expect([told, syncs.length]).to.deep.equal([['a', 'b', 'c'], 2]);
    wait('d');
    await later();
    expect(syncs).to.have.length(3);
  });

  it('that fails fails for those that waited for it, and for no other', async () => {
    wait('a');
    await later();
    wait('b');
    syncs[0]!.fail(new Error('EIO'));
    await later();
    syncs[1]!.end();
    await later();
    expect(told).to.deep.equal(['a: EIO', 'b']);
  });
});
