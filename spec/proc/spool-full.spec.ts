import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {NodedError} from '../../lib/base/errors';
import {limits} from '../../lib/base/limits';
import {drawKey} from '../../lib/call/call-id';
import {stoppingLine} from '../../lib/call/journal';
import {readLog} from '../../lib/proc/recovery';
import type {OnFile} from '../../lib/proc/recovery';
import {Spool} from '../../lib/proc/spool';
import {describeWithMounts, mountTmpfs} from '../support/as-root';
import {NodedDaemon} from '../support/daemon';
import {fixtures} from '../support/fixtures';
import {until} from '../support/until';
import {logOf, recordOnFile} from '../support/journals';

const pageBytes = 4096;
const accepted = '{"event":"accepted","fn_name":"f","role":"r","fingerprint":"x"}';

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

  /** The same, and the log to the last bytes of its page. */
  const fillLog = (spool: Spool): string => {
    const key = create(spool, 0);
    fill();
    const {size} = fs.statSync(join(root, 'log/0000000001.log'));
    spool.putOnFile(key, JSON.stringify({event: 'pad', pad: 'x'.repeat(pageBytes - size - 80)}));
    return key;
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
    const spool = mount('size=256k');
    expect(refusal(() => create(spool, 512 * 1024)).code).to.equal('spool_full');
    expect(files()).to.deep.equal([]);
    create(spool, 1024);
  });

  it('refuses a call whose first line does not fit, and leaves nothing of it', () => {
    const spool = mount('size=256k');
    const key = fillLog(spool);
    expect(refusal(() => create(spool, 0)).code).to.equal('spool_full');
    expect(files()).to.have.length(1);
    expect([...new Set(logOf(root).map((line) => line.key))]).to.deep.equal([key]);
  });

  it('refuses a call when there are no inodes', () => {
    const spool = mount('size=1m,nr_inodes=6');
    for (let call = 0; call < 2; call += 1) create(spool, 10);
    expect(refusal(() => create(spool, 10)).code).to.equal('spool_full');
    expect(files()).to.have.length(2);
  });

  it('takes errors of a filesystem that has become read-only, or fails, for no room', () => {
    const spool = mount('size=256k');
    for (const errno of ['EROFS', 'EIO', 'EDQUOT']) expect(spool.refusal(drawKey(), errno).code).to.equal('spool_full');
    expect(spool.refusal(drawKey(), 'EMFILE').code).to.equal('spawner_unavailable');
  });

  it('loses a line with a warning, and that one alone', () => {
    const spool = mount('size=256k');
    const key = fillLog(spool);
    spool.append(key, stoppingLine('aborted', 'master', 1000));
    void spool.flush();
    expect(warnings).to.have.length(1);
    expect(recordOnFile(root, key)).to.include({stopCause: null});
    fs.unlinkSync(join(root, 'filler'));
    spool.append(key, stoppingLine('deadline', 'noded', 2000));
    void spool.flush();
    let damaged = 0;
    logOf(root, () => (damaged += 1));
    expect(damaged).to.equal(1);
    expect(recordOnFile(root, key)).to.include({stopCause: 'deadline'});
  });

  describe('on a disk', () => {
    const mountDisk = (options: string): Spool => {
      const spool = mount(options);
      spool.disk.useThread();
      return spool;
    };
    /** What comes of calls whose files are made: the code of the error, or null. */
    const made = (spool: Spool, keys: readonly string[]): Promise<readonly (string | null)[]> => Promise.all(keys.map((key) => spool.made(key).then(() => null, (error: NodeJS.ErrnoException) => error.code ?? error.message)));

    it('says later of a call that it cannot be taken, and leaves nothing of it', async () => {
      const spool = mountDisk('size=256k');
      const [large, little] = [create(spool, 512 * 1024), create(spool, 10)];
      expect(files()).to.deep.equal([]);
      expect(await made(spool, [large, little])).to.deep.equal(['ENOSPC', null]);
      await spool.flush();
      expect(files()).to.deep.equal([`${little}.args`]);
      expect([...new Set(logOf(root).map((line) => line.key))]).to.deep.equal([little]);
      expect(await made(spool, [large, little])).to.deep.equal([null, null]);
      expect(refusal(() => create(spool, 512 * 1024)).code, 'once it knows what is free').to.equal('spool_full');
    });

    it('takes those of a turn whose first lines still fit, and refuses the others', async () => {
      const spool = mountDisk('size=256k');
      const pad = JSON.stringify({event: 'accepted', pad: 'x'.repeat(1000)});
      await made(spool, [create(spool, 0)]);
      fill();
      const keys = Array.from({length: 8}, drawKey);
      for (const key of keys) spool.create(key, pad, null, true);
      const results = await made(spool, keys);
      const taken = results.filter((result) => result === null).length;
      expect([taken > 0, taken < keys.length]).to.deep.equal([true, true]);
      expect(results).to.deep.equal(keys.map((_key, n) => (n < taken ? null : 'ENOSPC')));
      expect(logOf(root).map((line) => line.key).slice(1)).to.deep.equal(keys.slice(0, taken));
    });
  });

  it('goes on with a full segment of the log while there is no room for another', () => {
    const spool = mount('size=8m,nr_inodes=4');
    const key = drawKey();
    const pad = JSON.stringify({event: 'pad', pad: 'x'.repeat(4000)});
    for (let bytes = 0; bytes <= limits.segmentBytes; bytes += pad.length) spool.putOnFile(key, pad);
    expect(warnings.filter((warning) => !warning.startsWith('cannot begin a segment of the log of calls: ENOSPC'))).to.deep.equal([]);
    expect(warnings).to.not.have.length(0);
    expect(fs.readdirSync(join(root, 'log'))).to.deep.equal(['0000000001.log']);
    spool.putOnFile(key, accepted);
    expect(recordOnFile(root, key)).to.nested.include({'accepted.key': key});
  });

  it('keeps the journal of a call whose earlier fork server died until there is room in the log', async () => {
    const spool = mount('size=256k');
    const key = drawKey();
    fs.writeFileSync(join(root, 'calls', `${key}.call`), `${accepted}\n`);
    fillLog(spool);
    expect((await spool.find(new Set([key]))).get(key)?.accepted.key).to.equal(key);
    expect(warnings.at(-1)).to.match(/^cannot carry over the journals of an earlier noded to the log: ENOSPC/);
    expect(files()).to.include(`${key}.call`);
    fs.unlinkSync(join(root, 'filler'));
    await spool.find(new Set([key]));
    expect(files()).to.not.include(`${key}.call`);
    expect(recordOnFile(root, key)?.accepted.key).to.equal(key);
  });

  it('knows the calls of a noded of before the log, and leaves their journals where they are until there is room', () => {
    const spool = mount('size=256k');
    const [key, other] = [drawKey(), drawKey()];
    for (const each of [key, other]) fs.writeFileSync(join(root, 'calls', `${each}.call`), `${accepted}\n`);
    const gone = drawKey();
    const tombstone = {key: gone, id: `1:0:1764670000.000:${gone}`, time: Date.now() / 1000, fn_name: 'f', role: 'master', request_id: 'request-1', outcome: 'ok'};
    fs.writeFileSync(join(root, 'tombstones'), `${JSON.stringify(tombstone)}\n`);
    fillLog(spool);
    const isLive = (): boolean => false;
    const keysOf = ({open}: OnFile): string[] => open.map(({record}) => record.accepted.key);
    const onFile = readLog({spool, isLive});
    expect(keysOf(onFile)).to.include.members([key, other]);
    expect(onFile.tombstones.map(({requestId}) => requestId)).to.deep.equal(['request-1']);
    expect(warnings.filter((warning) => /^cannot carry over the journals of an earlier noded to the log: ENOSPC/.test(warning))).to.not.have.length(0);
    expect(files()).to.include.members([`${key}.call`, `${other}.call`]);
    fs.unlinkSync(join(root, 'filler'));
    const again = readLog({spool, isLive});
    expect(keysOf(again)).to.include.members([key, other]);
    expect(again.settled.map(({requestId}) => requestId)).to.include('request-1');
    expect(again.tombstones).to.deep.equal([]);
    expect(fs.existsSync(join(root, 'tombstones'))).to.equal(false);
    expect(files()).to.not.include.members([`${key}.call`, `${other}.call`]);
  });
});

describeWithMounts('a noded whose spool is full', () => {
  let daemon: NodedDaemon;
  let unmount: () => void;
  let careless = '';
  const large = 'perl -e \'print chr(34), "x" x 600000, chr(34); exit 0\'';

  before(async () => {
    const functions = {
      ...fixtures,
      careless: {body: `#!/bin/sh\n${large}\nexit 0\n`},
      urgent: {body: '#!/bin/sh\necho note >&2\nexec cat\n', manifest: 'urgent = true\n'},
      gone: {body: '#!/bin/sh\nsleep 60 &\n', manifest: 'urgent = true\n'},
    };
    daemon = new NodedDaemon({functions, config: '[limits]\nmin_free = 0\n'});
    unmount = mountTmpfs(daemon.runDir, 'size=512k');
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
    // How much is free is asked for now and then, not for every call.
    const {status, json, headers} = await until('a call is refused', async () => {
      const answer = await daemon.startFunction('cat', 1, 20);
      return answer.status !== 200 && answer;
    });
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
    await until('a call is taken', async () => (await daemon.startFunction('cat', 1, 20)).json.result === 1);
  });
});
