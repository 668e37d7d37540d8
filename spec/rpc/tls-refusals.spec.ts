/** Whoever is refused for his certificate cannot be told over TLS: the log of the node says it, and a metric counts it. */
import {expect} from 'chai';
import {readFileSync} from 'node:fs';
import * as tls from 'node:tls';
import {NodeClient, TransportError, loadTls} from '../../lib';
import {CertificateShop, fingerprintOf, roleText} from '../support/certificates';
import {NodedDaemon} from '../support/daemon';
import type {LogLine, TlsPaths} from '../support/daemon';
import {sampleOf} from '../support/metrics';
import {programs} from '../support/programs';
import {RawConnection} from '../support/raw-http';
import {until} from '../support/until';

const hourMs = 3_600_000;
const request = 'GET /status HTTP/1.1\r\nHost: noded\r\n\r\n';

describe('who was refused, and why', () => {
  const shop = new CertificateShop();
  let node: NodedDaemon;
  let master: TlsPaths;
  let ca = '';
  const strangers: Record<string, TlsPaths> = {};

  before(async () => {
    const site = shop.authority('site');
    ca = site.certificate;
    const own = site.issue({subject: '/CN=node', usage: 'serverAuth'});
    const now = Date.now();
    master = site.issue({subject: '/CN=master'});
    Object.assign(strangers, {
      expired: site.issue({subject: '/O=site/CN=expired', from: new Date(now - 2 * hourMs), to: new Date(now - hourMs)}),
      early: site.issue({subject: '/CN=early', from: new Date(now + hourMs), to: new Date(now + 2 * hourMs)}),
      'of another CA': shop.authority('other').issue({subject: '/CN=alien'}, site),
      'of another CA with the same name': shop.authority('site').issue({subject: '/CN=impostor'}, site),
      'signed by itself': shop.selfSigned('/CN=self', ca),
      'for a server': own,
      'of no role': site.issue({subject: '/CN=nobody'}),
      insistent: shop.selfSigned('/CN=insistent', ca),
    });
    const config = `tls_min_version = "TLSv1.2"\n${roleText('master', [fingerprintOf(master)])}`;
    node = await NodedDaemon.start({functions: {cat: programs.cat}, config, tls: {...own, client: master}});
  });
  after(async () => {
    await node?.dispose();
    shop.dispose();
  });

  const counted = async (reason: string): Promise<number> => sampleOf((await node.get('/metrics')).text, `noded_handshakes_refused_total{reason="${reason}"}`);
  const linesOf = (client: TlsPaths): LogLine[] => node.logLines().filter(({fingerprint}) => fingerprint === `sha256:${fingerprintOf(client)}`);

  /** Comes, asks, and waits for the end of the connection. Gives what was answered. */
  async function visit(client: TlsPaths | null, version: tls.SecureVersion = 'TLSv1.3'): Promise<string> {
    const own = client === null ? {} : {cert: readFileSync(client.cert), key: readFileSync(client.key)};
    const connection = new RawConnection(tls.connect({port: node.port, host: '127.0.0.1', ca: readFileSync(ca), checkServerIdentity: () => undefined, minVersion: version, maxVersion: version, ...own}));
    try {
      connection.write(request);
      await until('the end', () => connection.closed);
      return connection.bytes.toString('latin1');
    } finally {
      connection.destroy();
    }
  }

  /** Who comes, OpenSSL's word for what is wrong with him, the reason in log and metric. */
  const refusals: readonly (readonly [who: string, subject: string, word: RegExp, reason: string])[] = [
    ['expired', 'O=site,CN=expired', /CERT_HAS_EXPIRED; .*good from .* to .*; this node's clock says /, 'certificate_expired'],
    ['early', 'CN=early', /CERT_NOT_YET_VALID; .*good from .* to .*; this node's clock says /, 'certificate_not_yet_valid'],
    ['of another CA', 'CN=alien', /UNABLE_TO_/, 'unknown_ca'],
    ['of another CA with the same name', 'CN=impostor', /UNABLE_TO_|CERT_SIGNATURE_FAILURE/, 'unknown_ca'],
    ['signed by itself', 'CN=self', /SELF_SIGNED/, 'unknown_ca'],
    ['for a server', 'CN=node', /INVALID_PURPOSE/, 'certificate_rejected'],
  ];
  for (const [who, subject, word, reason] of refusals) {
    it(`a certificate ${who}: one line with reason, subject, fingerprint and address, and each time is counted, over both TLS`, async () => {
      const before = await counted(reason);
      const client = strangers[who]!;
      for (const version of ['TLSv1.3', 'TLSv1.2'] as const) expect(await visit(client, version)).to.equal('');
      await until('both are counted', async () => (await counted(reason)) === before + 2);
      // A time may have ended between the two, however short both were.
      const lines = await until('the log says so', () => (linesOf(client).length > 0 ? linesOf(client) : undefined));
      expect(lines.length).to.be.at.most(2);
      expect(lines[0]!.msg).to.match(/^a client certificate is refused: /).and.match(word);
      expect(lines[0]).to.include({level: 40, reason, subject, address: '127.0.0.1'});
    });
  }

  it('no certificate at all: a line and a count of its own', async () => {
    const before = await counted('no_certificate');
    expect(await visit(null)).to.equal('');
    await until('it is counted', async () => (await counted('no_certificate')) === before + 1);
    const line = await node.logged(/^a TLS handshake failed: .*did not return a certificate/);
    expect(line).to.include({reason: 'no_certificate', address: '127.0.0.1'});
  });

  it('a certificate in no role: it is let in, refused by 403, and logged with its fingerprint, not at each request', async () => {
    const client = strangers['of no role']!;
    for (let round = 0; round < 50; round += 1) expect((await node.get('/status', {client})).json).to.include({code: 'forbidden', started: 'no'});
    const lines = linesOf(client);
    expect(lines.length).to.be.within(1, 10);
    expect(lines[0]).to.include({level: 40, code: 'forbidden', subject: 'CN=nobody', address: '127.0.0.1'});
    expect(lines[0]!.msg).to.match(/^a request is refused: no role has the certificate sha256:/);
  });

  it('one who comes again and again does not fill the log, and each time is counted', async () => {
    const before = await counted('unknown_ca');
    const client = strangers.insistent!;
    for (let round = 0; round < 50; round += 1) await visit(client);
    await until('all are counted', async () => (await counted('unknown_ca')) === before + 50);
    expect(linesOf(client).length).to.be.within(1, 10);
  });

  it('whoever only looks whether the port is open leaves no line and is no refusal', async () => {
    const before = node.logLines().length;
    const totals = (text: string): string[] => text.split('\n').filter((line) => line.startsWith('noded_handshakes_refused_total'));
    const earlier = totals((await node.get('/metrics')).text);
    for (let round = 0; round < 20; round += 1) {
      const connection = await RawConnection.open(node.port);
      if (round % 2 === 0) connection.reset();
      else connection.destroy();
    }
    // Whatever came of them was there before this.
    expect((await node.get('/status', {fresh: true})).status).to.equal(200);
    expect(totals((await node.get('/metrics')).text)).to.deep.equal(earlier);
    // What the visitors before were refused for may be read as late as this.
    expect(node.logLines().slice(before).filter(({msg}) => /handshake|connection/.test(msg))).to.deep.equal([]);
  });

  it('a master hears which certificate he has shown, and where to look', async () => {
    const client = new NodeClient({host: '127.0.0.1', port: node.port, tls: loadTls(strangers['of another CA']!)});
    try {
      const error = await client.status().then(() => null, (reason: unknown) => reason);
      expect(error).to.be.instanceOf(TransportError);
      expect((error as Error).message).to.include('as it does to a certificate that it refuses').and.include(`CN=alien, sha256:${fingerprintOf(strangers['of another CA']!)}, good from `).and.include('its log says more');
    } finally {
      client.close();
    }
  });
});
