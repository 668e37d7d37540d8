/** How contrib/ganeti gets into Ganeti's programs, and only there; and what it does where Ganeti is another one. */
import {execFileSync, spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {expect} from 'chai';
import {describeIf} from '../support/as-root';
import {noGaneti} from './ganeti-world';

const checkout = join(__dirname, '../..');
const python = '/usr/bin/python3';
/** What luxid gives to its jobs: the directory of the version. */
const versionShare = '/usr/share/ganeti/default';
const whoCalls = 'import ganeti.rpc.node as node; print(node._RpcProcessor.__call__.__module__)';

describeIf('make install-ganeti-rpc', noGaneti, () => {
  let root: string;
  /** Python reads the .pth files of this directory by itself, as it does those of the one that the Makefile chooses. */
  let site: string;

  const make = (target: string, ...variables: readonly string[]): void => void execFileSync('make', [target, ...variables], {cwd: checkout, stdio: 'pipe'});
  const run = (args: readonly string[], share = fs.realpathSync(versionShare)): {readonly stdout: string; readonly stderr: string} => {
    const {stdout, stderr, status} = spawnSync(python, args, {encoding: 'utf8', cwd: '/', env: {PATH: '/usr/bin:/bin', PYTHONUSERBASE: root, PYTHONPATH: share}});
    expect(status, stderr).to.equal(0);
    return {stdout: stdout.trim(), stderr: stderr.trim()};
  };

  before(() => {
    root = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-ganeti-install-')));
    site = execFileSync(python, ['-c', 'import site; print(site.getusersitepackages())'], {encoding: 'utf8', env: {PYTHONUSERBASE: root}}).trim();
    make('install-ganeti-rpc', `SITEDIR=${site}`);
  });
  after(() => fs.rmSync(root, {recursive: true, force: true}));

  it('chooses a directory that belongs to no package, below DESTDIR', () => {
    const destination = join(root, 'destination');
    make('install-ganeti-rpc', `DESTDIR=${destination}`);
    const files = fs.readdirSync(destination, {recursive: true, encoding: 'utf8'});
    expect(files.find((name) => name.endsWith('/noded_rpc.pth'))).to.match(/^usr\/local\/lib\/python3\.\d+\/dist-packages\/noded_rpc\.pth$/);
    expect(files.filter((name) => name.endsWith('.pyc'))).to.not.deep.equal([]); // Ganeti's users cannot write there
    make('uninstall-ganeti-rpc', `DESTDIR=${destination}`);
    expect(fs.readdirSync(destination, {recursive: true, encoding: 'utf8'}).filter((name) => name.includes('noded'))).to.deep.equal([]);
  });

  it('reaches jobs, whose PYTHONPATH luxid sets', () => {
    expect(run(['-c', `import ganeti.jqueue.exec; ${whoCalls}`])).to.deep.equal({stdout: 'noded_rpc.patch', stderr: ''});
  });

  for (const tool of ['gnt-cluster', 'gnt-node', 'gnt-instance']) {
    it(`reaches ${tool}`, () => {
      const {stderr} = run(['-X', 'importtime', `/usr/sbin/${tool}`, '--version'], '');
      const imported = stderr.match(/[\w.]+$/gm)!;
      // Tools that make no calls have no need of it.
      expect(imported.includes('noded_rpc.patch')).to.equal(imported.includes('ganeti.rpc.node'));
      expect(imported).to.include('noded_rpc.hook');
    });
  }

  it('reaches the watcher', () => {
    expect(run(['-c', `import ganeti.watcher; ${whoCalls}`]).stdout).to.equal('noded_rpc.patch');
  });

  it('loads nothing but the hook into other programs, and keeps out of their imports', () => {
    const code = 'import sys, json, email, xml.dom.minidom; print(sorted(name for name in sys.modules if name.startswith(("noded", "pycurl", "ganeti"))))';
    expect(run(['-c', code], '')).to.deep.equal({stdout: '[\'noded_rpc\', \'noded_rpc.hook\']', stderr: ''});
    const missing = 'import importlib.util\ntry:\n  import ganeti.rpc.node\nexcept ModuleNotFoundError as err:\n  print(err.name)';
    expect(run(['-c', missing], '')).to.deep.equal({stdout: 'ganeti', stderr: ''});
  });

  /** Ganeti, but for one line of its RPC client. */
  function anotherGaneti(from: string, to: string): string {
    const share = join(root, `share-${to.replace(/\W/g, '')}`);
    const original = fs.realpathSync(join(versionShare, 'ganeti'));
    fs.mkdirSync(join(share, 'ganeti'), {recursive: true});
    for (const name of fs.readdirSync(original)) if (name !== 'rpc') fs.symlinkSync(join(original, name), join(share, 'ganeti', name));
    fs.cpSync(join(original, 'rpc'), join(share, 'ganeti/rpc'), {recursive: true, filter: (path) => !path.includes('__pycache__')});
    const file = join(share, 'ganeti/rpc/node.py');
    const text = fs.readFileSync(file, 'utf8');
    expect(text).to.include(from);
    fs.writeFileSync(file, text.replaceAll(from, to));
    return share;
  }

  for (const [from, to] of [['_PrepareRequests', '_MakeRequests'], ['def __call__(self, nodes, procedure, body,', 'def __call__(self, nodes, procedure, payload,'], ['class _RpcProcessor', 'class _RpcCaller']] as const) {
    it(`leaves a Ganeti alone that has ${to}, and warns once`, () => {
      const {stdout, stderr} = run(['-c', 'import ganeti.rpc.node as node; import ganeti.jqueue; print([name for name in ("_RpcProcessor", "_RpcCaller") if hasattr(node, name) and getattr(node, name).__call__.__module__ == "ganeti.rpc.node"])'], anotherGaneti(from, to));
      expect(stdout).to.match(/^\['_Rpc(Processor|Caller)'\]$/);
      expect(stderr.split('\n')).to.have.length(1);
      expect(stderr).to.match(/^Ganeti's RPC client was left as it is: /);
    });
  }

  it('is undone, and Ganeti is as it was', () => {
    make('uninstall-ganeti-rpc', `SITEDIR=${site}`);
    expect(fs.readdirSync(site)).to.deep.equal([]);
    expect(run(['-c', whoCalls])).to.deep.equal({stdout: 'ganeti.rpc.node', stderr: ''});
  });
});
