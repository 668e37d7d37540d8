import {expect} from 'chai';
import * as fc from 'fast-check';
import {NodedError, errorCodes, errorKind} from '../../lib/base/errors';
import type {ErrorDetail} from '../../lib/base/errors';
import {outcomes, stopCauses, visibleStates} from '../../lib/base/outcome';
import {cutMembers} from '../../lib/rpc/json-members';
import {scanJson} from '../../lib/rpc/json-scan';
import type {Members} from '../../lib/rpc/protocol';
import {readAnswer, readCall, readProblem, writeAnswer, writeCall, writeProblem} from '../../lib/rpc/protocol-answer';
import type {CallInfo} from '../../lib/rpc/protocol-answer';

const membersOf = (text: Buffer): Members => cutMembers(text, scanJson(text, {maxDepth: 131, members: true}));

const call: CallInfo = {
  id: '4121:4188:1764670000.123:9f3a77c01b2d4e5f',
  fnName: 'echo',
  requestId: 'request-1',
  role: 'master',
  state: 'running',
  outcome: null,
  exitCode: null,
  signal: null,
  stoppedBy: null,
  startedAt: 1764670000.125,
  endedAt: null,
  elapsed: 10.001,
  abortAt: 1764670060,
  expiresAt: null,
  duplicate: true,
  stderr: {from: 1, next: 4, dropped: 1, text: 'abc'},
};

const seconds = fc.integer({min: 0, max: 4_102_444_800_000}).map((value) => value / 1000);
const anyCall: fc.Arbitrary<CallInfo> = fc.record({
  id: fc.string({minLength: 1}),
  fnName: fc.string({minLength: 1}),
  requestId: fc.option(fc.string()),
  role: fc.string(),
  state: fc.constantFrom(...visibleStates),
  outcome: fc.option(fc.constantFrom(...outcomes)),
  exitCode: fc.option(fc.nat(255)),
  signal: fc.option(fc.constantFrom('SIGTERM', 'SIGKILL')),
  stoppedBy: fc.option(fc.constantFrom(...stopCauses)),
  startedAt: fc.option(seconds),
  endedAt: fc.option(seconds),
  elapsed: seconds,
  abortAt: fc.option(seconds),
  expiresAt: fc.option(seconds),
  duplicate: fc.boolean(),
  stderr: fc.option(fc.record({from: fc.nat(), next: fc.nat(), dropped: fc.nat(), text: fc.string({unit: 'grapheme'})})),
});

describe('answers', () => {
  it('have the words of the wire', () => {
    expect(Object.keys(writeCall(call))).to.deep.equal([
      'id',
      'fn_name',
      'request_id',
      'role',
      'state',
      'outcome',
      'exit_code',
      'signal',
      'stopped_by',
      'started_at',
      'ended_at',
      'elapsed',
      'abort_at',
      'expires_at',
      'duplicate',
      'stderr',
    ]);
    expect(writeCall(call)).to.deep.include({fn_name: 'echo', request_id: 'request-1', duplicate: true, stderr: call.stderr});
  });

  it('begin with the operation\'s three values: the call ID, and no result yet', () => {
    const {head, tail} = writeAnswer(call, 10.001, null);
    expect(head).to.equal(`{"fnc_id":"${call.id}","finished":false,"result":`);
    expect(JSON.parse(`${head}null${tail}`)).to.deep.equal({fnc_id: call.id, finished: false, result: null, call: writeCall(call), waited: 10.001, error: null});
  });

  it('have no call ID once the call has ended; `call` has it still', () => {
    const {head, tail} = writeAnswer({...call, state: 'ended', outcome: 'failed', exitCode: 3}, 0, {code: 'failed', message: 'exit 3'});
    expect(JSON.parse(`${head}7${tail}`)).to.deep.include({fnc_id: null, finished: true, result: 7, error: {code: 'failed', message: 'exit 3'}}).and.nested.include({'call.id': call.id});
  });

  it('are read as they were written, the result byte for byte', () => {
    const error = fc.option(fc.record({code: fc.constantFrom('failed', 'lost'), message: fc.string()}));
    fc.assert(
      fc.property(anyCall, fc.json({maxDepth: 4}), seconds, error, (written, resultJson, waited, because) => {
        const {head, tail} = writeAnswer(written, waited, because);
        const finished = written.state === 'ended';
        const answer = readAnswer(membersOf(Buffer.from(head + resultJson + tail)));
        expect(answer).to.deep.equal({callId: finished ? null : written.id, finished, resultJson, call: written, waited, error: because});
      }),
    );
  });

  it('keep numbers that JavaScript could not hold', () => {
    const {head, tail} = writeAnswer(call, 0, null);
    expect(readAnswer(membersOf(Buffer.from(`${head}[12345678901234567890, 1.0]${tail}`))).resultJson).to.equal('[12345678901234567890, 1.0]');
  });

  it('of an older node lack what it does not know, which is null', () => {
    expect(readCall({id: 'x', fn_name: 'echo'})).to.include({id: 'x', fnName: 'echo', requestId: null, expiresAt: null, stderr: null});
    expect(readCall({id: 'x', later: 1})).to.not.have.property('later');
  });

  for (const name of ['fnc_id', 'finished', 'result', 'call', 'waited', 'error']) {
    it(`internal: without ${name} are not noded's`, () => {
      const {head, tail} = writeAnswer(call, 0, null);
      const members = new Map(membersOf(Buffer.from(`${head}null${tail}`)));
      members.delete(name);
      expect(() => readAnswer(members)).to.throw(NodedError, `no ${name}`).with.property('code', 'internal');
    });
  }
});

describe('problem documents', () => {
  const through = (error: NodedError): NodedError => readProblem(JSON.parse(JSON.stringify(writeProblem(error))) as Record<string, unknown>);
  const detail = {
    message: 'because',
    started: 'yes',
    retryAfter: 7,
    field: 'timeout',
    pointers: [{pointer: '/0', message: 'must be a number'}],
    outcome: 'failed',
    callId: 'an-id',
  } as const satisfies ErrorDetail;

  for (const code of errorCodes) {
    it(`of ${code} are read as they were written`, () => {
      const plain = through(new NodedError(code));
      const {status, started, message} = errorKind(code);
      expect(plain).to.include({code, status, started, message});
      expect(plain.retryAfter).to.equal(new NodedError(code).retryAfter);
      const full = through(new NodedError(code, detail));
      expect(full.detail).to.deep.equal(detail);
      expect(full).to.include({code, status, started: 'yes', retryAfter: 7, message: 'because'});
    });
  }

  it('have the members of RFC 9457, and noded\'s own', () => {
    expect(JSON.parse(JSON.stringify(writeProblem(new NodedError('spool_full', {message: 'no room'}))))).to.deep.equal({
      type: 'about:blank',
      title: 'there is no room left for the files of a call',
      status: 503,
      detail: 'no room',
      code: 'spool_full',
      started: 'no',
      retry_after: 10,
    });
    expect(writeProblem(new NodedError('call_expired', detail))).to.include({fnc_id: 'an-id', outcome: 'failed', field: 'timeout', retry_after: 7});
  });

  it('with a code that is not known yet are internal, and keep what they say', () => {
    const error = readProblem({code: 'too_wet', detail: 'it rains', started: 'no', retry_after: 3, fnc_id: 'x'});
    expect(error).to.include({code: 'internal', message: 'it rains', started: 'no', retryAfter: 3});
    expect(error.detail.callId).to.equal('x');
    expect(readProblem({code: 'too_wet'}).message).to.equal('the node answered too_wet');
  });

  it('that say nothing, or nonsense, leave everything unknown', () => {
    for (const problem of [{}, {code: 7, detail: null, started: 1, retry_after: 'soon', field: [], pointers: 'no', outcome: 3, fnc_id: {}}, {started: 'perhaps'}]) {
      const error = readProblem(problem);
      expect(error).to.include({code: 'internal', started: 'unknown', message: 'the node answered without a code'});
      expect(error.detail).to.deep.equal({message: error.message, started: 'unknown'});
    }
  });
});
