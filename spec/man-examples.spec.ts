/** The examples of the man pages do what their pages say. */
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import {join} from 'node:path';
import {expect} from 'chai';
import {readCall, writeAnswer} from '../lib/rpc/protocol-answer';
import {cutMembers} from '../lib/rpc/json-members';
import {scanJson} from '../lib/rpc/json-scan';
import {readAbortFunction, readForgetFunction, readStartFunction, readWaitForFunction, readWaitForFunctions} from '../lib/rpc/protocol';
import type {Members} from '../lib/rpc/protocol';
import {readConfig} from '../lib/main/config';
import {NodedDaemon, writeFunction} from './support/daemon';
import {freePort} from './support/free-port';
import {ManPage, hasTool} from './support/man-page';
import {until} from './support/until';

const pages = ['noded.8', 'noded.conf.5', 'noded-protocol.7', 'noded-functions.7', 'nodectl.1'].map((name) => new ManPage(name));
const functions = new ManPage('noded-functions.7');
const protocol = new ManPage('noded-protocol.7');

const readers: Readonly<Record<string, (members: Members) => unknown>> = {
  StartFunction: readStartFunction,
  WaitForFunction: readWaitForFunction,
  WaitForFunctions: readWaitForFunctions,
  AbortFunction: readAbortFunction,
  ForgetFunction: readForgetFunction,
};

const membersOf = (text: string): Members => cutMembers(Buffer.from(text), scanJson(Buffer.from(text), {maxDepth: 128, members: true}));

/** An example function as it stands in the page, with the site's directories in place of those of the page. */
const exampleFunction = (name: string, places: Readonly<Record<string, string>> = {}): {body: string; manifest: string} => ({
  body: Object.entries(places).reduce((text, [from, to]) => text.replace(`=${from}\n`, `=${to}\n`), functions.example(name)),
  // Without root nobody can become somebody else.
  manifest: process.getuid?.() === 0 ? functions.example(`${name}.toml`) : functions.example(`${name}.toml`).replace(/^user = .*\n/m, ''),
});

describe('the examples of requests', () => {
  const bodies = pages.flatMap((page) => page.literals().flatMap((block) => [...block.matchAll(/-X PUT \S+\/(\w+) \\\n\s*-d '([^']*)'/g)].map(([, operation, body]) => ({page, operation: operation!, body: body!}))));

  it('are there', () => {
    expect(bodies).to.have.length.above(4);
  });

  for (const {page, operation, body} of bodies) {
    it(`${page.name}: ${operation} takes ${body.replace(/\s+/g, ' ')}`, () => {
      expect(() => readers[operation]!(membersOf(body))).to.not.throw();
    });
  }

  it('show an answer with all of its members', () => {
    const shown = JSON.parse(protocol.example('answer')) as {call: object};
    const {head, tail} = writeAnswer(readCall({}), 0, null);
    const written = JSON.parse(`${head}null${tail}`) as {call: object};
    expect(Object.keys(shown)).to.deep.equal(Object.keys(written));
    expect(Object.keys(shown.call)).to.deep.equal(Object.keys(written.call));
  });

  it('show a message of the local socket', () => {
    const {method, args} = JSON.parse(protocol.example('luxi')) as {method: string; args: object};
    expect(() => readers[method]!(membersOf(JSON.stringify(args)))).to.not.throw();
  });
});

describe('the example of noded.conf(5)', () => {
  it('is a configuration', () => {
    const directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-spec-'));
    try {
      fs.writeFileSync(join(directory, 'noded.conf'), new ManPage('noded.conf.5').example('noded.conf'));
      const config = readConfig({config: join(directory, 'noded.conf'), ssl: true});
      expect(config.runDir).to.equal('/var/lib/noded');
      expect(config.stopKillAfterMs).to.equal(60_000);
      expect(config.limits.maxCalls).to.equal(500);
      expect(config.roles.map(({name, functions: allowed}) => [name, allowed])).to.deep.equal([['master', ['*']], ['monitoring', ['version', 'node_info']]]);
      expect(config.roles[0]!.certificates[0]).to.match(/^[0-9a-f]{64}$/);
      expect([...config.functionConfig.keys()]).to.deep.equal(['upload_file', 'powercycle']);
    } finally {
      fs.rmSync(directory, {recursive: true});
    }
  });
});

describe('the examples of noded-functions(7)', () => {
  let daemon: NodedDaemon;
  let [from, to] = ['', ''];

  before(async () => {
    daemon = new NodedDaemon();
    [from, to] = [join(daemon.root, 'srv'), join(daemon.root, 'backups')];
    fs.mkdirSync(join(from, 'web'), {recursive: true});
    fs.mkdirSync(to);
    fs.writeFileSync(join(from, 'web/index.html'), 'hello\n');
    writeFunction(daemon.functionsDir, 'archive', exampleFunction('archive', {'/srv': from, '/var/backups': to}));
    writeFunction(daemon.functionsDir, 'wait_for_port', exampleFunction('wait_for_port'));
    await daemon.start();
  });
  after(() => daemon.dispose());

  it('are taken by noded without a complaint', async () => {
    const {json} = await daemon.get('/functions');
    const listed = (json as unknown as {functions: {fn_name: string; description: string}[]}).functions;
    expect(listed.map(({fn_name: name}) => name)).to.have.members(['archive', 'wait_for_port']);
    expect(daemon.logLines().filter(({level}) => level >= 40)).to.deep.equal([]);
  });

  it('pack a directory with sh', async () => {
    const {json} = await daemon.startFunction('archive', 'web', 20);
    const file = join(to, 'web.tar.gz');
    expect(json.call.outcome, json.call.stderr.text).to.equal('ok');
    expect(json.result).to.deep.equal({file, bytes: fs.statSync(file).size});
    expect(json.call.stderr.text).to.equal(`packing ${from}/web\n`);
    expect(fs.readdirSync(to)).to.deep.equal(['web.tar.gz']);
    expect(spawnSync('tar', ['-xzOf', file, 'web/index.html'], {encoding: 'utf8'}).stdout).to.equal('hello\n');
  });

  it('say what is wrong with sh, and leave nothing behind', async () => {
    const {json} = await daemon.startFunction('archive', 'nothing', 20);
    expect(json.call.outcome).to.equal('failed');
    expect(json.result).to.deep.equal({error: 'there is no such directory'});
    expect(fs.readdirSync(to)).to.deep.equal(['web.tar.gz']);
  });

  for (const args of ['../etc', '', 'a b', '$(reboot)', ['web'], null]) {
    it(`refuse the arguments ${JSON.stringify(args)} by the schema`, async () => {
      const {status, json} = await daemon.startFunction('archive', args, 20);
      expect([status, json.code, json.started]).to.deep.equal([422, 'invalid_args', 'no']);
    });
  }

  it('run by hand as the page says', () => {
    const command = functions.example('by hand').replace('/etc/noded/functions.d', daemon.functionsDir);
    const {stdout, stderr} = spawnSync('sh', ['-c', command], {encoding: 'utf8'});
    const [result, exit] = stdout.trim().split('\n');
    expect(JSON.parse(result ?? ''), stderr).to.include({file: join(to, 'web.tar.gz')});
    expect(exit).to.equal('exit 0');
  });

  it('wait with Python for a port that opens later', async () => {
    if (!hasTool('python3', 'the Python example of noded-functions(7)')) return;
    const port = await freePort();
    const started = await daemon.startFunction('wait_for_port', {host: '127.0.0.1', port}, 0);
    expect(started.json.finished).to.equal(false);
    const callId = started.json.fnc_id;
    await until('it has tried in vain', async () => (await daemon.get(`/calls/${callId}`)).json.call.stderr.text.includes('try 1: '));
    const server = net.createServer((socket) => socket.destroy());
    try {
      await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
      const {json} = await daemon.waitForFunction(callId, 20);
      expect(json.call.outcome, json.call.stderr.text).to.equal('ok');
      expect(json.result).to.have.all.keys('tries', 'seconds');
      expect((json.result as {tries: number}).tries).to.be.above(1);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });

  it('end in Python on an abort', async () => {
    if (!hasTool('python3', 'the Python example of noded-functions(7)')) return;
    const started = await daemon.startFunction('wait_for_port', {host: '127.0.0.1', port: await freePort()}, 0);
    const {json} = await daemon.put('AbortFunction', {fnc_id: started.json.fnc_id, timeout: 20});
    expect(json.call.outcome).to.equal('aborted');
  });
});
