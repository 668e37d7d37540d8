import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {describeWithDisks} from '../support/as-root';
import {BuiltNoded} from '../support/built';
import {DaemonOnDisk} from '../support/daemon-on-disk';
import {until} from '../support/until';

describeWithDisks('an urgent function whose run directory is on a disk', () => {
  let built: BuiltNoded;
  let daemon: DaemonOnDisk;
  let gate: string;

  before(async () => {
    built = new BuiltNoded({forker: true});
    const functions = {
      switch: {body: '#!/bin/sh\nread -r args\necho note >&2\ntouch "$HOME/begun"\nuntil [ -e "$HOME/gate" ]; do sleep 0.02; done\nprintf \'{"switched":%s,"pad":"%700s"}\' "$args" "" | tr " " x\n', manifest: 'urgent = true\n'},
      chatty: {body: '#!/bin/sh\nprintf \'"%70000s"\' "" | tr " " x\n', manifest: 'urgent = true\n'},
    };
    daemon = new DaemonOnDisk({program: built.program, functions, config: 'spawner = "forker"\n[limits]\nmin_free = 0\n'});
    gate = join(daemon.root, 'gate');
    await daemon.start();
  });
  after(async () => {
    await daemon.dispose();
    built.dispose();
  });

  it('has its result, although noded died while it ran, and again', async () => {
    const {json} = await daemon.startFunction('switch', [1], 0, {request_id: 'switch.1'});
    await until('it runs', () => fs.existsSync(join(daemon.root, 'begun')));
    await daemon.kill();
    await daemon.start();
    fs.writeFileSync(gate, '');
    for (let starts = 0; starts < 2; starts += 1) {
      const answer = await daemon.waitForFunction(json.call.id, 30);
      expect(answer.json.result, answer.text).to.deep.equal({switched: [1], pad: 'x'.repeat(700)});
      expect(answer.json.call).to.deep.include({outcome: 'ok', exit_code: 0});
      expect(answer.json.call.stderr.text).to.equal('note\n');
      await daemon.kill();
      await daemon.start();
    }
    expect((await daemon.startFunction('switch', [1], 30, {request_id: 'switch.1'})).json.call).to.include({duplicate: true, outcome: 'ok'});
  });

  it('may write 64 KiB, whatever max_output says', async () => {
    const {json} = await daemon.startFunction('chatty', null, 30);
    expect(json.call).to.include({outcome: 'output_too_large'});
  });
});
