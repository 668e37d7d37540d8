import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {HandshakeShares, shareOf} from '../../lib/rpc/handshake-shares';
import type {Handshake} from '../../lib/rpc/handshake-shares';

describe('the share of an address', () => {
  const shares: Readonly<Record<string, string>> = {
    '192.0.2.7': '192.0.2.7',
    '::ffff:192.0.2.7': '192.0.2.7',
    '2001:db8:1:2:3:4:5:6': '2001:db8:1:2',
    '2001:DB8:0001:2::6': '2001:db8:1:2',
    '2001:db8::6': '2001:db8:0:0',
    'fe80::1%eth0': 'fe80:0:0:0',
    '::1': '0:0:0:0',
    '::': '0:0:0:0',
    '1:2:3:4:5:6:7::': '1:2:3:4',
  };
  for (const [address, share] of Object.entries(shares)) it(`of ${address} is ${share}`, () => expect(shareOf(address)).to.equal(share));
});

describe('the shares of handshakes', () => {
  const {maxHandshakes, maxHandshakesPerAddress, maxStrangerHandshakes, maxKnownAddresses} = limits;
  let shares: HandshakeShares;
  beforeEach(() => (shares = new HandshakeShares()));

  const handshake = (share: string): Handshake => ({share, silent: true, close: () => {}});
  const begin = (share: string): Handshake => {
    const one = handshake(share);
    expect(shares.begin(one)).to.deep.equal([]);
    return one;
  };
  const fill = (share: string, count: number): Handshake[] => Array.from({length: count}, () => begin(share));

  it('let an address have its share, and close its oldest silent one for one more', () => {
    const [first, second, third] = fill('a', maxHandshakesPerAddress) as [Handshake, Handshake, Handshake];
    first.silent = false;
    const more = handshake('a');
    expect(shares.begin(more)).to.deep.equal([second]);
    expect(shares.begin(handshake('a'))).to.deep.equal([third]);
    expect(shares.size).to.equal(maxHandshakesPerAddress);
  });

  it('close the oldest where none is silent', () => {
    const all = fill('a', maxHandshakesPerAddress);
    for (const one of all) one.silent = false;
    expect(shares.begin(handshake('a'))).to.deep.equal([all[0]]);
  });

  it('do not let strangers have the room that is kept for others', () => {
    const all = [0, 1, 2].flatMap((name) => fill(String(name), maxStrangerHandshakes / 3));
    expect(shares.begin(handshake('one more'))).to.deep.equal([all[0]]);
    shares.acquaint('known');
    fill('known', maxHandshakes - maxStrangerHandshakes);
    expect(shares.size).to.equal(maxHandshakes);
  });

  it('close a stranger for one who is known, and never the other way round', () => {
    const strangers = fill('stranger', 10);
    const names = Array.from({length: maxHandshakes / maxHandshakesPerAddress}, (_, name) => `known ${name}`);
    for (const name of names) shares.acquaint(name);
    for (const name of names.slice(1)) fill(name, maxHandshakesPerAddress);
    fill(names[0]!, maxHandshakesPerAddress - 10);
    expect(shares.begin(handshake(names[0]!))).to.deep.equal([strangers[0]]);
    for (const one of strangers) shares.end(one);
    fill(names[0]!, 9);
    expect(shares.size).to.equal(maxHandshakes);
    expect(shares.begin(handshake('stranger'))).to.equal(null);
    expect(shares.size).to.equal(maxHandshakes);
  });

  it('forget what has come to its end, once and for all', () => {
    for (const one of fill('a', maxHandshakesPerAddress)) {
      shares.end(one);
      shares.end(one);
    }
    expect(shares.size).to.equal(0);
    fill('a', maxHandshakesPerAddress);
  });

  it('remember so many addresses, and of these the last', () => {
    for (let name = 0; name < maxKnownAddresses; name += 1) shares.acquaint(String(name));
    shares.acquaint('0');
    shares.acquaint('one more'); // for which 1 goes
    for (const name of ['a', 'b', 'c']) fill(name, maxStrangerHandshakes / 3);
    begin('0');
    expect(shares.begin(handshake('1'))).to.have.lengthOf(1);
  });
});
