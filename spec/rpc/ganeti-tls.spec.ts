/** Who gets in, over the real daemon and certificates like Ganeti's. */
import {expect} from 'chai';
import * as fs from 'node:fs';
import * as https from 'node:https';
import * as net from 'node:net';
import * as tls from 'node:tls';
import {once} from 'node:events';
import {join} from 'node:path';
import {describeIf} from '../support/as-root';
import {fingerprintOf, sha1Of} from '../support/certificates';
import type {TlsPaths} from '../support/daemon';
import {GanetiAuthority} from '../support/ganeti-certificates';
import {GanetiNoded, keepingAgent} from '../support/ganeti-noded';
import {ganetiProblem} from '../support/ganeti-node';
import {until} from '../support/until';

describeIf('the certificates of a Ganeti cluster', ganetiProblem(), () => {
  let node: GanetiNoded;
  let other: TlsPaths;

  before(async function () {
    this.timeout(90_000);
    node = new GanetiNoded();
    other = node.authority.issue('node2');
    await node.start(['-d']);
  });
  after(() => node.dispose());
  beforeEach(() => node.writeMap([sha1Of(node.candidate)]));

  const statusOf = async (client: TlsPaths, agent?: https.Agent): Promise<number> => (await node.ask('/version', '[]', {client, ...(agent === undefined ? {} : {agent})})).status;
  /** 'Error' and why, or what it was answered with. */
  const outcomeOf = (client: TlsPaths): Promise<unknown> => statusOf(client).catch((error: NodeJS.ErrnoException) => error.code);
  const newDirectory = (name: string): string => {
    const directory = join(node.directory, name);
    fs.mkdirSync(directory);
    return directory;
  };
  const replaceServerPem = (content: Buffer | string): void => {
    fs.writeFileSync(`${node.serverPem}.new`, content, {mode: 0o440});
    fs.renameSync(`${node.serverPem}.new`, node.serverPem);
  };

  it('let a master candidate in', async () => {
    expect(await statusOf(node.candidate)).to.equal(200);
  });

  it('keep another node of the cluster out, which is told why, and so is the log', async () => {
    const {status, headers, text} = await node.ask('/version', '[]', {client: other});
    const reason = `the certificate ${sha1Of(other)} (CN=node2) is not that of a master candidate`;
    expect([status, headers['content-type'], text]).to.deep.equal([403, 'text/plain; charset=utf-8', reason]);
    await until('the log says so', () => node.log.includes(` WARNING a request is refused: ${reason} code=forbidden subject=CN=node2 fingerprint=sha256:${fingerprintOf(other)} address=127.0.0.1\n`) && node.log.includes(` POST /version HTTP/1.1 403 (${reason})\n`));
    const operation = await node.put('StartFunction', {fn_name: 'version', fn_args: [], timeout: 1}, {client: other});
    expect([operation.status, operation.json.code, operation.json.detail]).to.deep.equal([403, 'forbidden', reason]);
    expect((await node.get('/status', {client: other})).status).to.equal(403);
  });

  it('keep out whoever has server.pem alone, once there are master candidates', async () => {
    expect(await statusOf(node.authority.own)).to.equal(403);
  });

  it('let in whoever has server.pem, and no other, while there are none', async () => {
    node.writeMap([]);
    expect([await statusOf(node.authority.own), await statusOf(node.candidate)]).to.deep.equal([200, 403]);
    fs.rmSync(node.path('var/lib/ganeti/ssconf_master_candidates_certs'));
    expect([await statusOf(node.authority.own), await statusOf(node.candidate)]).to.deep.equal([200, 403]);
  });

  it('take the right from an open connection', async () => {
    const agent = keepingAgent();
    try {
      expect(await statusOf(node.candidate, agent)).to.equal(200);
      node.writeMap([sha1Of(other)]);
      const {request, response} = node.begin('/version', '[]', {agent});
      expect([(await response).status, request.reusedSocket]).to.deep.equal([403, true]);
      node.writeMap([sha1Of(node.candidate)]);
      expect(await statusOf(node.candidate, agent)).to.equal(200);
    } finally {
      agent.destroy();
    }
  });

  it('end the handshake of strangers: of another cluster, and without any', async () => {
    const stranger = {...new GanetiAuthority(newDirectory('strangers')).issue('node1'), ca: node.candidate.ca};
    node.writeMap([sha1Of(node.candidate), sha1Of(stranger)]);
    expect(await outcomeOf(stranger)).to.match(/^(ECONNRESET|ERR_SSL_.*|EPIPE)$/);
    const answers = new Promise<boolean>((resolve) => {
      const request = https.request({host: '127.0.0.1', port: node.port, path: '/status', rejectUnauthorized: false, agent: false}, () => resolve(true));
      request.on('error', () => resolve(false));
      request.end();
    });
    expect(await answers).to.equal(false);
  });

  it('end the handshake of a master candidate whose certificate is past its date', async () => {
    const expired = node.authority.issue('node1', -1);
    node.writeMap([sha1Of(expired)]);
    expect(await outcomeOf(expired)).to.match(/^(ECONNRESET|ERR_SSL_.*|EPIPE)$/);
  });

  it('work with TLS 1.2 and 1.3, without tickets, and with nothing older', async () => {
    const handshake = (version: tls.SecureVersion): Promise<string | null> =>
      new Promise((resolve) => {
        const socket = tls.connect({...node.connection(node.candidate), minVersion: version, maxVersion: version, ciphers: 'DEFAULT@SECLEVEL=0'}, () => {
          resolve(socket.getProtocol());
          socket.destroy();
        });
        let session = false;
        socket.on('session', () => (session = socket.getProtocol() === 'TLSv1.3'));
        socket.on('error', () => resolve(null));
        socket.on('close', () => expect(session).to.equal(false));
      });
    expect([await handshake('TLSv1.3'), await handshake('TLSv1.2'), await handshake('TLSv1.1')]).to.deep.equal(['TLSv1.3', 'TLSv1.2', null]);
  });

  it('make no noise of somebody who only looks whether the port is open', async () => {
    const before = node.log.length;
    const socket = net.connect(node.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.destroy();
    await until('it has been seen', () => node.log.slice(before).includes('a TLS handshake was broken off'));
    // What is told late of those before had a reason to fail.
    const lines = node.log.slice(before).split('\n').filter((line) => line.includes('handshake') && !line.includes('a TLS handshake failed: '));
    expect(lines).to.have.length(1);
    expect(lines[0]).to.include(' DEBUG ');
  });

  it('are those of a new server.pem from the next connection on; a bad one is told, and the old one stays', async () => {
    const agent = keepingAgent();
    expect(await statusOf(node.candidate, agent)).to.equal(200);
    try {
      const old = fs.readFileSync(node.serverPem);
      for (const bad of ['nonsense\n', old.subarray(0, old.length - 300)]) {
        const before = node.log.length;
        replaceServerPem(bad);
        expect([await statusOf(node.candidate), await statusOf(node.candidate)]).to.deep.equal([200, 200]);
        await until('the log says so', () => / ERROR new certificates: .*; the old ones stay$/m.test(node.log.slice(before)));
        expect(node.log.slice(before).match(/the old ones stay/g)).to.have.length(1);
      }
      const renewed = new GanetiAuthority(newDirectory('renewed'));
      const master = renewed.issue('node1');
      replaceServerPem(fs.readFileSync(renewed.pem));
      node.writeMap([sha1Of(master), sha1Of(node.candidate)]);
      expect(await statusOf(master)).to.equal(200);
      await until('the log says so', () => node.log.includes(`took over new certificates sha1=${sha1Of(renewed.own)}`));
      expect(await outcomeOf(node.candidate), 'trusts the old server.pem').to.not.equal(200);
      expect(await outcomeOf({...node.candidate, ca: master.ca}), 'is of the old one').to.not.equal(200);
      expect(await statusOf(node.candidate, agent), 'a connection from before, although the list has it').to.equal(403);
      node.writeMap([]);
      expect(await statusOf(renewed.own)).to.equal(200);
      replaceServerPem(old);
    } finally {
      agent.destroy();
    }
  });

  it('do not keep the daemon from starting when server.pem is past its date, because Ganeti replaces it only where it runs', async () => {
    await node.stop();
    const [old, expired, renewed] = [fs.readFileSync(node.serverPem), new GanetiAuthority(newDirectory('expired'), -1), new GanetiAuthority(newDirectory('after'))];
    replaceServerPem(fs.readFileSync(expired.pem));
    await node.start(['-d']);
    expect(node.log).to.match(/ WARNING .*server\.pem expired at /);
    replaceServerPem(fs.readFileSync(renewed.pem));
    const master = renewed.issue('node1');
    node.writeMap([sha1Of(master)]);
    expect(await statusOf(master)).to.equal(200);
    replaceServerPem(old);
  });
});
