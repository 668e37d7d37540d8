import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {BuiltNoded} from '../support/built';
import {NodedDaemon} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {runNoded} from '../support/noded-command';

describe('noded --check', function () {
  this.timeout(60_000);
  let built: BuiltNoded;
  let daemon: NodedDaemon;
  before(() => {
    built = new BuiltNoded();
    daemon = new NodedDaemon({functions: fixtures});
  });
  after(async () => {
    await daemon.dispose();
    built.dispose();
  });

  it('says nothing and exits 0 if all is well, and has touched nothing', async () => {
    expect(await runNoded([...daemon.commandLine(), '--check'])).to.deep.equal({code: 0, stdout: '', stderr: ''});
    expect(fs.existsSync(daemon.runDir)).to.equal(false);
  });

  it('says all that is wrong with the functions, a line each, and exits 78', async () => {
    const other = join(daemon.root, 'other');
    fs.mkdirSync(other);
    const write = (name: string, body: string, manifest?: string): void => {
      fs.writeFileSync(join(other, name), body, {mode: 0o755});
      if (manifest !== undefined) fs.writeFileSync(join(other, `${name}.toml`), manifest);
    };
    write('no-shebang', 'echo 1\n');
    write('bad-toml', '#!/bin/sh\n', 'nice = \n');
    write('bad-key', '#!/bin/sh\n', 'niceness = 1\n');
    write('bad-schema', '#!/bin/sh\n', 'args = { type = "objekt" }\n');
    const {code, stderr} = await runNoded([...daemon.commandLine(), '--functions', other, '--check']);
    expect(code).to.equal(78);
    const lines = stderr.trimEnd().split('\n').sort();
    // A complaint about TOML shows the place, in lines of its own.
    expect(lines.filter((line) => line.startsWith('noded: ')).map((line) => line.slice(7 + other.length + 1).split(':')[0])).to.deep.equal(['bad-key', 'bad-schema.toml', 'bad-toml', 'no-shebang']);
  });

  it('says that a directory of functions which was named is not there, and nothing of a default', async () => {
    const gone = join(daemon.root, 'gone');
    expect(await runNoded([...daemon.commandLine(), '--functions', gone, '--check'])).to.deep.equal({code: 78, stdout: '', stderr: `noded: ${gone}: there is no such directory\n`});
    expect(await runNoded(['-c', daemon.configFile, '--no-ssl', '--run-dir', daemon.runDir, '--check'])).to.deep.equal({code: 0, stdout: '', stderr: ''});
  });

  it('says what is wrong with the certificates, and that nobody could call', async () => {
    const pem = (name: string): string => join(daemon.root, name);
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1', '-subj', '/CN=node', '-keyout', pem('key'), '-out', pem('cert')], {stdio: 'ignore'});
    const line = ['-c', daemon.configFile, '-C', pem('cert'), '-K', pem('key'), '--ca', pem('cert'), '--functions', daemon.functionsDir, '--check'];
    expect(await runNoded(line)).to.deep.equal({code: 78, stdout: '', stderr: 'noded: no role has a certificate: every request would be refused\n'});
    daemon.writeConfig('[roles.master]\ncertificates = ["CN=m"]\nfunctions = ["*"]\n');
    expect((await runNoded(line)).code).to.equal(0);
    fs.chmodSync(pem('key'), 0o644);
    const {code, stderr} = await runNoded(line);
    expect([code, stderr.split('\n').length]).to.deep.equal([78, 2]);
    expect(stderr).to.match(/^noded: key .*: may be read by others \(mode 644\); chmod 600 it$/m);
  });

  it('says what a certificate or a key is that it cannot use, and what to do', async () => {
    const directory = fs.mkdtempSync(join(daemon.root, 'pem-'));
    const file = (name: string): string => join(directory, name);
    const openssl = (...words: readonly string[]): void => void execFileSync('openssl', words, {cwd: directory, stdio: 'ignore'});
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1', '-subj', '/CN=node', '-keyout', 'key', '-out', 'cert');
    openssl('pkey', '-in', 'key', '-aes256', '-passout', 'pass:x', '-out', 'locked');
    openssl('ec', '-in', 'key', '-aes256', '-passout', 'pass:x', '-out', 'locked-traditional');
    openssl('pkey', '-in', 'key', '-outform', 'DER', '-out', 'key.der');
    openssl('ec', '-in', 'key', '-outform', 'DER', '-out', 'ec.der');
    openssl('x509', '-in', 'cert', '-outform', 'DER', '-out', 'cert.der');
    openssl('pkcs12', '-export', '-in', 'cert', '-inkey', 'key', '-passout', 'pass:x', '-out', 'both.p12');
    const [key, cert] = [fs.readFileSync(file('key'), 'utf8'), fs.readFileSync(file('cert'), 'utf8')];
    fs.writeFileSync(file('damaged-key'), key.replace(/.{20}\n-----END/, '\n-----END'));
    fs.writeFileSync(file('damaged-cert'), cert.replace(/[^\n]{64}\n/, ''));
    fs.writeFileSync(file('words'), 'nothing\n');
    for (const name of fs.readdirSync(directory)) fs.chmodSync(file(name), 0o600);
    daemon.writeConfig('[roles.master]\ncertificates = ["CN=m"]\nfunctions = ["*"]\n');
    const cases: readonly (readonly [option: '-C' | '-K' | '--ca', name: string, said: string])[] = [
      ['-K', 'locked', 'the key has a passphrase, which nobody is there to type: openssl pkey -in FILE -out FILE.open makes one without'],
      ['-K', 'locked-traditional', 'the key has a passphrase, which nobody is there to type: openssl pkey -in FILE -out FILE.open makes one without'],
      ['-K', 'key.der', 'it is DER, and not PEM: openssl pkey -inform DER -in FILE -out FILE.pem makes PEM of it'],
      ['-K', 'ec.der', 'it is DER, and not PEM: openssl pkey -inform DER -in FILE -out FILE.pem makes PEM of it'],
      ['-K', 'both.p12', 'it is PKCS #12, and not PEM: openssl pkcs12 -nodes -in FILE -out FILE.pem makes PEM of it'],
      ['-K', 'cert', 'there is no PEM private key in it'],
      ['-K', 'damaged-key', 'the private key in it is cut short or damaged'],
      ['-C', 'cert.der', 'it is DER, and not PEM: openssl x509 -inform DER -in FILE -out FILE.pem makes PEM of it'],
      ['-C', 'both.p12', 'it is PKCS #12, and not PEM: openssl pkcs12 -nodes -in FILE -out FILE.pem makes PEM of it'],
      ['-C', 'key', 'there is no PEM certificate in it'],
      ['-C', 'damaged-cert', 'a certificate in it is damaged'],
      ['--ca', 'cert.der', 'it is DER, and not PEM: openssl x509 -inform DER -in FILE -out FILE.pem makes PEM of it'],
      ['--ca', 'words', 'there is no PEM certificate in it'],
    ];
    const usual = {'-C': 'cert', '-K': 'key', '--ca': 'cert'};
    for (const [option, name, said] of cases) {
      const files = Object.entries({...usual, [option]: name}).flatMap(([word, one]) => [word, file(one)]);
      const outcome = await runNoded(['-c', daemon.configFile, ...files, '--functions', daemon.functionsDir, '--check'], {program: built.program});
      expect(outcome, name).to.deep.equal({code: 78, stdout: '', stderr: `noded: ${file(name)}: ${said}\n`});
    }
  });
});
