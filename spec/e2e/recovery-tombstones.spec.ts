import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {sealLine} from '../../lib/proc/log-lines';
import {NodedDaemon} from '../support/daemon';
import {writeLog} from '../support/journals';

describe('what was forgotten, after a restart', () => {
  let daemon: NodedDaemon;
  let id = '';

  before(async () => {
    daemon = new NodedDaemon();
    fs.writeFileSync(join(daemon.functionsDir, 'count'), `#!/bin/sh\necho x >> ${daemon.root}/count\necho 1\n`, {mode: 0o755});
    await daemon.start();
    id = (await daemon.startFunction('count', null, 10, {request_id: 'count.once'})).json.call.id;
    expect((await daemon.put('ForgetFunction', {fnc_id: id})).status).to.equal(200);
    await daemon.kill();
    // A tombstone that was being written when noded died, and what somebody else has put there.
    writeLog(daemon.runDir, ['null', '[]', '{"event":"buried","time":1,"id":"x"}'].map((line) => ['0123456789abcdef', line]));
    fs.appendFileSync(join(daemon.runDir, 'log/0000000001.log'), sealLine('0123456789abcdef', '{"event":"buried","time":1795350}').slice(0, 50));
    fs.writeFileSync(join(daemon.runDir, 'calls', '0123456789abcdef.out'), 'no call');
    fs.writeFileSync(join(daemon.runDir, 'calls', 'README'), 'none of noded\'s');
    await daemon.start();
  });
  after(() => daemon.dispose());

  it('is call_expired and not unknown_call, with its outcome', async () => {
    const {status, json} = await daemon.waitForFunction(id, 0);
    expect(status).to.equal(410);
    expect(json).to.include({code: 'call_expired', outcome: 'ok', started: 'yes'});
  });

  it('does not run again under its request ID', async () => {
    const {status, json} = await daemon.startFunction('count', null, 10, {request_id: 'count.once'});
    expect([status, json.code]).to.deep.equal([410, 'call_expired']);
    expect(fs.readFileSync(join(daemon.root, 'count'), 'utf8')).to.equal('x\n');
  });

  it('does not swallow the next tombstone in a torn line', async () => {
    const next = (await daemon.startFunction('count', null, 10, {request_id: 'count.next'})).json.call.id;
    await daemon.put('ForgetFunction', {fnc_id: next});
    await daemon.kill();
    await daemon.start();
    for (const known of [id, next]) expect((await daemon.get(`/calls/${known}`)).json.code).to.equal('call_expired');
  });

  it('has left no files, and files of no call are swept', () => {
    const names = fs.readdirSync(join(daemon.runDir, 'calls'));
    expect(names).to.deep.equal(['README']);
  });
});
