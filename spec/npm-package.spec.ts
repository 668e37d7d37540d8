/** What `npm pack` makes, installed into an empty project: the client for those who write masters, and both programs. */
import {execFileSync, spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {expect} from 'chai';
import {NodedDaemon} from './support/daemon';
import {programs} from './support/programs';

const checkout = join(__dirname, '..');

interface Packed {
  readonly filename: string;
  readonly files: readonly {readonly path: string}[];
}

describe('npm pack', function () {
  this.timeout(300_000);
  let project: string;
  let files: readonly string[];

  const npm = (cwd: string, ...words: string[]): string => execFileSync('npm', [...words, '--no-audit', '--no-fund', '--prefer-offline'], {cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe']});
  /** What a program of the project says, which must say no word of anything else. */
  const run = (name: string, text: string, ...words: string[]): string => {
    fs.writeFileSync(join(project, name), text);
    const {stdout, stderr, status} = spawnSync(process.execPath, [...words, name], {cwd: project, encoding: 'utf8'});
    expect({stderr, status}, stdout).to.deep.equal({stderr: '', status: 0});
    return stdout;
  };

  before(() => {
    project = fs.mkdtempSync(join(os.tmpdir(), 'noded-project-'));
    fs.chmodSync(project, 0o755);
    const said = npm(checkout, 'pack', '--json', '--pack-destination', project);
    const [packed] = JSON.parse(said.slice(said.search(/^\[/m))) as [Packed];
    files = packed.files.map(({path}) => path);
    fs.writeFileSync(join(project, 'package.json'), JSON.stringify({name: 'a-master', version: '1.0.0', private: true}));
    npm(project, 'install', `./${packed.filename}`);
  });
  after(() => fs.rmSync(project, {recursive: true, force: true}));

  it('has what a master needs, and nothing of the workshop', () => {
    expect(files).to.include.members(['dist/index.js', 'dist/index.d.ts', 'dist/main/noded.js', 'bin/noded', 'bin/nodectl', 'functions/version', 'man/nodectl.1', 'README.md', 'LICENSE', 'CHANGES.md', 'package.json']);
    const own = /^(dist\/.*\.js|dist\/.*\.d\.ts|bin\/(noded|nodectl)|functions\/\w+(\.toml)?|man\/[\w.-]+\.[1578]|etc\/noded\.conf|README\.md|LICENSE|CHANGES\.md|package\.json)$/;
    expect(files.filter((file) => !own.test(file))).to.deep.equal([]);
    expect(fs.existsSync(join(checkout, 'dist')), 'the checkout is as it was').to.equal(false);
  });

  it('gives the client to CommonJS and to ESM', () => {
    expect(run('common.cjs', "const {NodeClient, errorCodes} = require('noded'); console.log(typeof NodeClient, typeof errorCodes)")).to.equal('function object\n');
    expect(run('module.mjs', "import {NodeClient, loadTls, outcomes} from 'noded'; console.log(typeof NodeClient, typeof loadTls, outcomes.length > 0)")).to.equal('function function true\n');
  });

  it('loads none of the libraries of the daemon with the client', () => {
    const loaded = run('loads.cjs', "require('noded'); console.log(JSON.stringify(Object.keys(require.cache)))");
    const libraries = (JSON.parse(loaded) as string[]).filter((path) => /node_modules\/(?!noded\/)/.test(path));
    expect(libraries).to.deep.equal([]);
  });

  it('has types that stand on their own, under the strictest checks', () => {
    const text = `
      import {NodeClient, NodedError, TransportError, loadTls} from 'noded';
      import type {Answer, NodeClientOptions, Outcome} from 'noded';
      export async function call(options: NodeClientOptions): Promise<Outcome | null> {
        const client = new NodeClient(options);
        const answer: Answer = await client.callFunction({fnName: 'version', fnArgs: []});
        return answer.call.outcome;
      }
      export const known = [NodedError, TransportError, loadTls];
      // @ts-expect-error: types that were not found would let anything pass
      new NodeClient(1);
    `;
    const names = ['master.mts', 'master.cts'];
    for (const name of names) fs.writeFileSync(join(project, name), text);
    const {stdout, status} = spawnSync(process.execPath, [join(checkout, 'node_modules/typescript/bin/tsc'), '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--target', 'es2023', '--module', 'node20', ...names], {cwd: project, encoding: 'utf8'});
    expect({stdout, status}).to.deep.equal({stdout: '', status: 0});
  });

  it('has both programs, which run without the workshop', async () => {
    const bin = join(project, 'node_modules/.bin');
    const daemon = await NodedDaemon.start({program: join(bin, 'noded'), functions: {cat: programs.cat}});
    try {
      const {stdout, stderr, status} = spawnSync(join(bin, 'nodectl'), ['call', '--no-ssl', '-p', String(daemon.port), '--json', 'cat', '[1]'], {encoding: 'utf8'});
      expect({stderr, status}).to.deep.equal({stderr: '', status: 0});
      expect(JSON.parse(stdout)).to.have.deep.property('result', [1]);
    } finally {
      await daemon.dispose();
    }
  });
});
