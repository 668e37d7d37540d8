import {expect} from 'chai';
import {momentNow} from '../../lib/base/boot-clock';
import {limits} from '../../lib/base/limits';
import {Tombstones, tombstoneLine} from '../../lib/call/tombstones';
import type {Tombstone} from '../../lib/call/tombstones';
import {setFakeClock} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {tombstoneOf} from '../support/tombstones';

let number = 0;
function tombstone(facts: Partial<Tombstone> = {}): Tombstone {
  const key = (number += 1).toString(16).padStart(16, '0');
  return {key, callId: `4121:4188:1764670000.123:${key}`, fnName: 'echo', role: 'master', requestId: null, outcome: 'ok', buriedAtMs: Date.now(), buriedBoot: null, ...facts};
}

describe('tombstones', () => {
  let clock: FakeClock;
  let tombstones: Tombstones;

  beforeEach(() => {
    clock = setFakeClock();
    tombstones = new Tombstones();
  });
  afterEach(() => clock.restore());

  it('are found by key, and by the request ID of a role', () => {
    const one = tombstone({requestId: 'request-1'});
    tombstones.add(one);
    tombstones.add(tombstone());
    expect(tombstones.get(one.key)).to.equal(one);
    expect(tombstones.getByRequest('master', 'request-1')).to.equal(one);
    expect(tombstones.getByRequest('operator', 'request-1')).to.equal(undefined);
    expect(tombstones.get('ffffffffffffffff')).to.equal(undefined);
    expect(tombstones.size).to.equal(2);
  });

  it('go after a day, also while nothing new is buried', () => {
    const [named, plain] = [tombstone({requestId: 'request-1'}), tombstone()];
    tombstones.add(named);
    tombstones.add(plain);
    clock.tick(limits.keepTombstoneMs);
    expect(tombstones.get(plain.key), 'on the day').to.equal(plain);
    clock.tick(1);
    expect(tombstones.getByRequest('master', 'request-1')).to.equal(undefined);
    expect(tombstones.size).to.equal(0);
  });

  it('that are read back a day late are not taken in', () => {
    tombstones.add(tombstone({buriedAtMs: Date.now() - limits.keepTombstoneMs - 1}));
    expect(tombstones.size).to.equal(0);
  });

  it('last a day by the boot clock, however the wall clock was set meanwhile', () => {
    const {boot} = momentNow();
    const [young, old] = [tombstone({buriedBoot: boot}), tombstone({buriedBoot: {...boot!, ms: boot!.ms - limits.keepTombstoneMs - 60_000}})];
    clock.setSystemTime(Date.now() + 2 * limits.keepTombstoneMs);
    for (const one of [old, young]) tombstones.add(tombstoneOf({key: one.key, line: tombstoneLine(one)})!);
    expect(tombstones.get(young.key)).to.deep.equal(young);
    expect(tombstones.get(old.key)).to.equal(undefined);
    clock.setSystemTime(Date.now() + 2 * limits.keepTombstoneMs);
    expect(tombstones.get(young.key), 'of a day').to.deep.equal(young);
  });

  it('are at most so many, and the oldest goes first', () => {
    const [first, second] = [tombstone({requestId: 'request-1'}), tombstone()];
    tombstones.add(first);
    tombstones.add(second);
    for (let more = 2; more <= limits.maxTombstones; more += 1) tombstones.add(tombstone());
    expect(tombstones.size).to.equal(limits.maxTombstones);
    expect(tombstones.get(first.key)).to.equal(undefined);
    expect(tombstones.getByRequest('master', 'request-1')).to.equal(undefined);
    expect(tombstones.get(second.key)).to.equal(second);
  });

  it('of one request ID: the younger one counts, and outlives the older one', () => {
    const older = tombstone({requestId: 'request-1'});
    tombstones.add(older);
    clock.tick(1_000);
    const younger = tombstone({requestId: 'request-1', outcome: 'failed'});
    tombstones.add(younger);
    clock.tick(limits.keepTombstoneMs);
    expect(tombstones.get(older.key)).to.equal(undefined);
    expect(tombstones.getByRequest('master', 'request-1')).to.equal(younger);
  });

  it('of a call that was buried twice keep the order of burial, so that the old ones still go', () => {
    const twice = tombstone();
    tombstones.add(twice);
    const other = tombstone();
    tombstones.add(other);
    clock.tick(limits.keepTombstoneMs - 1_000);
    tombstones.add({...twice, buriedAtMs: Date.now()});
    clock.tick(2_000);
    expect(tombstones.get(other.key)).to.equal(undefined);
    expect(tombstones.get(twice.key)).to.deep.include({key: twice.key});
    expect(tombstones.size).to.equal(1);
  });

  describe('on file', () => {
    it('are a line each, and read back as they were', () => {
      for (const one of [tombstone(), tombstone({requestId: 'request-1', outcome: 'lost', role: 'rôle "x"\n'})]) {
        const line = tombstoneLine(one);
        expect(line).to.not.include('\n');
        expect(tombstoneOf({key: one.key, line})).to.deep.equal(one);
      }
    });

    const one = tombstone();
    const whole = {...(JSON.parse(tombstoneLine(one)) as Record<string, unknown>)};
    const broken: readonly (readonly [what: string, line: string])[] = [
      ['torn', tombstoneLine(one).slice(0, 40)],
      ['empty', ''],
      ['no object', 'null'],
      ['without an ID', JSON.stringify({...whole, id: undefined})],
      ['with an ID that noded cannot have made', JSON.stringify({...whole, id: 'x'})],
      ['with the ID of another call', JSON.stringify({...whole, id: tombstone().callId})],
      ['without a function', JSON.stringify({...whole, fn_name: null})],
      ['without a role', JSON.stringify({...whole, role: []})],
      ['with an unknown outcome', JSON.stringify({...whole, outcome: 'perhaps'})],
      ['without a time', JSON.stringify({...whole, time: '1'})],
    ];
    for (const [what, line] of broken) {
      it(`are left out when ${what}`, () => {
        expect(tombstoneOf({key: one.key, line})).to.equal(null);
      });
    }
  });
});
