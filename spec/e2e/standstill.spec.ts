import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {BuiltNoded} from '../support/built';
import {NodedDaemon} from '../support/daemon';
import {until} from '../support/until';

const abortAfterMs = 2_000;

/** How functions end by themselves while noded stands still, before their abort_after. */
const endings: readonly {readonly fnName: string; readonly body: string; readonly outcome: string; readonly result: unknown}[] = [
  {fnName: 'fails', body: `echo '"my own failure"'; exit 3`, outcome: 'failed', result: 'my own failure'},
  {fnName: 'half', body: `echo '{"half'`, outcome: 'invalid_output', result: null},
  {fnName: 'dies', body: 'ulimit -c 0; kill -USR1 $$', outcome: 'signaled', result: null},
  {fnName: 'works', body: 'echo 1', outcome: 'ok', result: 1},
];

describe('a noded that stood still past the deadlines of its calls', function () {
  this.timeout(60_000);
  let built: BuiltNoded;
  let daemon: NodedDaemon;

  before(() => {
    built = new BuiltNoded({forker: true});
  });
  after(() => built.dispose());
  afterEach(() => daemon.dispose());

  for (const spawner of ['forker', 'child']) {
    it(`hears of their ends first: ${spawner}`, async () => {
      daemon = new NodedDaemon({program: built.program, config: `spawner = "${spawner}"\n`});
      const gate = join(daemon.root, 'gate');
      for (const {fnName, body} of endings) {
        fs.writeFileSync(join(daemon.functionsDir, fnName), `#!/bin/sh\necho ready >&2\nuntil [ -e ${gate} ]; do sleep 0.02; done\n${body}\n`, {mode: 0o755});
      }
      await daemon.start();
      const ids = await Promise.all(endings.map(({fnName}) => daemon.startReady(fnName, null, {abort_after: abortAfterMs / 1000})));
      const waits = ids.map((id) => daemon.waitForFunction(id, abortAfterMs / 1000));
      daemon.signal('SIGSTOP');
      fs.writeFileSync(gate, '');
      await until('all functions have ended', () => daemon.functionProcesses().length === 0);
      await pause(abortAfterMs + 500); // whatever they were started at, their deadlines are over
      daemon.signal('SIGCONT');
      await Promise.all(waits);
      for (const [index, {outcome, result}] of endings.entries()) {
        const {json} = await daemon.waitForFunction(ids[index]!, 20);
        expect([json.call.outcome, json.result, json.call.stopped_by]).to.deep.equal([outcome, result, null]);
      }
    });
  }
});
