import {expect} from 'chai';
import {execFileSync, spawn} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {describeWithNetworks} from '../support/as-root';
import {CertificateShop} from '../support/certificates';
import {noded} from '../support/daemon';
import {until} from '../support/until';

/** A network with a cable in it; the one end has fe80::1 and no other address. Words before a program. */
const cable = 'ip link add nt0 type veth peer name nt1 && ip link set nt1 up && ip link set nt0 addrgenmode none up && ip addr add fe80::1/64 dev nt0 nodad';
const inNetwork = ['-n', 'sh', '-c', `${cable} && exec "$@"`, 'sh'];

describeWithNetworks('an interface that has a link-local address alone', function (this: Mocha.Suite) {
  this.timeout(60_000);
  const shop = new CertificateShop();
  after(() => shop.dispose());

  it('is listened on, with its name', async () => {
    const authority = shop.authority('site');
    const {cert, key, ca} = authority.issue({subject: '/CN=node', usage: 'serverAuth'});
    const directory = shop.newDirectory();
    const config = join(directory, 'noded.conf');
    fs.writeFileSync(config, 'spawner = "child"\nfunctions = []\n');
    const words = [noded, '-c', config, '-i', 'nt0', '-p', '0', '-C', cert, '-K', key, '--ca', ca, '--run-dir', join(directory, 'run')];
    const daemon = spawn('unshare', [...inNetwork, ...words], {stdio: ['ignore', 'ignore', 'pipe']});
    let log = '';
    daemon.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const ended = once(daemon, 'close');
    try {
      await until('it is ready', () => log.includes('noded is ready') || daemon.exitCode !== null, 40_000);
      expect(log).to.match(/"address":"fe80::1%nt0".*noded is ready/);
    } finally {
      daemon.kill('SIGKILL');
      await ended;
    }
  });

  it('is found for ganeti-noded in a cluster of IPv6, and not in one of IPv4', () => {
    const script = `
      const {writeFileSync} = require('node:fs');
      const {ganetiConfig} = require('./lib/main/ganeti-config');
      const {ganetiPaths} = require('./lib/main/ganeti-paths');
      const [, primaryIpFamily] = process.argv;
      for (const family of ['10', '2']) {
        writeFileSync(primaryIpFamily, family);
        try {
          console.log(ganetiConfig({interface: 'nt0', ssl: true}, {...ganetiPaths({}), primaryIpFamily}).address);
        } catch ({message}) {
          console.log(message);
        }
      }`;
    const words = [process.execPath, '--require', 'ts-node/register/transpile-only', '-e', script, join(shop.newDirectory(), 'family')];
    const said = execFileSync('unshare', [...inNetwork, ...words], {cwd: join(__dirname, '../..'), encoding: 'utf8'});
    expect(said).to.equal('fe80::1%nt0\nFailed to find IP for interface nt0\n');
  });
});
