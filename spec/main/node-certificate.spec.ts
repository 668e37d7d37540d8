/** A node certificate that is of no use now: the clock may be what is wrong, and that heals by itself. */
import {expect} from 'chai';
import {chmodSync, copyFileSync} from 'node:fs';
import {join} from 'node:path';
import {CertificateShop, fingerprintOf, roleText} from '../support/certificates';
import type {Authority} from '../support/certificates';
import {NodedDaemon} from '../support/daemon';
import type {TlsPaths} from '../support/daemon';
import {runNoded} from '../support/noded-command';
import {until} from '../support/until';

const hourMs = 3_600_000;

describe('a certificate of the node', function () {
  this.timeout(60_000);
  const shop = new CertificateShop();
  let site: Authority;
  let master: TlsPaths;
  let good: TlsPaths;
  let node: NodedDaemon | null = null;

  before(() => {
    site = shop.authority('site');
    master = site.issue({subject: '/CN=master'});
    good = site.issue({subject: '/CN=node', usage: 'serverAuth'});
  });
  afterEach(async () => {
    await node?.dispose();
    node = null;
  });
  after(() => shop.dispose());

  const config = (): string => roleText('master', [fingerprintOf(master)]);
  /** The certificate and key in files that another one can be put into. */
  const placed = (own: TlsPaths): TlsPaths => {
    const directory = shop.newDirectory();
    const files = {cert: join(directory, 'node.crt'), key: join(directory, 'node.key'), ca: own.ca};
    put(own, files);
    return files;
  };
  const put = (own: TlsPaths, files: TlsPaths): void => {
    copyFileSync(own.cert, files.cert);
    copyFileSync(own.key, files.key);
    chmodSync(files.key, 0o600);
  };

  const times = (from: number, to: number): {readonly subject: string; readonly usage: 'serverAuth'; readonly from: Date; readonly to: Date} => ({
    subject: '/CN=node', usage: 'serverAuth', from: new Date(Date.now() + from), to: new Date(Date.now() + to),
  });
  const unfit: Readonly<Record<string, readonly [from: number, to: number, said: RegExp]>> = {
    'that is not valid yet': [hourMs, 2 * hourMs, /node\.crt is not valid before \d{4}-.*Z; this machine's clock says \d{4}-.*Z/],
    'that has expired': [-2 * hourMs, -hourMs, /node\.crt expired at \d{4}-.*Z; this machine's clock says \d{4}-.*Z/],
  };
  for (const [what, [from, to, said]] of Object.entries(unfit)) {
    it(`${what} does not keep noded away; both times are said, and a reload mends it`, async () => {
      const files = placed(site.issue(times(from, to)));
      node = await NodedDaemon.start({config: config(), tls: files});
      expect(await node.logged(said)).to.include({level: 40});
      const running = node;
      const ask = (): Promise<string> => running.get('/status', {client: master, fresh: true}).then(({status}) => String(status), ({code}: {code: string}) => code);
      expect(await ask()).to.match(/^CERT_(NOT_YET_VALID|HAS_EXPIRED)$/);
      put(good, files);
      node.signal('SIGHUP');
      await until('masters are served', async () => (await ask()) === '200');
    });

    it(`${what} does not pass --check`, async () => {
      node = new NodedDaemon({config: config(), tls: placed(site.issue(times(from, to)))});
      const {code, stderr} = await runNoded([...node.commandLine(), '--check']);
      expect(code).to.equal(78);
      expect(stderr).to.match(said);
    });
  }

  it('is not changed by a reload for one that is not valid yet', async () => {
    const files = placed(good);
    node = await NodedDaemon.start({config: config(), tls: {...files, client: master}});
    put(site.issue(times(hourMs, 2 * hourMs)), files);
    node.signal('SIGHUP');
    expect((await node.logged(/^reload: /)).msg).to.match(/is not valid before .*everything stays as it was/);
    expect((await node.get('/status', {fresh: true})).status).to.equal(200);
  });
});
