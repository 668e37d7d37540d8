import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {limits} from '../../lib/base/limits';
import {drawKey} from '../../lib/call/call-id';
import {examineStdout} from '../../lib/proc/output';
import type {OutputFacts} from '../../lib/proc/output';
import {Spool} from '../../lib/proc/spool';
import {JsonScanner} from '../../lib/rpc/json-scan';

describe('the examination of stdout', () => {
  let runDir: string;
  let spool: Spool;
  before(() => {
    runDir = fs.realpathSync(fs.mkdtempSync(join(os.tmpdir(), 'noded-output-')));
    spool = new Spool({runDir, minFreeBytes: 0, log: {warn: () => {}}});
  });
  after(() => fs.rmSync(runDir, {recursive: true}));

  const examine = (bytes: string | Buffer, size = Buffer.byteLength(bytes), maxBytes = 1 << 28): Promise<OutputFacts> => {
    const key = drawKey();
    fs.writeFileSync(join(runDir, 'calls', `${key}.out`), bytes);
    return examineStdout(spool, key, size, maxBytes, () => new JsonScanner({maxDepth: limits.maxDepth}));
  };
  const large = 3 * limits.scanSliceBytes;

  it('knows a value, nothing, and what is neither', async () => {
    expect(await examine(' {"a":[1]}\n')).to.deep.equal({output: 'json'});
    for (const nothing of ['', '\n', ' \t\r\n']) expect(await examine(nothing)).to.deep.equal({output: 'empty'});
    for (const wrong of ['{"half":', '1 2', 'NaN', '\ufeff1', '[1],', 'true false', '"\u0001"']) {
      const facts = await examine(wrong);
      expect(facts.output, wrong).to.equal('invalid');
      expect(facts.outputReason, wrong).to.match(/ at byte \d+$/);
    }
    expect((await examine(Buffer.from([0x22, 0xff, 0x22]))).output).to.equal('invalid');
  });

  it('says too large before it has read anything', async () => {
    expect(await examine('not json', 8, 7)).to.deep.equal({output: 'too_large'});
    expect(await examine('"1234"', 6, 6)).to.deep.equal({output: 'json'});
  });

  it('reads what is larger than a slice from its file, over every border', async () => {
    for (const length of [large - 1, large, large + 1]) {
      expect(await examine(`"${'x'.repeat(length - 2)}"`)).to.deep.equal({output: 'json'});
      expect((await examine(`"${'x'.repeat(length - 1)}`)).output).to.equal('invalid');
    }
    // A letter of three bytes across each border.
    expect(await examine(`"${'\u20ac'.repeat(large)}"`)).to.deep.equal({output: 'json'});
  });

  it('counts only the bytes that were there at the end', async () => {
    expect(await examine('1 2', 1)).to.deep.equal({output: 'json'});
    expect(await examine(`"${'x'.repeat(large)}" leftover`, large + 2)).to.deep.equal({output: 'json'});
  });

  it('says that a file was cut short', async () => {
    const {output, outputReason} = await examine(`"${'x'.repeat(large)}`, large + 100);
    expect([output, outputReason]).to.deep.equal(['invalid', `stdout was cut short at byte ${large + 1}`]);
  });

  it('lets the loop turn while it reads', async () => {
    let turns = 0;
    const count = (): void => void (turns += 1);
    const timer = setInterval(count, 0);
    await examine(`[${'1,'.repeat(16 << 20)}1]`);
    clearInterval(timer);
    expect(turns).to.be.above(10);
  });
});
