/** What strangers may do to the TLS port: cost a little, for a little while, and nothing else. */
import {expect} from 'chai';
import {randomBytes} from 'node:crypto';
import {CertificateShop, fingerprintOf, roleText} from '../support/certificates';
import {NodedDaemon} from '../support/daemon';
import {sampleOf} from '../support/metrics';
import {programs} from '../support/programs';
import {RawConnection, putText} from '../support/raw-http';
import {until} from '../support/until';
import {limits} from '../../lib/base/limits';

describe('strangers on the TLS port', () => {
  const shop = new CertificateShop();
  let node: NodedDaemon;
  let connections: RawConnection[] = [];
  const open = async (): Promise<RawConnection> => {
    const connection = await RawConnection.open(node.port);
    connections.push(connection);
    return connection;
  };

  before(async () => {
    const site = shop.authority('site');
    const own = site.issue({subject: '/CN=node', usage: 'serverAuth'});
    const client = site.issue({subject: '/CN=master'});
    node = await NodedDaemon.start({functions: {cat: programs.cat}, config: roleText('master', [fingerprintOf(client)]), tls: {...own, client}});
  });
  afterEach(() => {
    for (const connection of connections.splice(0)) connection.destroy();
  });
  after(async () => {
    await node.dispose();
    shop.dispose();
  });

  const isServed = async (): Promise<void> => {
    const {json} = await node.put('StartFunction', {fn_name: 'cat', fn_args: 'served', timeout: 20}, {fresh: true});
    expect(json.result).to.equal('served');
  };

  /** The beginning of a ClientHello: a handshake record of 512 bytes, of which few come. */
  const halfHello = Buffer.concat([Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]), randomBytes(16)]);

  for (const [what, bytes] of Object.entries({
    'plain HTTP': Buffer.from(putText('StartFunction', {fn_name: 'cat', fn_args: 1, timeout: 0})),
    'random bytes': Buffer.concat([Buffer.from([0x80]), randomBytes(4096)]),
    'half a ClientHello': halfHello,
    'an alert': Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28]),
    'nothing at all': Buffer.alloc(0),
  })) {
    it(`${what}: the connection is closed, no answer of HTTP is given, and masters are served`, async () => {
      const connection = await open();
      connection.write(bytes);
      await isServed();
      await connection.end(limits.handshakeTimeoutMs * 4);
      expect(connection.bytes.toString('latin1')).not.to.include('HTTP/1.1');
      await isServed();
    });
  }

  it('a stranger who goes away in the middle of the handshake leaves nothing behind', async () => {
    for (let round = 0; round < limits.maxHandshakes + 50; round += 1) {
      const connection = await open();
      connection.write(halfHello);
      if (round % 2 === 0) connection.reset();
      else connection.destroy();
    }
    // Were one of them still counted, there would be no room for the master.
    await isServed();
  });

  /** Connections that say nothing, from these addresses in turn, while masters come anew: each of them is served. */
  async function crowd(addresses: readonly string[], masters: readonly string[]): Promise<void> {
    const rounds = 15;
    for (let round = 0; round < rounds; round += 1) {
      const silent = Array.from({length: 30}, (_, count) => RawConnection.open(node.port, undefined, addresses[(round * 30 + count) % addresses.length]));
      connections.push(...(await Promise.all(silent)));
      for (const localAddress of masters) {
        const {json} = await node.put('StartFunction', {fn_name: 'cat', fn_args: round, timeout: 20}, {fresh: true, localAddress});
        expect(json.result).to.equal(round);
      }
    }
    expect(connections.length).to.be.above(limits.maxHandshakes);
  }

  it('silent ones of one address keep no master out, not even from there', async () => {
    await crowd(['127.0.0.2'], ['127.0.0.2', '127.0.0.1']);
    expect(connections.filter(({closed}) => !closed).length).to.be.at.most(limits.maxHandshakesPerAddress);
  });

  it('silent ones of many addresses keep out neither who was here before nor who comes for the first time', async () => {
    const addresses = Array.from({length: 40}, (_, last) => `127.0.1.${last + 1}`);
    await crowd(addresses, ['127.0.0.1', '127.0.2.1']);
    expect(connections.filter(({closed}) => !closed).length).to.be.at.most(limits.maxStrangerHandshakes);
  });

  it('silent ones who make room for others are counted and told', async () => {
    const counted = async (): Promise<number> => sampleOf((await node.get('/metrics')).text, 'noded_handshakes_refused_total{reason="too_many"}');
    const before = await counted();
    await crowd(['127.0.0.3'], []);
    await until('all but a share are counted', async () => (await counted()) - before === connections.length - limits.maxHandshakesPerAddress);
    const line = await node.logged(/^a connection is closed for a new one: too many TLS handshakes are under way$/);
    expect(line).to.include({reason: 'too_many'});
    expect(line.address).to.match(/^127\.0\./);
  });

  it('silent ones are gone after a while', async () => {
    for (let count = 0; count < 20; count += 1) await open();
    await until('all strangers are gone', () => connections.every(({closed}) => closed), limits.handshakeTimeoutMs * 4);
    await isServed();
  });

  it('are no requests that were refused', async () => {
    expect((await node.get('/metrics')).text).not.to.include('noded_refused_total{code="bad_request"}');
  });

  it('are in the log, but do not fill it', () => {
    const lines = node.logLines().filter(({msg}) => msg.startsWith('a TLS handshake failed'));
    expect(lines).not.to.be.empty;
    expect(lines.length).to.be.below(30);
  });
});
