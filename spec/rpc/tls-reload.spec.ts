/** SIGHUP (DESIGN.md section 9): new certificates, CA and roles, and nothing dropped; bad new ones change nothing. */
import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import {chmodSync, copyFileSync, readFileSync, renameSync, rmSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tls from 'node:tls';
import {X509Certificate} from 'node:crypto';
import {CertificateShop, fingerprintOf, roleText, tellsChains} from '../support/certificates';
import type {Authority} from '../support/certificates';
import {NodedDaemon} from '../support/daemon';
import type {TlsPaths} from '../support/daemon';
import {sampleOf} from '../support/metrics';
import {programs} from '../support/programs';
import {until} from '../support/until';

const functions = {cat: programs.cat, forever: programs.forever, until_file: programs.until_file};

describe('SIGHUP', () => {
  const shop = new CertificateShop();
  /** What the node reads, in place. */
  let files: TlsPaths;
  let old: Authority;
  let next: Authority;
  let node: NodedDaemon;
  let oldMaster: TlsPaths;
  let newMaster: TlsPaths;
  let watcher: TlsPaths;
  let oldNode: TlsPaths;
  let newNode: TlsPaths;

  /** Puts a node certificate and the CAs that masters come from in place, at once for whoever reads them. */
  function install(own: TlsPaths, ...authorities: readonly Pick<Authority, 'certificate'>[]): void {
    copyFileSync(own.cert, `${files.cert}.new`);
    copyFileSync(own.key, `${files.key}.new`);
    chmodSync(`${files.key}.new`, 0o600);
    writeFileSync(`${files.ca}.new`, authorities.map(({certificate}) => readFileSync(certificate, 'utf8')).join(''));
    for (const file of Object.values(files)) renameSync(`${file}.new`, file);
  }

  const config = (...masters: readonly TlsPaths[]): string => roleText('master', masters.map(fingerprintOf)) + roleText('watcher', [fingerprintOf(watcher)], []);

  async function reloads(result: 'ok' | 'failed'): Promise<number> {
    return sampleOf((await node.get('/metrics', {client: watcher})).text, `noded_reloads_total{result="${result}"}`);
  }

  async function reload(result: 'ok' | 'failed'): Promise<void> {
    const counted = await reloads(result);
    node.signal('SIGHUP');
    await until(`the reload is ${result}`, async () => (await reloads(result)) === counted + 1);
  }

  /** The certificate that the node shows to a new connection. */
  async function shownFingerprint(): Promise<string> {
    const socket = tls.connect({port: node.port, host: '127.0.0.1', rejectUnauthorized: false});
    try {
      return await new Promise((resolve, reject) => {
        socket.once('error', reject);
        socket.once('secureConnect', () => resolve(new X509Certificate(socket.getPeerCertificate().raw).fingerprint256.replaceAll(':', '').toLowerCase()));
      });
    } finally {
      socket.on('error', () => undefined); // the node breaks it off: no certificate
      socket.destroy();
    }
  }

  const isServed = (client: TlsPaths): Promise<boolean> => node.get('/status', {client, fresh: true}).then(({status}) => status === 200, () => false);

  before(async () => {
    const directory = shop.newDirectory();
    files = {cert: join(directory, 'node.crt'), key: join(directory, 'node.key'), ca: join(directory, 'ca.crt')};
    [old, next] = [shop.authority('old'), shop.authority('next')];
    oldNode = old.issue({subject: '/CN=node', usage: 'serverAuth'});
    newNode = old.issue({subject: '/CN=node', usage: 'serverAuth'});
    [oldMaster, watcher] = [old.issue({subject: '/CN=master'}), old.issue({subject: '/CN=watcher'})];
    newMaster = next.issue({subject: '/CN=master'}, old);
    install(oldNode, old);
    node = await NodedDaemon.start({functions, config: config(oldMaster), tls: {...files, client: oldMaster}});
  });
  beforeEach(async () => {
    install(oldNode, old);
    node.writeConfig(config(oldMaster));
    await reload('ok');
  });
  after(async () => {
    await node.dispose();
    shop.dispose();
  });

  it('takes a new node certificate for new connections, and keeps the old ones', async () => {
    expect(await shownFingerprint()).to.equal(fingerprintOf(oldNode));
    install(newNode, old);
    await reload('ok');
    expect(await shownFingerprint()).to.equal(fingerprintOf(newNode));
    const shown = (JSON.parse((await node.get('/status')).text) as {certificate_not_after: number}).certificate_not_after;
    expect(shown).to.equal(Date.parse(new X509Certificate(readFileSync(newNode.cert)).validTo) / 1000);
    expect(sampleOf((await node.get('/metrics')).text, 'noded_certificate_not_after_seconds')).to.equal(shown);
  });

  it('takes a new CA and new roles; an open wait gets its answer, its certificate having lost all rights meanwhile', async () => {
    const file = join(node.root, 'go-on');
    const {fnc_id: callId} = (await node.startFunction('until_file', file, 0)).json;
    const wait = node.waitForFunction(callId, 60);
    await until('it waits', async () => (await node.get('/status', {client: watcher})).json.counts.waiters === 1);
    expect(await isServed(newMaster)).to.equal(false);
    install(oldNode, old, next);
    node.writeConfig(config(newMaster));
    await reload('ok');
    expect(await isServed(newMaster)).to.equal(true);
    writeFileSync(file, '');
    expect((await wait).json.result).to.equal('seen');
    // The same connection, no more than a request later.
    const struckOff = await node.waitForFunction(callId, 0);
    expect({...struckOff.json, status: struckOff.status}).to.include({status: 403, code: 'forbidden'});
    expect((await node.put('WaitForFunction', {fnc_id: callId, timeout: 0}, {client: newMaster})).json.result).to.equal('seen');
  });

  /** What becomes of the next request over the kept connection. */
  const statusOf = async (client: TlsPaths): Promise<number> => (await node.get('/status', {client})).status;

  it('takes away a CA: its certificates get no new connection, and the open ones lose their rights with their next request', async () => {
    install(oldNode, old, next);
    node.writeConfig(config(oldMaster, newMaster));
    await reload('ok');
    expect([await statusOf(oldMaster), await statusOf(newMaster)]).to.deep.equal([200, 200]);
    install(oldNode, old);
    await reload('ok');
    expect(await isServed(newMaster)).to.equal(false);
    expect([await statusOf(oldMaster), await statusOf(newMaster)]).to.deep.equal([200, 403]);
    const line = await node.logged(/is not trusted any more/);
    expect(line).to.include({level: 40, code: 'forbidden', fingerprint: `sha256:${fingerprintOf(newMaster)}`});
    install(oldNode, old, next);
    await reload('ok');
    expect([await statusOf(oldMaster), await statusOf(newMaster)]).to.deep.equal([200, 200]);
  });

  it('goes by the CA at the end of what a master has shown, and lets it be renewed', async () => {
    const between = next.subordinate('between');
    const master = between.issue({subject: '/CN=far'}, old);
    writeFileSync(master.cert, readFileSync(master.cert, 'utf8') + readFileSync(between.certificate, 'utf8'));
    install(oldNode, old, next);
    node.writeConfig(config(oldMaster, master));
    await reload('ok');
    expect(await statusOf(master)).to.equal(200);
    const renewed = next.renewed();
    const steps = [[[next, old], 200], [[old, renewed], 200], [[old, between], 403], [[old, next], 200], [[old], 403]] as const;
    for (const [authorities, status] of steps) {
      install(oldNode, ...authorities);
      await reload('ok');
      const told = authorities.map(({certificate}) => certificate).join(' ');
      const first = await statusOf(master);
      // A Node that does not tell what was shown beside the certificate knows nothing of the open connection; the next one proves it.
      if (authorities[1] === renewed && !(await tellsChains(old, master, next.certificate))) expect(first, told).to.equal(403);
      else expect(first, told).to.equal(status);
      expect(await isServed(master), told).to.equal(status === 200);
      if (status === 200) expect(await statusOf(master), told).to.equal(200);
    }
  });

  it('closes the connection of who has lost his CA: what he shows with the next one counts', async () => {
    install(oldNode, old, next);
    node.writeConfig(config(oldMaster, newMaster));
    await reload('ok');
    expect(await statusOf(newMaster)).to.equal(200);
    install(oldNode, old);
    await reload('ok');
    expect((await node.get('/status', {client: newMaster})).headers.connection).to.equal('close');
    expect(await statusOf(newMaster).catch(() => 'refused')).to.equal('refused');
  });

  it('drops no call of masters who work all the time, in twenty reloads', async () => {
    let done = false;
    let served = 0;
    const master = async (name: number): Promise<void> => {
      for (let round = 0; !done && round < 2_000; round += 1) {
        const fresh = round % 5 === 0;
        const {status, json, text} = await node.put('StartFunction', {fn_name: 'cat', fn_args: [name, round], timeout: 30}, {fresh});
        expect(status, text).to.equal(200);
        expect(json.result).to.deep.equal([name, round]);
        served += 1;
      }
    };
    const masters = Promise.all([1, 2, 3, 4].map(master));
    try {
      for (let round = 0; round < 20; round += 1) {
        install(round % 2 === 0 ? newNode : oldNode, ...(round % 3 === 0 ? [old, next] : [old]));
        await reload('ok');
      }
      await until('they were served meanwhile', () => served >= 20);
    } finally {
      done = true;
      await masters;
    }
  });

  const breakings: Readonly<Record<string, () => void>> = {
    'a certificate that is cut short': () => writeFileSync(files.cert, readFileSync(newNode.cert, 'utf8').slice(0, 200)),
    'a key that is cut short': () => writeFileSync(files.key, readFileSync(oldNode.key, 'utf8').slice(0, 100)),
    'a CA that is cut short': () => writeFileSync(files.ca, readFileSync(next.certificate, 'utf8').slice(0, 200)),
    'a second CA that is cut short': () => writeFileSync(files.ca, readFileSync(next.certificate, 'utf8') + readFileSync(old.certificate, 'utf8').slice(0, 200)),
    'the key of another certificate': () => copyFileSync(oldNode.key, files.key),
    'a key that others can read': () => chmodSync(files.key, 0o644),
    'a key with a passphrase': () => void execFileSync('openssl', ['pkey', '-in', newNode.key, '-aes256', '-passout', 'pass:x', '-out', files.key]),
    'a key in DER': () => void execFileSync('openssl', ['pkey', '-in', newNode.key, '-outform', 'DER', '-out', files.key]),
    'no certificate': () => rmSync(files.cert),
    'no key': () => rmSync(files.key),
    'no CA': () => rmSync(files.ca),
    'an empty CA': () => writeFileSync(files.ca, ''),
    'an expired certificate': () => {
      const expired = old.issue({subject: '/CN=node', usage: 'serverAuth', to: new Date(Date.now() - 60_000)});
      install(expired, old);
    },
    'a configuration that cannot be read': () => node.writeConfig('[roles.master\n'),
    'a role of a wrong type': () => node.writeConfig('[roles.master]\ncertificates = "all"\n'),
  };
  for (const [what, spoil] of Object.entries(breakings)) {
    it(`keeps all that was there, with ${what}, and says so`, async () => {
      const before = node.logLines().length;
      // What else is new must not be taken either.
      install(newNode, next);
      node.writeConfig(config(newMaster));
      spoil();
      await reload('failed');
      expect(await shownFingerprint()).to.equal(fingerprintOf(oldNode));
      expect(await isServed(oldMaster)).to.equal(true);
      expect(await isServed(newMaster)).to.equal(false);
      const line = await until('the log says so', () => node.logLines().slice(before).find(({msg}) => msg.startsWith('reload: ')));
      expect(line.msg).to.include('everything stays as it was');
      const file = [...Object.values(files), node.configFile, 'roles.master.certificates'].find((name) => line.msg.includes(name));
      expect(file, line.msg).to.be.a('string');
    });
  }
});
