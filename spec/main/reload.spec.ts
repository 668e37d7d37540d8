import {expect} from 'chai';
import * as fs from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {NodedDaemon, writeFunction} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {until} from '../support/until';

describe('SIGHUP', () => {
  let daemon: NodedDaemon;
  let reloads = 0;
  const bin = fs.mkdtempSync(join(tmpdir(), 'noded-bin-'));

  before(async () => {
    daemon = new NodedDaemon({functions: {...fixtures, changing: {body: '#!/bin/sh\necho 1\n'}}, env: {PATH: `${bin}:${process.env.PATH}`}});
    // As if the directory server were down while a file is there.
    fs.writeFileSync(join(bin, 'getent'), `#!/bin/sh\n[ -e ${daemon.root}/no-users ] && exit 3\nexec /usr/bin/getent "$@"\n`, {mode: 0o755});
    await daemon.start();
  });
  after(async () => {
    await daemon.dispose();
    fs.rmSync(bin, {recursive: true});
  });

  /** Sends it and waits until noded has said how that went. */
  const reload = async (): Promise<string> => {
    const ends = (): string[] => daemon.logLines().map(({msg}) => msg).filter((msg) => msg.startsWith('reload'));
    reloads = ends().length;
    daemon.signal('SIGHUP');
    return until('the reload is over', () => ends()[reloads]);
  };
  const resultOf = async (name: string): Promise<unknown> => {
    const {json} = await daemon.startFunction(name, null, 20);
    return json.code ?? json.result;
  };

  it('finds functions that were added, changed and removed', async () => {
    writeFunction(daemon.functionsDir, 'added', {body: '#!/bin/sh\necho 2\n'});
    writeFunction(daemon.functionsDir, 'changing', {body: '#!/bin/sh\necho 3\n', manifest: 'args = { type = "null" }\n'});
    fs.unlinkSync(join(daemon.functionsDir, 'patient'));
    expect(await resultOf('added')).to.equal('unknown_function');
    expect(await reload()).to.equal('reloaded certificates, roles and functions');
    expect([await resultOf('added'), await resultOf('changing'), await resultOf('patient')]).to.deep.equal([2, 3, 'unknown_function']);
    expect((await daemon.startFunction('changing', 1, 20)).json.code).to.equal('invalid_args');
  });

  it('leaves running calls and open waits alone, although their function is gone', async () => {
    const id = await daemon.startReady('polite');
    const wait = daemon.waitForFunction(id, 60);
    await until('the wait is open', async () => (await daemon.get('/status')).json.counts.waiters === 1);
    fs.unlinkSync(join(daemon.functionsDir, 'polite'));
    await reload();
    expect((await daemon.get('/status')).json.counts).to.include({waiters: 1, running: 1});
    expect((await daemon.put('AbortFunction', {fnc_id: id, timeout: 20})).json.result).to.equal('saved');
    expect((await wait).json.result).to.equal('saved');
  });

  it('keeps the old state and says so if the configuration is wrong', async () => {
    daemon.writeConfig('prot = 1\n');
    writeFunction(daemon.functionsDir, 'later', {body: '#!/bin/sh\necho 4\n'});
    expect(await reload()).to.match(/^reload: .*prot is not a key of noded\.conf; everything stays as it was$/);
    expect(await resultOf('later')).to.equal('unknown_function');
    const metrics = (await daemon.get('/metrics')).text;
    expect(metrics).to.match(/^noded_reloads_total\{result="failed"\} 1$/m);
    daemon.writeConfig('');
    expect(await reload()).to.match(/^reloaded/);
    expect(await resultOf('later')).to.equal(4);
  });

  it('keeps the old state and says so if nobody can say who a function runs as', async () => {
    const broken = join(daemon.root, 'no-users');
    fs.writeFileSync(broken, '');
    writeFunction(daemon.functionsDir, 'nobodys', {body: '#!/bin/sh\necho 5\n', manifest: 'user = "nobody"\n'});
    writeFunction(daemon.functionsDir, 'another', {body: '#!/bin/sh\necho 6\n'});
    expect(await reload()).to.match(/^reload: .*nobodys\.toml: getent cannot say whether there is a user nobody: exit 3; everything stays as it was$/);
    expect(await resultOf('another')).to.equal('unknown_function');
    fs.unlinkSync(broken);
    expect(await reload()).to.match(/^reloaded/);
    expect(await resultOf('another')).to.equal(6);
  });

  it('says which keys have changed too and take a restart', async () => {
    daemon.writeConfig('stop_kill_after = 5\n[limits]\nmax_output = 1000000\nmax_calls = 7\n');
    expect(await reload()).to.match(/^reloaded/);
    expect(await daemon.logged(/take a restart$/)).to.deep.include({msg: 'these have changed too, and take a restart', keys: ['stop_kill_after', 'limits.max_calls']});
    daemon.writeConfig('');
    expect(await reload()).to.match(/^reloaded/);
    expect(daemon.logLines().filter(({msg}) => msg.endsWith('take a restart'))).to.have.length(1);
  });

  it('takes a new configuration of functions', async () => {
    daemon.writeConfig('[function.added]\nx = 1\n');
    expect(await reload()).to.match(/^reloaded/);
    const answers = await Promise.all(Array.from({length: 20}, () => daemon.startFunction('cat', 1, 20)));
    expect(answers.map(({json}) => json.result)).to.deep.equal(Array.from({length: 20}, () => 1));
  });

  it('leaves a function out that has become unsafe, and says why', async () => {
    fs.chmodSync(join(daemon.functionsDir, 'added'), 0o777);
    await reload();
    expect(await resultOf('added')).to.equal('unknown_function');
    expect(daemon.logLines().find(({msg}) => msg.includes('may be written by everyone'))).to.include({path: join(daemon.functionsDir, 'added')});
  });

  it('drops nobody, a hundred times under load', async () => {
    let stop = false;
    const refusals: unknown[] = [];
    const load = Array.from({length: 4}, async () => {
      while (!stop) {
        const {json} = await daemon.startFunction('cat', 7, 20);
        if (json.result !== 7) refusals.push(json);
      }
    });
    for (let round = 0; round < 100; round += 1) daemon.signal('SIGHUP');
    await reload();
    stop = true;
    await Promise.all(load);
    expect(refusals).to.deep.equal([]);
  });
});

describe('SIGHUP after a rotation of the log', function () {
  this.timeout(60_000);
  let daemon: NodedDaemon;
  before(() => (daemon = new NodedDaemon()));
  after(() => daemon.dispose());

  it('opens the log anew, and keeps the old one if that fails', async () => {
    const path = join(daemon.root, 'log');
    const saysReady = (file: string): boolean => fs.existsSync(file) && fs.readFileSync(file, 'utf8').includes('"noded is ready"');
    const reloadedIn = (file: string, text: string): Promise<true> => until(`${text} in ${file}`, () => fs.existsSync(file) && fs.readFileSync(file, 'utf8').includes(text));
    daemon.writeConfig(`log_file = "${path}"\n`);
    daemon.launch();
    await until('noded is ready', () => saysReady(path), 25_000);
    fs.renameSync(path, `${path}.1`);
    daemon.signal('SIGHUP');
    await reloadedIn(path, '"reloaded certificates');
    expect(fs.readFileSync(`${path}.1`, 'utf8')).to.not.include('reloaded');
    fs.renameSync(path, `${path}.2`);
    fs.mkdirSync(path);
    daemon.signal('SIGHUP');
    await reloadedIn(`${path}.2`, 'everything stays as it was');
    expect((await daemon.stop()).code).to.equal(0);
    expect(fs.readFileSync(`${path}.2`, 'utf8')).to.include('noded ends');
  });
});
