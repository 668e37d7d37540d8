import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {NodedError} from '../../lib/base/errors';
import {drawKey} from '../../lib/call/call-id';
import {readJournal, stoppingLine} from '../../lib/call/journal';
import {Spool} from '../../lib/proc/spool';
import {describeWithMounts, mountTmpfs} from '../support/as-root';
import {NodedDaemon} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {until} from '../support/until';

const pageBytes = 4096;
const accepted = '{"event":"accepted","fn_name":"f","role":"r","fingerprint":"x"}\n';

describeWithMounts('a spool without room', () => {
  let root: string;
  let unmount: () => void;
  let warnings: string[];

  const mount = (options: string): Spool => {
    unmount = mountTmpfs(root, options);
    return new Spool({runDir: root, minFreeBytes: 0, log: {warn: (_fields, message) => void warnings.push(message)}});
  };
  const create = (spool: Spool, bytes: number, line = accepted): string => {
    const key = drawKey();
    spool.create(key, line, Buffer.alloc(bytes, ' '), false);
    return key;
  };
  const refusal = (act: () => void): NodedError => {
    try {
      act();
    } catch (error) {
      return error as NodedError;
    }
    throw new Error('it was not refused');
  };
  const files = (): string[] => fs.readdirSync(join(root, 'calls'));
  /** Fills the filesystem to the last page. */
  const fill = (): void => {
    const fd = fs.openSync(join(root, 'filler'), 'w');
    try {
      for (let page = 0; page < 1000; page += 1) fs.writeSync(fd, Buffer.alloc(pageBytes));
      throw new Error('the filesystem is too large to fill');
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).to.equal('ENOSPC');
    } finally {
      fs.closeSync(fd);
    }
  };

  beforeEach(() => {
    root = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-full-')));
    warnings = [];
  });
  afterEach(() => {
    unmount();
    fs.rmSync(root, {recursive: true});
  });

  it('refuses a call whose arguments do not fit, and leaves nothing of it', () => {
    const spool = mount('size=64k');
    expect(refusal(() => create(spool, 128 * 1024)).code).to.equal('spool_full');
    expect(files()).to.deep.equal([]);
    create(spool, 1024);
  });

  it('refuses a call whose journal does not fit, and leaves nothing of it', () => {
    const spool = mount('size=64k');
    fill();
    expect(refusal(() => create(spool, 0)).code).to.equal('spool_full');
    expect(files()).to.deep.equal([]);
  });

  it('refuses a call when there are no inodes', () => {
    const spool = mount('size=1m,nr_inodes=6');
    for (let call = 0; call < 2; call += 1) create(spool, 10);
    expect(refusal(() => create(spool, 10)).code).to.equal('spool_full');
    expect(files()).to.have.length(4);
  });

  it('refuses a call on a filesystem that has become read-only', () => {
    const spool = mount('size=64k');
    execFileSync('mount', ['-o', 'remount,ro', root]);
    expect(refusal(() => create(spool, 10)).code).to.equal('spool_full');
  });

  it('goes on in a new line of a journal after one that was cut short', () => {
    const spool = mount('size=64k');
    const almostFull = `${accepted.slice(0, -2)},"pad":"${'x'.repeat(pageBytes - accepted.length - 40)}"}\n`;
    const key = create(spool, 0, almostFull);
    fill();
    const path = join(root, 'calls', `${key}.call`);
    spool.append(key, stoppingLine('aborted', 'master', 1000));
    expect(warnings).to.have.length(1);
    expect(fs.statSync(path).size).to.equal(pageBytes);
    expect(readJournal(key, fs.readFileSync(path, 'utf8'))).to.include({torn: true, stopCause: null});
    fs.unlinkSync(join(root, 'filler'));
    spool.append(key, stoppingLine('deadline', 'noded', 2000));
    expect(readJournal(key, fs.readFileSync(path, 'utf8'))).to.include({torn: false, stopCause: 'deadline'});
  });

  it('loses a tombstone with a warning, and the next one begins a new line', () => {
    const spool = mount('size=64k');
    spool.bury(`${'x'.repeat(pageBytes - 20)}\n`);
    fill();
    spool.bury('{"tombstone":"lost"}\n');
    expect(warnings[0]).to.match(/^cannot keep a tombstone/);
    fs.unlinkSync(join(root, 'filler'));
    spool.bury('{"tombstone":"kept"}\n');
    expect([...spool.tombstones()].at(-1)).to.equal('{"tombstone":"kept"}');
  });
});

describeWithMounts('a noded whose spool is full', () => {
  let daemon: NodedDaemon;
  let unmount: () => void;
  let careless = '';
  const large = 'perl -e \'print chr(34), "x" x 400000, chr(34); exit 0\'';

  before(async () => {
    const functions = {
      ...fixtures,
      careless: {body: `#!/bin/sh\n${large}\nexit 0\n`},
      urgent: {body: '#!/bin/sh\necho note >&2\nexec cat\n', manifest: 'urgent = true\n'},
      gone: {body: '#!/bin/sh\nsleep 60 &\n', manifest: 'urgent = true\n'},
    };
    daemon = new NodedDaemon({functions, config: '[limits]\nmin_free = 0\n'});
    unmount = mountTmpfs(daemon.runDir, 'size=256k');
    await daemon.start();
  });
  after(async () => {
    await daemon.kill();
    unmount();
    await daemon.dispose();
  });
  const fill = (): void => {
    try {
      fs.writeFileSync(join(daemon.runDir, 'filler'), Buffer.alloc(1 << 20));
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).to.equal('ENOSPC');
    }
  };

  it('never calls half an answer ok, although the function exits 0', async () => {
    const {json} = await daemon.startFunction('careless', null, 20);
    expect(json.call).to.include({outcome: 'invalid_output', exit_code: 0});
    expect(json).to.include({finished: true, result: null});
    careless = json.call.id;
  });

  it('refuses other functions with spool_full, and starts none', async () => {
    fill();
    const {status, json, headers} = await daemon.startFunction('cat', 1, 20);
    expect([status, json.code, json.started]).to.deep.equal([503, 'spool_full', 'no']);
    expect(headers['retry-after']).to.match(/^\d+$/);
  });

  it('starts urgent ones all the same, with arguments, result and stderr', async () => {
    const {json} = await daemon.startFunction('urgent', {a: [1]}, 20, {request_id: 'urgent.1'});
    expect(json).to.deep.include({finished: true, result: {a: [1]}});
    expect(json.call).to.include({outcome: 'ok', exit_code: 0});
    expect(json.call.stderr.text).to.equal('note\n');
    expect((await daemon.waitForFunction(json.call.id, 0)).json.result).to.deep.equal({a: [1]});
    expect((await daemon.startFunction('urgent', {a: [1]}, 20, {request_id: 'urgent.1'})).json.call.duplicate).to.equal(true);
  });

  it('kills what those leave behind', async () => {
    expect((await daemon.startFunction('gone', null, 20)).json.call.outcome).to.equal('ok');
    await until('nothing is left', () => daemon.functionProcesses().length === 0);
  });

  it('takes calls again once there is room', async () => {
    await daemon.put('ForgetFunction', {fnc_id: careless});
    fs.unlinkSync(join(daemon.runDir, 'filler'));
    // How much is free is asked for now and then, not for every call.
    await until('a call is taken', async () => (await daemon.startFunction('cat', 1, 20)).json.result === 1);
  });
});
