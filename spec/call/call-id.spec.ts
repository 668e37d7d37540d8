import {expect} from 'chai';
import * as fc from 'fast-check';
import {drawKey, isKey, isSameCall, makeCallId, parseCallId} from '../../lib/call/call-id';
import type {CallIdParts} from '../../lib/call/call-id';
import {limits} from '../../lib/base/limits';

const parts: CallIdParts = {ppid: 4121, cpid: 4188, acceptedAtMs: 1_764_670_000_123, key: '9f3a77c01b2d4e5f'};

describe('call IDs', () => {
  it('are made of the parent\'s pid, the function process\'s pid, the time in seconds and the key', () => {
    expect(makeCallId(parts)).to.equal('4121:4188:1764670000.123:9f3a77c01b2d4e5f');
    expect(makeCallId({...parts, cpid: 0, acceptedAtMs: 1_000})).to.equal('4121:0:1.000:9f3a77c01b2d4e5f');
  });

  it('are read back as they were made, and are short', () => {
    const pid = fc.integer({min: 0, max: 2 ** 22});
    const key = fc.integer({min: 0, max: 2 ** 31}).map((drawn) => drawn.toString(16).padStart(16, '0'));
    fc.assert(
      fc.property(fc.record({ppid: pid, cpid: pid, acceptedAtMs: fc.integer({min: 0, max: 4_102_444_800_000}), key}), (made) => {
        const id = makeCallId(made);
        expect(parseCallId(id)).to.deep.equal(made);
        expect(id.length).to.be.below(80).and.below(limits.maxCallIdChars);
      }),
    );
  });

  it('that noded cannot have made are none', () => {
    const wrong = [
      '',
      '4121:4188:1764670000.123',
      '4121:4188:1764670000:9f3a77c01b2d4e5f',
      '4121:4188:1764670000.12:9f3a77c01b2d4e5f',
      '-1:4188:1764670000.123:9f3a77c01b2d4e5f',
      '4121:4188:1764670000.123:9F3A77C01B2D4E5F',
      '4121:4188:1764670000.123:9f3a77c01b2d4e5f0',
      '4121:4188:1764670000.123:9f3a77c01b2d4e5f\n',
      ' 4121:4188:1764670000.123:9f3a77c01b2d4e5f',
      '../../etc/passwd',
      '__proto__',
    ];
    for (const text of wrong) expect(parseCallId(text), text).to.equal(null);
    fc.assert(fc.property(fc.string(), (text) => parseCallId(text) === null));
  });

  it('have keys of 64 bits, each drawn anew', () => {
    const keys = new Set(Array.from({length: 1_000}, drawKey));
    expect(keys.size).to.equal(1_000);
    for (const key of keys) expect(isKey(key)).to.equal(true);
    for (const text of ['', '9f3a77c01b2d4e5', '9f3a77c01b2d4e5f\n', '../3a77c01b2d4e5f', '9F3A77C01B2D4E5F']) expect(isKey(text), text).to.equal(false);
  });

  describe('name the same call', () => {
    it('when all parts are the same', () => {
      expect(isSameCall(parts, {...parts})).to.equal(true);
    });
    it('also when one was given out while the call was starting', () => {
      expect(isSameCall({...parts, cpid: 0}, parts)).to.equal(true);
    });
    it('also when the start was never on file, and nobody knows the pid any more', () => {
      expect(isSameCall(parts, {...parts, cpid: 0})).to.equal(true);
    });
    it('and not when any part differs', () => {
      for (const other of [{ppid: 1}, {cpid: 1}, {acceptedAtMs: 1}, {key: '0000000000000000'}]) {
        expect(isSameCall({...parts, ...other}, parts), JSON.stringify(other)).to.equal(false);
      }
    });
  });
});
