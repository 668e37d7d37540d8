/** `make install` as a packager and as an operator see it: into a DESTDIR, run from there, and taken out again. */
import {execFileSync, spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {expect} from 'chai';
import {describeWithMounts} from './support/as-root';
import {NodedDaemon} from './support/daemon';

const root = join(__dirname, '..');

function make(target: string, destination: string): void {
  execFileSync('make', [target, `DESTDIR=${destination}`, 'PREFIX=/usr'], {cwd: root, stdio: 'pipe'});
}

function filesBelow(directory: string): string[] {
  return fs.readdirSync(directory, {recursive: true, encoding: 'utf8'}).filter((name) => !fs.lstatSync(join(directory, name)).isDirectory());
}

describe('make install', function () {
  this.timeout(120_000);
  let destination: string;

  before(() => {
    destination = fs.mkdtempSync(join(os.tmpdir(), 'noded-install-'));
    fs.chmodSync(destination, 0o755);
    make('install', destination);
  });
  after(() => fs.rmSync(destination, {recursive: true, force: true}));

  it('puts the programs, the pages, the unit and the configuration where they belong', () => {
    const files = new Set(filesBelow(destination));
    for (const file of ['usr/sbin/noded', 'usr/bin/nodectl', 'usr/lib/noded/lib/main/noded.js', 'usr/lib/noded/functions/version', 'usr/lib/noded/libexec/noded-ganeti', 'usr/lib/noded/libexec/noded_ganeti/server.py', 'usr/share/man/man8/noded.8', 'usr/share/man/man1/nodectl.1', 'usr/lib/systemd/system/noded.service', 'etc/noded/noded.conf']) {
      expect(files, file).to.include(file);
    }
    expect(fs.readFileSync(join(destination, 'usr/lib/systemd/system/noded.service'), 'utf8')).to.include('ExecStart=/usr/sbin/noded').and.not.include('@PREFIX@');
  });

  it('tells noded where its functions are, under another PREFIX than its own', () => {
    const configuration = fs.readFileSync(join(destination, 'etc/noded/noded.conf'), 'utf8');
    expect(configuration).to.match(/^functions = \["\/usr\/lib\/noded\/functions", "\/etc\/noded\/functions\.d"\]$/m);
  });

  it('installs compiled JavaScript and what it needs at run time, and nothing of the workshop', () => {
    const files = filesBelow(join(destination, 'usr/lib/noded'));
    expect(files.filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts') && !file.startsWith('node_modules/'))).to.deep.equal([]);
    const packages = fs.readdirSync(join(destination, 'usr/lib/noded/node_modules'));
    expect(packages).to.include.members(['ajv', 'commander', 'pino', 'prom-client', 'smol-toml']);
    for (const workshop of ['typescript', 'ts-node', 'mocha', 'c8', '@types']) expect(packages).not.to.include(workshop);
  });

  it('gives a noded that runs from there and calls its functions, by the installed nodectl', async () => {
    const daemon = await NodedDaemon.start({program: join(destination, 'usr/sbin/noded'), args: ['--functions', join(destination, 'usr/lib/noded/functions')]});
    try {
      const port = String(daemon.port);
      const called = spawnSync(join(destination, 'usr/bin/nodectl'), ['call', '--no-ssl', '-p', port, '--json', 'version'], {encoding: 'utf8'});
      expect(called.stderr).to.equal('');
      expect(called.status).to.equal(0);
      expect(JSON.parse(called.stdout)).to.have.nested.property('result.noded', JSON.parse(fs.readFileSync(join(root, 'package.json'), 'utf8')).version);
    } finally {
      await daemon.dispose();
    }
  });

  it('keeps a configuration that somebody has edited', () => {
    const configuration = join(destination, 'etc/noded/noded.conf');
    fs.writeFileSync(configuration, 'port = 1812\n');
    make('install', destination);
    expect(fs.readFileSync(configuration, 'utf8')).to.equal('port = 1812\n');
  });

  it('is undone by make uninstall, but for /etc/noded', () => {
    make('uninstall', destination);
    expect(filesBelow(destination)).to.deep.equal(['etc/noded/noded.conf']);
  });
});

/** The indented block below a heading of README.md, as somebody copies it. */
function readmeBlock(heading: string): string {
  const [, section = ''] = fs.readFileSync(join(root, 'README.md'), 'utf8').split(`\n## ${heading}\n`);
  return [...section.split('\n## ')[0]!.matchAll(/^ {4}(.*)$/gm)].map(([, line]) => line).join('\n');
}

describeWithMounts('README.md, Install', () => {
  let place: string;
  before(() => (place = fs.mkdtempSync(join(os.tmpdir(), 'noded-readme-'))));
  after(() => fs.rmSync(place, {recursive: true, force: true}));

  // The machine's own directories under a layer that is thrown away, and processes and ports of their own.
  const inRoot = `set -e
    mount -t tmpfs tmpfs "$0"
    for path in /usr /etc; do
      mkdir -p "$0$path" "$0/work$path"
      mount -t overlay overlay -o "lowerdir=$path,upperdir=$0$path,workdir=$0/work$path" $path
    done
    rm -rf /etc/noded
    mount -t tmpfs tmpfs /run
    ip link set lo up
    mkdir "$0/bin"
    printf '%s\\n' "$2" > "$0/bin/systemctl"
    chmod 755 "$0/bin/systemctl"
    PATH=$0/bin:/usr/local/sbin:$PATH LOG=$0/log sh -ec "$1"`;

  // What systemd does with the unit: it is the one program of the block that is not the real one.
  const systemctl = `#!/bin/sh
    [ "$*" = 'enable --now noded' ] || exit 64
    install -d -m 700 /run/noded
    $(sed -n 's/^ExecStart=//p' /usr/local/lib/systemd/system/noded.service) >"$LOG" 2>&1 &
    until grep -q 'noded is ready' "$LOG"; do
      kill -0 $! || { cat "$LOG" >&2; exit 1; }
      sleep 0.1
    done`;

  it('typed as it stands, gives a noded that its master can call', () => {
    const block = readmeBlock('Install');
    expect(block).to.include('make install').and.to.include('systemctl enable --now noded');
    const {status, stdout, stderr} = spawnSync('unshare', ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', inRoot, place, block, systemctl], {cwd: root, encoding: 'utf8', timeout: 240_000, killSignal: 'SIGKILL'});
    expect(status, stderr).to.equal(0);
    const answer = JSON.parse(stdout.trim().split('\n').at(-1)!) as object;
    expect(answer).to.have.property('outcome', 'ok');
    expect(answer).to.have.nested.property('result.noded', JSON.parse(fs.readFileSync(join(root, 'package.json'), 'utf8')).version);
  }).timeout(250_000);
});
