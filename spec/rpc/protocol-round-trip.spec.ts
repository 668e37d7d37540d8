import {expect} from 'chai';
import * as fc from 'fast-check';
import {limits} from '../../lib/base/limits';
import {cutMembers} from '../../lib/rpc/json-members';
import {scanJson} from '../../lib/rpc/json-scan';
import {
  readAbortFunction,
  readForgetFunction,
  readStartFunction,
  readWaitForFunction,
  readWaitForFunctions,
  writeAbortFunction,
  writeForgetFunction,
  writeStartFunction,
  writeWaitForFunction,
  writeWaitForFunctions,
} from '../../lib/rpc/protocol';
import type {Members} from '../../lib/rpc/protocol';

/** As a node cuts a body. */
function membersOf(body: string): Members {
  const text = Buffer.from(body);
  return cutMembers(text, scanJson(text, {maxDepth: limits.maxDepth, members: true}));
}

/** Ms that are the same after a division and a multiplication by 1000: seconds are doubles. */
const ms = fc.integer({min: 0, max: limits.maxDurationMs}).filter((value) => (value / 1000) * 1000 === value);
const id = fc.string({unit: 'grapheme', minLength: 1, maxLength: 40}).filter((text) => text.length <= limits.maxCallIdChars);
const requestId = fc.stringMatching(/^[A-Za-z0-9._:-]{8,128}$/);
const call = fc.oneof(fc.record({callId: id}), fc.record({requestId}));
const stderrFrom = fc.option(fc.maxSafeNat());

describe('what a master writes, a node reads', () => {
  it('StartFunction', () => {
    const request = fc.record({
      fnName: fc.string({unit: 'grapheme', minLength: 1, maxLength: 12}),
      timeoutMs: ms,
      requestId: fc.option(requestId),
      abortAfterMs: fc.option(ms.filter((value) => value > 0)), // 0 would stop a call before it starts, and is refused
      stderrFrom,
      reason: fc.option(fc.string({unit: 'grapheme', maxLength: 100}).filter(({length}) => length <= limits.maxReasonChars)),
    });
    fc.assert(
      fc.property(request, fc.json({maxDepth: 5}), (written, fnArgsJson) => {
        const {fnArgs, ...read} = readStartFunction(membersOf(writeStartFunction({...written, fnArgsJson})));
        expect(read).to.deep.equal(written);
        expect(Buffer.from(fnArgs).toString()).to.equal(fnArgsJson);
      }),
    );
  });

  it('WaitForFunction', () => {
    fc.assert(
      fc.property(fc.record({call, timeoutMs: ms, stderrFrom, wakeOnStderr: fc.boolean()}), (written) => {
        expect(readWaitForFunction(membersOf(writeWaitForFunction(written)))).to.deep.equal(written);
      }),
    );
  });

  it('WaitForFunctions', () => {
    fc.assert(
      fc.property(fc.record({callIds: fc.uniqueArray(id, {minLength: 1, maxLength: 20}), timeoutMs: ms}), (written) => {
        expect(readWaitForFunctions(membersOf(writeWaitForFunctions(written)))).to.deep.equal(written);
      }),
    );
  });

  it('AbortFunction', () => {
    fc.assert(
      fc.property(fc.record({call, timeoutMs: ms, killAfterMs: fc.option(ms)}), (written) => {
        expect(readAbortFunction(membersOf(writeAbortFunction(written)))).to.deep.equal(written);
      }),
    );
  });

  it('ForgetFunction', () => {
    fc.assert(
      fc.property(id, (callId) => {
        expect(readForgetFunction(membersOf(writeForgetFunction({callId})))).to.deep.equal({callId});
      }),
    );
  });

  it('and leaves out what is not said, for an older node would refuse what it does not know', () => {
    const start = writeStartFunction({fnName: 'echo', fnArgsJson: '[1]', timeoutMs: 2_500, requestId: null, abortAfterMs: null, stderrFrom: null, reason: null});
    expect(start).to.equal('{"fn_name":"echo","fn_args":[1],"timeout":2.5}');
    expect(writeWaitForFunction({call: {requestId: 'request-1'}, timeoutMs: 0, stderrFrom: null, wakeOnStderr: false})).to.equal('{"request_id":"request-1","timeout":0}');
    expect(writeAbortFunction({call: {callId: 'x'}, timeoutMs: 0, killAfterMs: null})).to.equal('{"fnc_id":"x","timeout":0}');
    expect(writeAbortFunction({call: {callId: 'x'}, timeoutMs: 0, killAfterMs: 0})).to.equal('{"fnc_id":"x","timeout":0,"kill_after":0}');
  });
});
