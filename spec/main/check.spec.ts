import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {runNoded} from '../support/noded-command';

describe('noded --check', function () {
  this.timeout(60_000);
  let daemon: NodedDaemon;
  before(() => (daemon = new NodedDaemon({functions: fixtures})));
  after(() => daemon.dispose());

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
});
