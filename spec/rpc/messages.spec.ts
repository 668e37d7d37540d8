/** What a function wrote that is no result is seen in the message: its stdout is shown nowhere else. */
import {expect} from 'chai';
import {rmSync} from 'node:fs';
import {join} from 'node:path';
import {NodeClient} from '../../lib';
import {limits} from '../../lib/base/limits';
import {NodedDaemon} from '../support/daemon';
import type {Answer} from '../support/daemon';

const sh = (body: string): {body: string} => ({body: `#!/bin/sh\n${body}\n`});
const limit = limits.maxQuotedStdoutBytes;

const functions = {
  says: sh('echo \'disk "sda" is full\''),
  says_and_fails: sh('echo usage: me; exit 2'),
  fails: sh('echo \'{"error": "no room"}\'; exit 1'),
  fails_silently: sh('exit 1'),
  /** In a file, not in the journal, and with a character across the limit. */
  talks: sh(`printf '%0${limit - 1}d' 0; printf '\\303\\251'; sleep 0.1; echo; exit 3`),
};

for (const spawner of ['child', 'forker'] as const) {
  describe(`the message of a call of ${spawner} that has no result`, () => {
    let node: NodedDaemon;
    before(async () => {
      node = await NodedDaemon.start({functions, config: `spawner = "${spawner}"\n`});
    });
    after(() => node.dispose());

    const answerOf = async (fnName: string): Promise<Answer> => (await node.startFunction(fnName, null, 20)).json;
    const messageOf = async (fnName: string): Promise<string | undefined> => (await answerOf(fnName)).error?.message;

    it('has the beginning of its stdout, also after a restart', async () => {
      const expected = 'the function exited with code 0, but its stdout is not one JSON value: unexpected byte at byte 0; stdout begins with "disk \\"sda\\" is full\\n"';
      const {call, error} = await answerOf('says');
      expect(error).to.deep.equal({code: 'invalid_output', message: expected});
      expect(await messageOf('says_and_fails')).to.equal('the function exited with code 2; stdout begins with "usage: me\\n"');
      await node.kill();
      await node.start();
      expect((await node.waitForFunction(call.id, 0)).json.error?.message).to.equal(expected);
    });

    it('has no more than the limit of it, and whole characters', async () => {
      expect(await messageOf('talks')).to.equal(`the function exited with code 3; stdout begins with "${'0'.repeat(limit - 1)}"`);
    });

    it('does without where that is gone, and where there is none', async () => {
      const {call} = await answerOf('talks');
      rmSync(join(node.runDir, 'calls', `${call.id.split(':').at(-1)}.out`));
      await node.kill();
      await node.start();
      expect((await node.waitForFunction(call.id, 0)).json.error?.message).to.equal('the function exited with code 3');
      expect(await messageOf('fails_silently')).to.equal('the function exited with code 1');
    });

    it('leaves to the client what the function said of its failure in a result', async () => {
      expect(await messageOf('fails')).to.equal('the function exited with code 1');
      const client = new NodeClient({host: '127.0.0.1', port: node.port});
      try {
        const {error, resultJson} = await client.callFunction({fnName: 'fails', fnArgs: null});
        expect([error?.message, resultJson]).to.deep.equal(['the function exited with code 1: no room', '{"error": "no room"}']);
      } finally {
        client.close();
      }
    });
  });
}
