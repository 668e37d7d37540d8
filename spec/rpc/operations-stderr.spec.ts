/** stderr comes along with every answer, and can be followed inside the waits (DESIGN.md section 8). */
import {expect} from 'chai';
import {appendFileSync, readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import {until} from '../support/until';

const tailBytes = 65_536;

/** Writes an `a` and the first bytes of a character; and the others, with a `b`, once the file is there that its argument names. Bytes as for printf(1). */
const halves = (first: string, others: string): {body: string} => ({
  body: `#!/bin/sh\nread -r name\nname=\${name#\\"}\nname=\${name%\\"}\nprintf 'a${first}' >&2\nuntil [ -e "$name" ]; do sleep 0.02; done\nprintf '${others}b' >&2\necho true\n`,
});

const functions = {
  /** Writes as many lines of 16 bytes to stderr as its argument says. */
  chatty: {body: '#!/bin/sh\nread -r count\nawk -v count="$count" \'BEGIN { for (n = 0; n < count; n++) printf "%015d\\n", n > "/dev/stderr" }\'\necho true\n'},
  /** Copies to stderr what is appended to the file that its argument names, until a line says end. */
  echoes: {body: '#!/bin/sh\nread -r name\nname=${name#\\"}\nname=${name%\\"}\ntail -n +1 -f "$name" | while read -r line; do\n  [ "$line" = end ] && break\n  echo "$line" >&2\ndone\necho true\n'},
  binary: {body: '#!/bin/sh\nprintf \'\\377\\000\\303\\n\' >&2\necho true\n'},
  /** 65,537 bytes: an é, which is two bytes, and ASCII behind it; so that the limit cuts the é. */
  cut: {body: '#!/bin/sh\nprintf \'\\303\\251%065535d\' 0 >&2\necho true\n'},
  /** 65,537 bytes: a character of four bytes, and ASCII behind it; so that the limit cuts all but its first byte. */
  cut_four: {body: '#!/bin/sh\nprintf \'\\360\\237\\230\\200%065533d\' 0 >&2\necho true\n'},
  halves: halves('\\303', '\\251'),
  one_of_four: halves('\\360', '\\237\\230\\200'),
  two_of_four: halves('\\360\\237', '\\230\\200'),
  three_of_four: halves('\\360\\237\\230', '\\200'),
  /** Ends in the middle of a character. */
  half: {body: '#!/bin/sh\nprintf \'a\\303\' >&2\necho true\n'},
  quiet: {body: '#!/bin/sh\necho true\n'},
};

/** What `chatty` writes from a byte on. */
const lines = (count: number): string => Array.from({length: count}, (_, n) => `${String(n).padStart(15, '0')}\n`).join('');

describe('stderr', () => {
  let node: NodedDaemon;
  let files = 0;

  before(async () => {
    node = await NodedDaemon.start({functions});
  });
  after(() => node.dispose());

  const waiters = async (): Promise<number | undefined> => (await node.get('/status')).json.counts.waiters;

  it('comes whole if it fits, from its beginning', async () => {
    const {json} = await node.startFunction('chatty', 100, 20);
    expect(json.call.stderr).to.deep.equal({from: 0, next: 1_600, dropped: 0, text: lines(100)});
  });

  it('is empty for a function that says nothing', async () => {
    const {json} = await node.startFunction('quiet', null, 20);
    expect(json.call.stderr).to.deep.equal({from: 0, next: 0, dropped: 0, text: ''});
  });

  it('is its last 64 KiB if it is longer, and the answer tells how much is left out', async () => {
    const whole = lines(10_000);
    const {json} = await node.startFunction('chatty', 10_000, 20);
    const begin = whole.length - tailBytes;
    expect(json.call.stderr).to.deep.equal({from: begin, next: whole.length, dropped: begin, text: whole.slice(begin)});
  });

  it('begins where the master says, as far as it is in the last 64 KiB', async () => {
    const whole = lines(10_000);
    const {call} = (await node.startFunction('chatty', 10_000, 20, {stderr_from: 159_984})).json;
    expect(call.stderr).to.deep.equal({from: 159_984, next: 160_000, dropped: 0, text: whole.slice(159_984)});
    for (const [asked, from] of [[0, 94_464], [94_464, 94_464], [94_465, 94_465], [94_463, 94_464], [120_000, 120_000], [160_000, 160_000], [999_999, 160_000]] as const) {
      const expected = {from, next: 160_000, dropped: from - Math.min(asked, 160_000), text: whole.slice(from)};
      expect((await node.waitForFunction(call.id, 0, {stderr_from: asked})).json.call.stderr, `from ${asked}`).to.deep.equal(expected);
      expect((await node.get(`/calls/${call.id}?stderr_from=${asked}`)).json.call.stderr, `from ${asked}`).to.deep.equal(expected);
    }
    for (const wrong of ['-1', '1.5', '"0"', 'true', '1e30']) {
      expect((await node.request('PUT', '/WaitForFunction', `{"fnc_id":"${call.id}","timeout":0,"stderr_from":${wrong}}`)).json.code, wrong).to.equal('bad_field');
    }
  });

  it('may be bytes that are no text: the answer is JSON all the same', async () => {
    const {json} = await node.startFunction('binary', null, 20);
    expect(json.call.stderr).to.include({from: 0, next: 4, dropped: 0});
    expect(json.call.stderr.text).to.include('\0').and.to.include('\ufffd');
  });

  it('begins with a whole character where the limit would cut one', async () => {
    const {json} = await node.startFunction('cut', null, 20);
    expect(json.call.stderr).to.deep.equal({from: 2, next: 65_537, dropped: 2, text: '0'.repeat(65_535)});
  });

  it('begins with a whole character where the limit would cut one of four bytes', async () => {
    const {json} = await node.startFunction('cut_four', null, 20);
    expect(json.call.stderr).to.deep.equal({from: 4, next: 65_537, dropped: 4, text: '0'.repeat(65_533)});
  });

  const unfinished = {halves: ['é', 1], one_of_four: ['\ud83d\ude00', 1], two_of_four: ['\ud83d\ude00', 2], three_of_four: ['\ud83d\ude00', 3]} as const;
  for (const [name, [character, written]] of Object.entries(unfinished)) {
    const length = Buffer.byteLength(character);
    it(`gives a character of which ${written} of ${length} bytes are written with the next piece, and wakes nobody for it`, async () => {
      const file = join(node.root, `lines-${++files}`);
      const {fnc_id: callId} = (await node.startFunction(name, file, 0)).json;
      const first = (await node.waitForFunction(callId, 60, {stderr_from: 0, wake_on_stderr: true})).json.call.stderr;
      expect(first).to.deep.equal({from: 0, next: 1, dropped: 0, text: 'a'});
      await until('the bytes are written', () => readFileSync(join(node.runDir, 'calls', `${callId!.split(':')[3]}.err`)).length === 1 + written);
      const asleep = await node.waitForFunction(callId, 0.3, {stderr_from: 1, wake_on_stderr: true});
      expect(asleep.json.waited).to.be.at.least(0.29);
      expect(asleep.json.call.stderr).to.deep.equal({from: 1, next: 1, dropped: 0, text: ''});
      writeFileSync(file, '');
      const rest = (await node.waitForFunction(callId, 60, {stderr_from: 1})).json.call.stderr;
      expect(rest).to.deep.equal({from: 1, next: 2 + length, dropped: 0, text: `${character}b`});
    });
  }

  it('ends as the function left it, in the middle of a character if need be', async () => {
    const {json} = await node.startFunction('half', null, 20);
    expect(json.call.stderr).to.deep.equal({from: 0, next: 2, dropped: 0, text: 'a\ufffd'});
  });

  it('can be followed line by line: each wait ends with the next piece, and the pieces are the whole', async () => {
    const file = join(node.root, `lines-${++files}`);
    writeFileSync(file, '');
    const {fnc_id: callId} = (await node.startFunction('echoes', file, 0)).json;
    let next = 0;
    let text = '';
    for (let n = 0; n < 5; n += 1) {
      const wait = node.waitForFunction(callId, 60, {stderr_from: next, wake_on_stderr: true});
      await until('it waits', async () => (await waiters()) === 1);
      appendFileSync(file, `line ${n}\n`);
      const {json} = await wait;
      expect(json).to.include({finished: false, fnc_id: callId});
      expect(json.call.stderr.from).to.equal(next);
      ({next} = json.call.stderr);
      text += json.call.stderr.text;
    }
    expect(text).to.equal('line 0\nline 1\nline 2\nline 3\nline 4\n');
    // What is there already is no reason to wait.
    expect((await node.waitForFunction(callId, 60, {stderr_from: 0, wake_on_stderr: true})).json.call.stderr.text).to.equal(text);
    // Without a place to begin, only what comes from now on is news; and so is the end.
    const last = node.waitForFunction(callId, 60, {wake_on_stderr: true});
    await until('it waits', async () => (await waiters()) === 1);
    appendFileSync(file, 'end\n');
    expect((await last).json).to.include({finished: true, result: true});
    expect(await waiters()).to.equal(0);
  });

  it('wakes only those who asked for it', async () => {
    const file = join(node.root, `lines-${++files}`);
    writeFileSync(file, '');
    const {fnc_id: callId} = (await node.startFunction('echoes', file, 0)).json;
    const plain = node.waitForFunction(callId, 60, {stderr_from: 0});
    const woken = node.waitForFunction(callId, 60, {stderr_from: 0, wake_on_stderr: true});
    await until('both wait', async () => (await waiters()) === 2);
    appendFileSync(file, 'news\n');
    expect((await woken).json.finished).to.equal(false);
    expect(await waiters()).to.equal(1);
    appendFileSync(file, 'end\n');
    expect((await plain).json).to.include({finished: true}).and.to.have.nested.property('call.stderr.text', 'news\n');
  });
});
