import {X509Certificate} from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import {expect} from 'chai';
import {parse} from 'smol-toml';
import {NodeClient, TransportError, loadTls} from '../../lib';
import {exitCodes} from '../../lib/main/nodectl-exit';
import {fingerprintOf} from '../support/certificates';
import {RunningNoded, nodectl} from './running-noded';

const files = ['ca.crt', 'ca.key', 'master.crt', 'master.key', 'node.crt', 'node.key', 'noded.conf'];
const yearMs = 365 * 24 * 3_600_000;

describe('nodectl keygen', function () {
  // The first run compiles the programs.
  this.timeout(60_000);
  const root = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'noded-keygen-')));
  const directory = path.join(root, 'keys');
  const certificate = (name: string): X509Certificate => new X509Certificate(fs.readFileSync(path.join(directory, `${name}.crt`)));
  let printed = '';

  before(async () => {
    const {code, stdout, stderr} = await nodectl(['keygen', '--name', 'node1.example', '--name', '192.0.2.7', '--name', '2001:db8::1', directory]);
    expect(stderr).to.equal('');
    expect(code).to.equal(0);
    printed = stdout;
  });
  after(() => fs.rmSync(root, {recursive: true, force: true}));

  it('makes its files, and keys that nobody else can read', () => {
    expect(fs.readdirSync(directory).sort()).to.deep.equal(files);
    expect(fs.statSync(directory).mode & 0o777).to.equal(0o700);
    for (const name of files) expect(fs.statSync(path.join(directory, name)).mode & 0o777, name).to.equal(name.endsWith('.key') ? 0o600 : 0o644);
  });

  it('makes certificates that are good for what they are for, and for nothing else', () => {
    const [ca, node, master] = ['ca', 'node', 'master'].map(certificate) as [X509Certificate, X509Certificate, X509Certificate];
    expect(ca.ca).to.equal(true);
    expect(ca.checkIssued(ca)).to.equal(true);
    for (const leaf of [node, master]) {
      expect(leaf.ca).to.equal(false);
      expect(leaf.verify(ca.publicKey)).to.equal(true);
      expect(leaf.publicKey.asymmetricKeyDetails?.namedCurve).to.equal('prime256v1');
    }
    expect(node.keyUsage).to.deep.equal(['1.3.6.1.5.5.7.3.1']); // serverAuth
    expect(master.keyUsage).to.deep.equal(['1.3.6.1.5.5.7.3.2']); // clientAuth
    expect(master.subject).to.equal('CN=master');
    expect(new Set([ca, node, master].map(({serialNumber}) => serialNumber)).size).to.equal(3);
  });

  it('makes the authority last ten years and the certificates two', () => {
    const lifeMs = ({validFrom, validTo}: X509Certificate): number => Date.parse(validTo) - Date.parse(validFrom);
    expect(lifeMs(certificate('ca'))).to.equal(10 * yearMs);
    expect(lifeMs(certificate('node'))).to.equal(2 * yearMs);
    expect(lifeMs(certificate('master'))).to.equal(2 * yearMs);
  });

  it('makes them good for clocks that are behind, by less than a day', () => {
    for (const name of ['ca', 'node', 'master']) expect(Date.now() - Date.parse(certificate(name).validFrom), name).to.be.above(23 * 3_600_000);
  });

  it('names the node by all its names', () => {
    const node = certificate('node');
    for (const name of ['localhost', os.hostname(), 'node1.example']) expect(node.checkHost(name), name).to.not.equal(undefined);
    for (const address of ['127.0.0.1', '::1', '192.0.2.7', '2001:db8::1']) expect(node.checkIP(address), address).to.not.equal(undefined);
  });

  it('prints the configuration that it writes', () => {
    expect(fs.readFileSync(path.join(directory, 'noded.conf'), 'utf8')).to.equal(printed);
    const fingerprint = certificate('master').fingerprint256.replaceAll(':', '').toLowerCase();
    expect(parse(printed)).to.deep.equal({
      cert: path.join(directory, 'node.crt'),
      key: path.join(directory, 'node.key'),
      ca: path.join(directory, 'ca.crt'),
      roles: {master: {certificates: [`sha256:${fingerprint}`], functions: ['*']}},
    });
  });

  for (const there of ['ca.key', 'noded.conf']) {
    it(`overwrites nothing and makes nothing where there is a ${there}`, async () => {
      const full = path.join(root, `with-${there}`);
      fs.mkdirSync(full);
      fs.writeFileSync(path.join(full, there), 'mine');
      const {code, stderr} = await nodectl(['keygen', full]);
      expect(code).to.equal(exitCodes.usage);
      expect(stderr).to.match(/^nodectl: [^\n]*already has [^\n]*\n$/).and.to.include(there);
      expect(fs.readdirSync(full)).to.deep.equal([there]);
      expect(fs.readFileSync(path.join(full, there), 'utf8')).to.equal('mine');
    });
  }

  for (const name of ['two words', 'a,DNS:b', '-x', '', 'a\nb']) {
    it(`does not take ${JSON.stringify(name)} for a name`, async () => {
      const {code, stderr} = await nodectl(['keygen', `--name=${name}`, path.join(root, 'never')]);
      expect(stderr).to.match(/^nodectl: [^\n]+\n$/);
      expect(code).to.equal(exitCodes.usage);
      expect(fs.existsSync(path.join(root, 'never'))).to.equal(false);
    });
  }

  it('says so if the directory cannot be made', async () => {
    const {code, stderr} = await nodectl(['keygen', '/proc/noded-keys']);
    expect(stderr).to.match(/^nodectl: [^\n]*ENOENT[^\n]*\n$/);
    expect(code).to.equal(exitCodes.usage);
  });

  it('says so if there is no openssl, and leaves nothing behind', async () => {
    const without = path.join(root, 'without-openssl');
    const {code, stderr} = await nodectl(['keygen', without], {env: {...process.env, PATH: '/nonexistent'}});
    expect(stderr).to.match(/^nodectl: keygen needs the openssl command[^\n]*\n$/);
    expect(code).to.equal(exitCodes.usage);
    expect(fs.readdirSync(without)).to.deep.equal([]);
  });

  describe('with a noded that uses its files', () => {
    const noded = new RunningNoded({cat: 'exec cat'}, ['-c', path.join(directory, 'noded.conf')]);
    const other = path.join(root, 'other');
    const as = (from: string, role: string, ca = from): string[] => ['-C', path.join(from, `${role}.crt`), '-K', path.join(from, `${role}.key`), '--ca', path.join(ca, 'ca.crt')];
    const call = (who: readonly string[]): ReturnType<typeof nodectl> => nodectl(['call', '-p', String(noded.port), ...who, 'cat', '42']);

    before(async () => {
      await noded.start();
      await nodectl(['keygen', other]);
    });
    after(() => noded.remove());

    it('the master may call functions', async () => {
      const {code, stdout, stderr} = await call(as(directory, 'master'));
      expect(stderr).to.equal('');
      expect(code).to.equal(0);
      expect(JSON.parse(stdout)).to.deep.include({outcome: 'ok', result: 42});
    });

    it('a master of another authority may not', async () => {
      const {code, stderr} = await call(as(other, 'master', directory));
      const shown = fingerprintOf({cert: path.join(other, 'master.crt')});
      expect(stderr.split('\n')[0], 'and he hears which one he has shown').to.match(/^nodectl: .*it may not accept this certificate/).and.include(shown);
      expect(code).to.be.oneOf([exitCodes.notStarted, exitCodes.unknown]);
    });

    it('a node of another authority is not believed, and gets no request', async () => {
      const {code, stderr} = await call(as(directory, 'master', other));
      expect(stderr).to.match(/^nodectl: [^\n]+\n$/);
      expect(code).to.equal(exitCodes.notStarted);
    });

    it('the certificate of a node is no master', async () => {
      expect((await call(as(directory, 'node'))).code).to.be.oneOf([exitCodes.notStarted, exitCodes.unknown]);
    });

    it('the name of the node must be the one that was asked for, or the one that is expected', async () => {
      const tls = loadTls({cert: path.join(directory, 'master.crt'), key: path.join(directory, 'master.key'), ca: path.join(directory, 'ca.crt')});
      const ask = async (serverName: string): Promise<unknown> => {
        const client = new NodeClient({host: '127.0.0.1', port: noded.port, tls, serverName});
        try {
          return await client.status();
        } finally {
          client.close();
        }
      };
      expect(await ask('node1.example')).to.have.property('instance');
      const error = await ask('node2.example').catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(TransportError).and.include({code: 'ERR_TLS_CERT_ALTNAME_INVALID', started: 'no'});
    });
  });
});
