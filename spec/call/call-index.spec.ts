import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import {limits} from '../../lib/base/limits';
import {callIdOf} from '../../lib/call/call-record';
import type {Call} from '../../lib/call/call-record';
import type {CallFilter} from '../../lib/call/call-index';
import {setFakeClock} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {FakeTable, codeOf} from '../support/fake-table';

const all: CallFilter = {state: null, fnName: null, role: null, visible: () => true};

describe('the index of calls', () => {
  let clock: FakeClock;
  let fake: FakeTable;

  beforeEach(() => {
    clock = setFakeClock();
    fake = new FakeTable();
  });
  afterEach(() => clock.restore());

  describe('by call ID', () => {
    it('finds a call under the ID that it had while it was starting, and under its whole one', () => {
      const call = fake.start();
      const early = callIdOf(call);
      fake.run(call, 4188);
      expect(callIdOf(call)).to.not.equal(early);
      expect(fake.table.index.find(early)).to.equal(call);
      expect(fake.table.index.find(callIdOf(call))).to.equal(call);
    });

    it('unknown_call: not an ID at all, or nobody\'s, or one that differs in any part', () => {
      const call = fake.start();
      fake.run(call, 4188);
      const [ppid, cpid, time, key] = callIdOf(call).split(':');
      const wrong = ['', 'x', key!, `${ppid}:${cpid}:${time}:0123456789abcdef`, `1:${cpid}:${time}:${key}`, `${ppid}:4189:${time}:${key}`, `${ppid}:${cpid}:1.000:${key}`];
      for (const id of wrong) expect(codeOf(() => fake.table.index.find(id)), id).to.equal('unknown_call');
    });

    it('call_expired: of one that is gone, under either of its IDs; unknown_call for another that has its key', () => {
      const call = fake.start();
      const early = callIdOf(call);
      fake.run(call, 4188);
      fake.end(call);
      fake.table.forget(call);
      const [ppid, , time, key] = early.split(':');
      expect(codeOf(() => fake.table.index.find(early))).to.equal('call_expired');
      expect(codeOf(() => fake.table.index.find(`${ppid}:4188:${time}:${key}`))).to.equal('call_expired');
      expect(codeOf(() => fake.table.index.find(`${ppid}:4189:${time}:${key}`))).to.equal('unknown_call');
    });

    it('asks whether the caller may hear of the function before it says anything of a call, or of one that is gone', () => {
      const call = fake.ended({spec: {name: 'secret'}});
      const asked: string[] = [];
      const refuse = (fnName: string): never => {
        asked.push(fnName);
        throw new NodedError('forbidden');
      };
      expect(codeOf(() => fake.table.index.find(callIdOf(call), refuse))).to.equal('forbidden');
      fake.table.forget(call);
      expect(codeOf(() => fake.table.index.find(callIdOf(call), refuse))).to.equal('forbidden');
      expect(codeOf(() => fake.table.index.find('1:2:3.000:0123456789abcdef', refuse))).to.equal('unknown_call');
      expect(asked).to.deep.equal(['secret', 'secret']);
    });
  });

  it('finds a call by the request ID of its role, and nothing for others', () => {
    const call = fake.start({requestId: 'request-1'});
    fake.start();
    expect(fake.table.index.findByRequest('master', 'request-1')).to.equal(call);
    expect(fake.table.index.findByRequest('operator', 'request-1')).to.equal(null);
    expect(fake.table.index.findByRequest('master', 'request-2')).to.equal(null);
  });

  describe('lists', () => {
    const list = (filter: Partial<CallFilter>, after = 0, limit = 100): Promise<Call[]> => fake.table.index.list({...all, ...filter}, after, limit);

    it('all calls in order of acceptance', async () => {
      const calls = [fake.start(), fake.ended(), fake.start()];
      expect(await list({})).to.deep.equal(calls);
    });

    it('by state, function and role', async () => {
      const [echo, version, other, ended] = [fake.start(), fake.start({spec: {name: 'version'}}), fake.start({role: 'operator'}), fake.ended()];
      fake.run(version);
      expect(await list({state: 'running'})).to.deep.equal([version]);
      expect(await list({state: 'ended'})).to.deep.equal([ended]);
      expect(await list({fnName: 'version'})).to.deep.equal([version]);
      expect(await list({role: 'operator'})).to.deep.equal([other]);
      expect(await list({state: 'starting', fnName: 'echo', role: 'master'})).to.deep.equal([echo]);
    });

    it('only what the caller may see', async () => {
      const [, version] = [fake.start(), fake.start({spec: {name: 'version'}})];
      expect(await list({visible: (name) => name === 'version'})).to.deep.equal([version]);
    });

    it('page by page, none twice and none left out, although calls come and go between', async () => {
      const calls = Array.from({length: 10}, () => fake.ended());
      const first = await list({}, 0, 4);
      expect(first).to.deep.equal(calls.slice(0, 4));
      fake.table.forget(calls[1]!);
      fake.table.forget(calls[5]!);
      const late = fake.start();
      const second = await list({}, first.at(-1)!.sequence, 4);
      expect(second).to.deep.equal([calls[4], calls[6], calls[7], calls[8]]);
      expect(await list({}, second.at(-1)!.sequence, 4)).to.deep.equal([calls[9], late]);
      expect(await list({}, late.sequence, 4)).to.deep.equal([]);
    });

    it('counts only what it shows against the size of a page', async () => {
      const calls = Array.from({length: 6}, (_, number) => fake.start({spec: {name: number % 2 === 0 ? 'echo' : 'version'}}));
      expect(await list({fnName: 'version'}, 0, 2)).to.deep.equal([calls[1], calls[3]]);
    });

    it('goes through many in slices, and through ended ones not at all for those that run', async () => {
      const calls = Array.from({length: 3 * limits.sliceFreeItems}, () => fake.ended());
      const running = fake.start();
      const listing = list({});
      fake.table.forget(calls[0]!);
      fake.table.forget(calls.at(-1)!);
      expect(await listing, 'what went when its turn had not come').to.deep.equal([...calls.slice(0, -1), running]);
      const seen: string[] = [];
      const visible = (name: string): boolean => seen.push(name) > 0;
      expect(await list({state: 'starting', visible})).to.deep.equal([running]);
      expect(seen).to.have.lengthOf(1);
    });
  });

  it('goes on with a list where it was, without a look at what came before, and looks at one function alone', async () => {
    const calls = Array.from({length: 300}, (_none, number) => fake.ended({spec: {name: number % 3 === 0 ? 'version' : 'echo'}}));
    for (const [number, call] of calls.entries()) if (number % 5 === 0) fake.table.forget(call);
    const left = calls.filter(({state}) => state !== 'gone');
    const seen: string[] = [];
    const visible = (name: string): boolean => seen.push(name) > 0;
    const {index} = fake.table;
    for (let at = 0; at < left.length; at += 40) {
      seen.length = 0;
      expect(await index.list({...all, visible}, left[at - 1]?.sequence ?? 0, 40)).to.deep.equal(left.slice(at, at + 40));
      expect(seen.length).to.be.at.most(40);
    }
    seen.length = 0;
    const versions = left.filter(({accepted}) => accepted.fnName === 'version');
    expect(await index.list({...all, fnName: 'version', visible}, versions[9]!.sequence, 100)).to.deep.equal(versions.slice(10));
    expect(seen).to.have.lengthOf(versions.length - 10);
    for (const call of versions) fake.table.forget(call);
    expect(await index.list({...all, fnName: 'version'}, 0, 100)).to.deep.equal([]);
  });

  it('leaves none out and shows none twice where most of them go while a list is made', async () => {
    const calls = Array.from({length: 300}, () => fake.ended());
    const listing = fake.table.index.list({...all, visible: () => {
      for (const call of calls.splice(0, 3).slice(0, 2)) if (call.state === 'ended') fake.table.forget(call);
      return true;
    }}, 0, 1000);
    const found = await listing;
    expect(new Set(found).size).to.equal(found.length);
    const kept = await fake.table.index.list(all, 0, 1000);
    expect(kept.filter((call) => !found.includes(call))).to.deep.equal([]);
  });

  it('looks for calls of one function also among those that run', async () => {
    const [echo, version] = ['echo', 'version'].map((name) => fake.start({spec: {name}}));
    expect(await fake.table.index.list({...all, state: 'starting', fnName: 'version'}, 0, 100)).to.deep.equal([version]);
    expect(await fake.table.index.list({...all, state: 'starting', fnName: 'echo'}, 0, 100)).to.deep.equal([echo]);
  });

  it('wants every line of a call that it knows, of one that is gone the tombstone alone, and nothing of others', () => {
    const {index} = fake.table;
    const isWanted = (key: string): boolean[] => ['accepted', 'buried'].map((event) => index.isWanted({key, json: JSON.stringify({event})}));
    const [kept, gone] = [fake.ended(), fake.ended()];
    const before = index.wantedBytes;
    fake.table.forget(gone);
    expect(index.wantedBytes).to.be.within(1, before - 1);
    expect(isWanted(kept.accepted.key)).to.deep.equal([true, true]);
    expect(isWanted(gone.accepted.key)).to.deep.equal([false, true]);
    expect(isWanted('0123456789abcdef')).to.deep.equal([false, false]);
  });
});
