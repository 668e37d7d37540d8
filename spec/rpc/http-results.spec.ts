/** Results on their way: large ones, to slow and to vanished readers, and those whose files somebody has removed. */
import {expect} from 'chai';
import {createHash} from 'node:crypto';
import {readdirSync, readlinkSync, renameSync, symlinkSync, truncateSync, unlinkSync} from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import {residentBytes} from '../support/processes';
import {programs} from '../support/programs';
import {RawConnection, putText} from '../support/raw-http';
import {until} from '../support/until';

const mebibyte = 1_048_576;
const noisy = {body: '#!/bin/sh\nhead -c 10000 /dev/zero | tr "\\0" x >&2\necho 1\n'};
const functions = {cat: programs.cat, large: programs.large, forever: programs.forever, noisy};

const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('results', function () {
  this.timeout(60_000);
  let node: NodedDaemon;
  let connections: RawConnection[] = [];

  before(async () => {
    node = await NodedDaemon.start({functions});
  });
  afterEach(() => {
    for (const connection of connections.splice(0)) connection.destroy();
  });
  after(() => node.dispose());

  const ask = async (text: string, port = node.port): Promise<RawConnection> => {
    const connection = await RawConnection.open(port);
    connections.push(connection);
    connection.write(text);
    return connection;
  };
  const hasEnded = async (callId: string, daemon = node): Promise<void> => {
    await until('the call has ended', async () => (await daemon.get('/calls?state=ended&limit=1000')).text.includes(callId.split(':').at(-1)!), 40_000);
  };
  /** Starts it, and waits for its end without a delivery. */
  const make = async (bytes: number, daemon = node): Promise<string> => {
    const {call} = (await daemon.startFunction('large', bytes, 0)).json;
    await hasEnded(call.id, daemon);
    return call.id;
  };
  /** The result as it stands in the answer: from its first quote to its last. */
  const resultOf = (answer: Buffer): Buffer => answer.subarray(answer.indexOf('"result":') + 9, answer.indexOf(',"call":', -70_000));
  const fileOf = (callId: string): string => join(node.runDir, 'calls', `${callId.split(':').at(-1)}.out`);

  it('of 50 MB to readers that have stopped cost no memory, and are all there afterwards', async () => {
    const size = 50_000_000;
    const callId = await make(size);
    const first = resultOf((await node.waitForFunction(callId, 0)).bytes);
    expect(first).to.have.lengthOf(size + 2);
    const before = residentBytes(node.pid);
    const readers = await Promise.all(Array.from({length: 10}, async () => {
      const reader = await ask(putText('WaitForFunction', {fnc_id: callId, timeout: 0}));
      reader.socket.pause();
      return reader;
    }));
    for (let round = 0; round < 30; round += 1) expect((await node.get('/status')).status).to.equal(200);
    expect(residentBytes(node.pid) - before, 'growth').to.be.below(3 * size);
    for (const reader of readers) reader.reset();
    const again = resultOf((await node.waitForFunction(callId, 0)).bytes);
    expect(hash(again)).to.equal(hash(first));
  });

  it('of 64 MiB leave the daemon time for others, while they are checked and while they are sent', async () => {
    const {call} = (await node.startFunction('large', 64 * mebibyte - 2, 0)).json;
    let over = false;
    let answered = 0;
    const asking = (async () => {
      for (; !over && answered < 100_000; answered += 1) expect((await node.get('/status')).status).to.equal(200);
    })();
    await hasEnded(call.id);
    const whileChecked = answered;
    const {bytes} = await node.waitForFunction(call.id, 0);
    over = true;
    await asking;
    expect(resultOf(bytes)).to.have.lengthOf(64 * mebibyte);
    expect(whileChecked).to.be.above(0);
    expect(answered - whileChecked).to.be.above(0);
  });

  it('whose readers break off anywhere are the same for the next one, byte for byte', async () => {
    for (const [callId, offsets] of [
      [(await node.startFunction('cat', {n: [1, 'two', null]}, 20)).json.call.id, Array.from({length: 40}, (_, at) => at * 17)],
      [await make(3 * mebibyte), [0, 1, 200, 65_536, mebibyte, 2 * mebibyte, 3 * mebibyte]],
    ] as const) {
      const first = resultOf((await node.waitForFunction(callId, 0)).bytes);
      for (const offset of offsets) {
        const reader = await ask(putText('WaitForFunction', {fnc_id: callId, timeout: 0}));
        const took = (): number => reader.bytes.length;
        await until('the offset is reached', () => reader.closed || took() >= offset || took() >= first.length);
        reader.reset();
        expect(hash(resultOf((await node.waitForFunction(callId, 0)).bytes))).to.equal(hash(first));
      }
    }
    expect((await node.get('/status')).json.counts.waiters).to.equal(0);
  });

  it('that did not reach their reader do not count as delivered: they are not the first to go', async () => {
    const small = await NodedDaemon.start({functions, config: '[limits]\nmax_results = 2\n'});
    try {
      const unread = await make(20 * mebibyte, small);
      const reader = await ask('', small.port);
      reader.socket.once('data', () => reader.socket.pause());
      reader.write(putText('WaitForFunction', {fnc_id: unread, timeout: 0}));
      await until('the answer has begun', () => reader.socket.isPaused());
      reader.reset();
      const read = (await small.startFunction('cat', 1, 20)).json.call.id;
      const last = (await small.startFunction('cat', 2, 0)).json.call.id;
      await hasEnded(last, small);
      expect((await small.waitForFunction(read, 0)).json.code).to.equal('call_expired');
      expect((await small.waitForFunction(unread, 0)).status).to.equal(200);
    } finally {
      await small.dispose();
    }
  });

  for (const [what, bytes] of [['small', 8192], ['large', 2 * mebibyte]] as const) {
    for (const [how, spoil] of [
      ['gone', (path: string) => unlinkSync(path)],
      ['cut short', (path: string) => truncateSync(path, 50)],
    ] as const) {
      it(`of a ${what} call whose file is ${how} are refused whole, with their outcome, and the connection goes on`, async () => {
        const callId = await make(bytes);
        const intact = await make(bytes);
        spoil(fileOf(callId));
        for (const response of [await node.waitForFunction(callId, 0), await node.get(`/calls/${callId}`)]) {
          expect({...response.json, status: response.status}).to.include({status: 410, code: 'call_expired', outcome: 'ok', started: 'yes'});
        }
        const many = await node.put('WaitForFunctions', {fnc_ids: [callId, intact], timeout: 0});
        const {finished, unfinished, unknown} = JSON.parse(many.text) as {finished: {call: {id: string}}[]; unfinished: string[]; unknown: object[]};
        expect(finished.map(({call}) => call.id)).to.deep.equal([intact]);
        expect(unfinished).to.deep.equal([]);
        expect(unknown).to.deep.equal([{fnc_id: callId, code: 'call_expired'}]);
      });
    }
  }

  it('that cannot be read cost no other its answer; nor does a stderr that cannot', async () => {
    const [damaged, intact] = [await make(8192), await make(8192)];
    const noisy = (await node.startFunction('noisy', null, 20)).json.call.id;
    for (const path of [fileOf(damaged), fileOf(noisy).replace(/out$/, 'err')]) {
      renameSync(path, `${path}.elsewhere`);
      symlinkSync(`${path}.elsewhere`, path); // which is not followed
    }
    const {json} = await node.put('WaitForFunctions', {fnc_ids: [damaged, intact, noisy], timeout: 0});
    const {finished, unknown} = json as unknown as {finished: {call: {id: string; stderr: object}; result: unknown}[]; unknown: object[]};
    expect(finished.map(({call}) => call.id)).to.deep.equal([intact, noisy]);
    expect(unknown).to.deep.equal([{fnc_id: damaged, code: 'internal'}]);
    expect(finished[1]).to.deep.include({result: 1}).and.to.have.nested.property('call.stderr.text', '');
  });

  it('that are cut short while they are sent break the connection, and nobody takes the rest for a result', async () => {
    const callId = await make(40 * mebibyte);
    const reader = await ask('');
    reader.socket.once('data', () => reader.socket.pause());
    reader.write(putText('WaitForFunction', {fnc_id: callId, timeout: 0}));
    await until('the answer has begun', () => reader.socket.isPaused());
    truncateSync(fileOf(callId), 1000);
    reader.socket.resume();
    await reader.end(30_000);
    expect(reader.bytes.length).to.be.below(40 * mebibyte);
    expect((await node.get('/status')).status).to.equal(200);
  });

  it('of many calls come in one answer, each byte for byte, however large they are together', async () => {
    const sizes = [10, 300_000, 900_000, 900_000, 2 * mebibyte, 0, 10, 1000];
    const callIds: string[] = [];
    for (const size of sizes) callIds.push(await make(size));
    const {json} = await node.put('WaitForFunctions', {fnc_ids: callIds, timeout: 0});
    const {finished} = json as unknown as {finished: {call: {id: string}; result: string}[]};
    expect(finished.map(({call}) => call.id)).to.deep.equal(callIds);
    for (const [at, callId] of callIds.entries()) {
      expect(finished[at]!.result).to.have.lengthOf(sizes[at]!);
      expect(finished[at]!.result).to.equal((await node.waitForFunction(callId, 0)).json.result);
    }
  });

  it('leave none of their files open in the daemon', async () => {
    const open = (): string[] => readdirSync(`/proc/${node.pid}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${node.pid}/fd/${fd}`);
      } catch {
        return ''; // closed meanwhile
      }
    });
    await until('no file of a call is open', () => open().every((path) => !path.startsWith(join(node.runDir, 'calls'))));
  });
});
