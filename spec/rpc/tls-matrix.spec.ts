/** Which certificates get through, over which TLS, with which session (DESIGN.md section 9). */
import {expect} from 'chai';
import {once} from 'node:events';
import {readFileSync} from 'node:fs';
import * as tls from 'node:tls';
import {CertificateShop, fingerprintOf, roleText} from '../support/certificates';
import {NodedDaemon} from '../support/daemon';
import type {TlsPaths} from '../support/daemon';
import {programs} from '../support/programs';
import {RawConnection} from '../support/raw-http';
import {until} from '../support/until';

type Version = 'TLSv1.2' | 'TLSv1.3';
const versions: readonly Version[] = ['TLSv1.2', 'TLSv1.3'];
const hourMs = 3_600_000;

const request = 'GET /status HTTP/1.1\r\nHost: noded\r\n\r\n';

interface Visit {
  /** Of the answer; null if the connection broke instead. */
  readonly status: number | null;
  readonly resumed: boolean;
  /** What a client could come back with. */
  readonly sessions: readonly Buffer[];
}

interface Visitor {
  readonly version: Version;
  readonly client: TlsPaths | null;
  readonly ca: string;
  readonly session?: Buffer;
}

/** Connects, asks for /status, and tells what came of it. */
async function visit(port: number, {version, client, ca, session}: Visitor): Promise<Visit> {
  const own = client === null ? {} : {cert: readFileSync(client.cert), key: readFileSync(client.key)};
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    ca: readFileSync(ca),
    checkServerIdentity: () => undefined,
    minVersion: version,
    maxVersion: version,
    ...own,
    ...(session === undefined ? {} : {session}),
  });
  const sessions: Buffer[] = [];
  let resumed = false;
  socket.once('secureConnect', () => (resumed = socket.isSessionReused()));
  socket.on('session', (ticket: Buffer) => void sessions.push(ticket));
  const connection = new RawConnection(socket);
  try {
    // With TLS 1.3 a client believes in its connection before the node has looked at the certificate.
    connection.write(request);
    await until('an answer or the end', () => connection.closed || connection.bytes.includes('\r\n\r\n'));
    const status = /^HTTP\/1\.1 (\d+)/.exec(connection.bytes.toString('latin1'))?.[1];
    if (version === 'TLSv1.2' && socket.getSession() !== undefined) sessions.push(socket.getSession()!);
    return {status: status === undefined ? null : Number(status), resumed, sessions};
  } finally {
    connection.destroy();
  }
}

describe('TLS: who gets in', () => {
  const shop = new CertificateShop();
  let strict: NodedDaemon;
  let lenient: NodedDaemon;
  let ca = '';
  /** Null is no certificate at all. */
  const clients: Record<string, TlsPaths | null> = {};

  before(async function () {
    this.timeout(90_000);
    const site = shop.authority('site');
    const other = shop.authority('site'); // of the same name, with another key
    ca = site.certificate;
    const own = site.issue({subject: '/CN=node', usage: 'serverAuth'});
    const now = Date.now();
    Object.assign(clients, {
      'no certificate': null,
      'a certificate of another CA': other.issue({subject: '/CN=master'}, site),
      'a certificate of another CA with a listed subject': other.issue({subject: '/O=site/CN=subject'}, site),
      'a self-signed certificate': shop.selfSigned('/CN=master', ca),
      'a self-signed certificate with a listed subject': shop.selfSigned('/O=site/CN=subject', ca),
      'an expired certificate': site.issue({subject: '/CN=expired', from: new Date(now - 2 * hourMs), to: new Date(now - hourMs)}),
      'a certificate that is not yet valid': site.issue({subject: '/CN=early', from: new Date(now + hourMs), to: new Date(now + 2 * hourMs)}),
      'a certificate of no role': site.issue({subject: '/CN=stranger'}),
      'the certificate of the node itself': own,
      'a certificate whose name only looks like a listed subject': site.issue({subject: '/O=site,CN=subject'}),
      'a certificate whose name has a line break where a listed subject has a comma': site.issue({subject: '/O=site\nCN=subject'}),
      'a certificate that is listed by its fingerprint': site.issue({subject: '/CN=fingerprint'}),
      'a certificate that is listed by its subject': site.issue({subject: '/O=site/CN=subject'}),
    });
    const listed = ['an expired certificate', 'a certificate that is not yet valid', 'a certificate that is listed by its fingerprint', 'a self-signed certificate', 'a certificate of another CA'].map((who) => fingerprintOf(clients[who]!));
    const config = roleText('master', [...listed.map((fingerprint) => fingerprint.toUpperCase().replace(/..(?=.)/g, '$&:')), 'O=site,CN=subject']);
    const options = {functions: {cat: programs.cat}, tls: own};
    strict = await NodedDaemon.start({...options, config});
    lenient = await NodedDaemon.start({...options, config: `tls_min_version = "TLSv1.2"\n${config}`});
  });
  after(async () => {
    await strict?.dispose();
    await lenient?.dispose();
    shop.dispose();
  });

  /** Who they are, and what they get: an answer, or a connection that breaks. */
  const expected: Readonly<Record<string, number | null>> = {
    'no certificate': null,
    'a certificate of another CA': null,
    'a certificate of another CA with a listed subject': null,
    'a self-signed certificate': null,
    'a self-signed certificate with a listed subject': null,
    'an expired certificate': null,
    'a certificate that is not yet valid': null,
    'a certificate of no role': 403,
    'the certificate of the node itself': null, // it is good for servers only
    'a certificate whose name only looks like a listed subject': 403,
    'a certificate whose name has a line break where a listed subject has a comma': 403,
    'a certificate that is listed by its fingerprint': 200,
    'a certificate that is listed by its subject': 200,
  };

  for (const [who, status] of Object.entries(expected)) {
    for (const version of versions) {
      it(`${who}, ${version}: ${status ?? 'refused'}, and the same with a session of an earlier visit`, async () => {
        const visitor: Visitor = {version, client: clients[who]!, ca};
        const first = await visit(lenient.port, visitor);
        expect(first.status).to.equal(status);
        // Sessions of one who was let in, which carry his rights if any do.
        const master = await visit(lenient.port, {version, client: clients['a certificate that is listed by its fingerprint']!, ca});
        expect(master.status).to.equal(200);
        expect(master.sessions).not.to.be.empty;
        for (const session of [...first.sessions, ...master.sessions]) {
          const again = await visit(lenient.port, {...visitor, session});
          expect(again).to.include({status, resumed: false});
        }
      });
    }
    it(`${who}, TLSv1.2 where it is not allowed: refused`, async () => {
      expect((await visit(strict.port, {version: 'TLSv1.2', client: clients[who]!, ca})).status).to.equal(null);
      expect((await visit(strict.port, {version: 'TLSv1.3', client: clients[who]!, ca})).status).to.equal(status);
    });
  }

  it('TLS 1.0 and 1.1 are refused even where 1.2 is allowed', async () => {
    for (const version of ['TLSv1', 'TLSv1.1'] as const) {
      const socket = tls.connect({port: lenient.port, host: '127.0.0.1', rejectUnauthorized: false, minVersion: version, maxVersion: version, ciphers: 'DEFAULT@SECLEVEL=0'});
      const error = await new Promise<Error | null>((resolve) => socket.once('error', resolve).once('secureConnect', () => resolve(null)));
      socket.destroy();
      expect(error).to.be.an('error');
    }
  });

  it('a connection cannot be negotiated again', async () => {
    const client = clients['a certificate that is listed by its fingerprint']!;
    const socket = tls.connect({
      port: lenient.port,
      host: '127.0.0.1',
      ca: readFileSync(ca),
      cert: readFileSync(client.cert),
      key: readFileSync(client.key),
      maxVersion: 'TLSv1.2',
      checkServerIdentity: () => undefined,
    });
    try {
      await once(socket, 'secureConnect');
      const error = await new Promise<Error | null>((resolve) => {
        socket.once('error', resolve);
        socket.once('close', () => resolve(new Error('closed')));
        socket.renegotiate({}, resolve);
      });
      expect(error).to.be.an('error');
    } finally {
      socket.destroy();
    }
    expect((await visit(lenient.port, {version: 'TLSv1.2', client, ca})).status).to.equal(200);
  });
});
