/** Answers that go through many calls are made in slices: nobody else waits for them (DESIGN.md section 3). */
import {expect} from 'chai';
import {limits} from '../../lib/base/limits';
import {callIdOf} from '../../lib/call/call-record';
import type {Call} from '../../lib/call/call-record';
import {operations} from '../../lib/rpc/operations';
import type {Caller, OperationContext} from '../../lib/rpc/operations';
import {bytesOf} from '../../lib/rpc/reply';
import type {Reply} from '../../lib/rpc/reply';
import {localRole} from '../../lib/rpc/tls';
import {turn} from '../support/clock';
import {FakeTable} from '../support/fake-table';

const calls = 300;
/** What reading one result takes of the loop. */
const readMs = 1;

async function textOf({pieces}: Reply): Promise<string> {
  const chunks: Buffer[] = [];
  for (const piece of pieces) for await (const chunk of bytesOf(piece)) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe('WaitForFunctions with many IDs of ended calls', () => {
  const caller: Caller = {role: localRole, traceparent: null, onGone: () => {}};
  let fake: FakeTable;
  let context: OperationContext;
  let ended: Call[];
  let reads = 0;

  beforeEach(() => {
    fake = new FakeTable();
    reads = 0;
    ended = Array.from({length: calls}, () => fake.ended());
    context = {
      table: fake.table,
      functions: {get: () => undefined, list: () => []},
      files: {
        sizes: () => ({stdoutBytes: 2, stderrBytes: 0}),
        read: () => Buffer.alloc(0),
        readStdout: () => {
          reads += 1;
          for (const until = performance.now() + readMs; performance.now() < until; );
          return Buffer.from('[]');
        },
        stream: () => {
          throw new Error('nothing here is large');
        },
      },
      maxWaitMs: 1000,
    };
  });
  afterEach(() => ended.forEach((call) => fake.table.forget(call)));

  const waitForAll = (): Promise<Reply> => operations.get('WaitForFunctions')!(context, caller, new Map(Object.entries({fnc_ids: Buffer.from(JSON.stringify(ended.map(callIdOf))), timeout: Buffer.from('1')})));

  it('lets everybody else have a turn after each few of them', async () => {
    const readsPerTurn: number[] = [];
    let over = false;
    const reply = waitForAll().finally(() => (over = true));
    for (let before = 0; !over; before = reads) {
      await turn();
      readsPerTurn.push(reads - before);
    }
    expect((JSON.parse(await textOf(await reply)) as {finished: unknown[]}).finished).to.have.lengthOf(calls);
    expect(Math.max(...readsPerTurn)).to.be.at.most(limits.sliceFreeItems + limits.sliceMs / readMs);
  });

  it('counts one that was forgotten when its turn came as expired, and marks the others as delivered', async () => {
    const waiting = waitForAll();
    const [last] = ended.splice(-1) as [Call];
    const lastId = callIdOf(last);
    fake.table.forget(last);
    const reply = await waiting;
    const {finished, unknown} = JSON.parse(await textOf(reply)) as {finished: {call: {id: string}}[]; unknown: object[]};
    expect(finished.map(({call}) => call.id)).to.deep.equal(ended.map(callIdOf));
    expect(unknown).to.deep.equal([{fnc_id: lastId, code: 'call_expired'}]);
    reply.sent!();
    for (let turns = 0; ended.some(({deliveredAt}) => deliveredAt === null) && turns < 10 * calls; turns += 1) await turn();
    expect(ended.filter(({deliveredAt}) => deliveredAt === null)).to.deep.equal([]);
  });
});
