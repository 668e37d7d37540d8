import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import {limits} from '../../lib/base/limits';
import {readAbortFunction, readForgetFunction, readGetCall, readListCalls, readNothing, readStartFunction, readWaitForFunction, readWaitForFunctions} from '../../lib/rpc/protocol';
import type {Members} from '../../lib/rpc/protocol';

type Read = (members: Members) => unknown;
type Texts = Readonly<Record<string, string>>;

const membersOf = (texts: Texts): Members => new Map(Object.entries(texts).map(([name, text]) => [name, Buffer.from(text)]));
const texts = (...some: readonly Texts[]): readonly Texts[] => some;
const string = (length: number): string => JSON.stringify('x'.repeat(length));
const ids = (count: number): string => JSON.stringify(Array.from({length: count}, (_, number) => `id-${number}`));

/** The least that each operation takes, as JSON texts. */
const operations: Readonly<Record<string, {readonly read: Read; readonly least: Texts}>> = {
  StartFunction: {read: readStartFunction, least: {fn_name: '"echo"', fn_args: '[]', timeout: '1'}},
  WaitForFunction: {read: readWaitForFunction, least: {fnc_id: '"an-id"', timeout: '1'}},
  WaitForFunctions: {read: readWaitForFunctions, least: {fnc_ids: '["an-id"]', timeout: '1'}},
  AbortFunction: {read: readAbortFunction, least: {fnc_id: '"an-id"', timeout: '1'}},
  ForgetFunction: {read: readForgetFunction, least: {fnc_id: '"an-id"'}},
  GetCall: {read: readGetCall, least: {fnc_id: '"an-id"'}},
  ListCalls: {read: readListCalls, least: {}},
  nothing: {read: readNothing, least: {}},
};

interface Check {
  readonly operations: readonly string[];
  readonly code?: 'bad_field' | 'bad_timeout';
  /** An absent one and an explicit null are the same, and this is read then. */
  readonly absent?: {readonly as: string; readonly value: unknown};
  readonly good: readonly string[];
  readonly bad: readonly string[];
}

const durations = {good: ['0', '0.001', '2.5', '1e3', '300', '1e300'], bad: ['-1', '-0.001', '1e999', '"1"', 'true', '[]', '{}']};
const byteCounts = {good: ['0', '1', String(Number.MAX_SAFE_INTEGER)], bad: ['-1', '0.5', '9007199254740992', '1e999', '"0"', 'false', '[]']};
const calls = {good: ['"x"', string(limits.maxCallIdChars), '"\\n\\u0000"'], bad: ['""', string(limits.maxCallIdChars + 1), '7', '[]', '{}', 'true']};
const requestIds = {
  good: ['"12345678"', string(128), '"Aa0._:-Z"'],
  bad: ['"1234567"', string(129), '"1234 5678"', '"12345678\\n"', '"1234567ä"', '12345678', '["12345678"]'],
};
const names = {good: ['"x"', string(64), '"no such function"'], bad: ['""', string(65), '7', '[]', 'false']};

const checks: Readonly<Record<string, readonly Check[]>> = {
  fn_name: [
    {operations: ['StartFunction'], good: names.good, bad: [...names.bad, 'null']},
    {operations: ['ListCalls'], absent: {as: 'fnName', value: null}, ...names},
  ],
  role: [{operations: ['ListCalls'], absent: {as: 'role', value: null}, ...names}],
  fn_args: [{operations: ['StartFunction'], good: ['null', '[]', '{}', '1', '"x"', '12345678901234567890'], bad: []}],
  timeout: [
    {operations: ['StartFunction', 'WaitForFunction', 'WaitForFunctions', 'AbortFunction'], code: 'bad_timeout', good: durations.good, bad: [...durations.bad, 'null']},
  ],
  abort_after: [{operations: ['StartFunction'], absent: {as: 'abortAfterMs', value: null}, good: durations.good.slice(1), bad: ['0', '-0', ...durations.bad]}],
  kill_after: [{operations: ['AbortFunction'], absent: {as: 'killAfterMs', value: null}, ...durations}],
  stderr_from: [{operations: ['StartFunction', 'WaitForFunction', 'GetCall'], absent: {as: 'stderrFrom', value: null}, ...byteCounts}],
  wake_on_stderr: [{operations: ['WaitForFunction'], absent: {as: 'wakeOnStderr', value: false}, good: ['true', 'false'], bad: ['0', '1', '"true"', '[]']}],
  request_id: [{operations: ['StartFunction'], absent: {as: 'requestId', value: null}, ...requestIds}],
  reason: [
    {
      operations: ['StartFunction'],
      absent: {as: 'reason', value: null},
      good: ['""', string(limits.maxReasonChars), '"two\\nlines"'],
      bad: [string(limits.maxReasonChars + 1), '7', '[]', 'false'],
    },
  ],
  fnc_id: [{operations: ['ForgetFunction', 'GetCall'], good: calls.good, bad: [...calls.bad, 'null']}],
  fnc_ids: [
    {
      operations: ['WaitForFunctions'],
      good: ['["x"]', ids(limits.maxWaitForCalls), `[${string(limits.maxCallIdChars)}]`],
      bad: ['[]', ids(limits.maxWaitForCalls + 1), '["x",7]', '[null]', `[${string(limits.maxCallIdChars + 1)}]`, '"x"', '{}', 'null'],
    },
  ],
  state: [
    {
      operations: ['ListCalls'],
      absent: {as: 'state', value: null},
      good: ['"starting"', '"running"', '"stopping"', '"ended"'],
      bad: ['"gone"', '""', '"Running"', '7', '["running"]'],
    },
  ],
  limit: [{operations: ['ListCalls'], absent: {as: 'limit', value: limits.defaultPageSize}, good: ['1', String(limits.maxPageSize)], bad: ['0', String(limits.maxPageSize + 1), '-1', '1.5', '"1"']}],
  cursor: [{operations: ['ListCalls'], absent: {as: 'cursor', value: 0}, ...byteCounts}],
};

const abbreviate = (text: string): string => (text.length > 40 ? `${text.slice(0, 20)}… (${text.length} characters)` : text);

function refusal(read: Read, texts: Texts): NodedError {
  try {
    read(membersOf(texts));
  } catch (error) {
    if (error instanceof NodedError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

describe('the members of requests', () => {
  for (const [name, variants] of Object.entries(checks)) {
    for (const {operations: where, code = 'bad_field', absent, good, bad} of variants) {
      for (const operation of where) {
        const {read, least} = operations[operation]!;
        describe(`${name} of ${operation}`, () => {
          for (const text of good) {
            it(`may be ${abbreviate(text)}`, () => {
              expect(() => read(membersOf({...least, [name]: text}))).to.not.throw();
            });
          }
          for (const text of bad) {
            it(`${code}: is refused as ${abbreviate(text)}`, () => {
              const error = refusal(read, {...least, [name]: text});
              expect(error).to.include({code, started: 'no'});
              expect(error.detail.field).to.equal(name);
              expect(error.message).to.include(name);
            });
          }
          if (absent === undefined) {
            it(`${code}: is missed`, () => {
              const {[name]: _left, ...rest} = least;
              const error = refusal(read, rest);
              expect([error.code, error.detail.field]).to.deep.equal([code, name]);
              expect(error.message).to.equal(`${name} is missing`);
            });
          } else {
            it('may be absent, which an explicit null is too', () => {
              const {[name]: _left, ...rest} = least;
              for (const texts of [rest, {...rest, [name]: 'null'}]) expect(read(membersOf(texts))).to.have.deep.property(absent.as, absent.value);
            });
          }
        });
      }
    }
  }

  for (const [operation, {read, least}] of Object.entries(operations)) {
    it(`unknown_field: ${operation} refuses a member that it does not know, however harmless`, () => {
      for (const name of ['abort_afterr', 'Timeout', '', '__proto__', 'constructor']) {
        const texts = new Map([...membersOf(least), [name, Buffer.from('null')]]);
        expect(() => read(texts), name).to.throw(NodedError).that.deep.includes({code: 'unknown_field', detail: {field: name, message: `${name} is not a member of this operation`}});
      }
    });
  }

  for (const operation of ['WaitForFunction', 'AbortFunction']) {
    describe(`the call of ${operation}`, () => {
      const {read} = operations[operation]!;
      it('is named by its call ID or by its request ID; null is as good as absent', () => {
        for (const other of texts({}, {request_id: 'null'})) expect(read(membersOf({fnc_id: '"an-id"', timeout: '0', ...other}))).to.have.deep.property('call', {callId: 'an-id'});
        for (const other of texts({}, {fnc_id: 'null'})) expect(read(membersOf({request_id: '"request-1"', timeout: '0', ...other}))).to.have.deep.property('call', {requestId: 'request-1'});
      });
      it('bad_field: is not named by both, nor by none', () => {
        for (const names of texts({}, {fnc_id: 'null', request_id: 'null'}, {fnc_id: '"an-id"', request_id: '"request-1"'})) {
          expect(refusal(read, {...names, timeout: '0'})).to.deep.include({code: 'bad_field'}).and.nested.include({'detail.field': 'fnc_id'});
        }
      });
      it('bad_field: is not named by what is neither', () => {
        for (const text of calls.bad) expect(refusal(read, {fnc_id: text, timeout: '0'}).detail.field, text).to.equal('fnc_id');
        for (const text of requestIds.bad) expect(refusal(read, {request_id: text, timeout: '0'}).detail.field, text).to.equal('request_id');
      });
    });
  }

  it('are told apart from null by more than their length', () => {
    expect(readListCalls(membersOf({limit: '1000'})).limit).to.equal(1000);
    expect(readWaitForFunction(membersOf({fnc_id: '"x"', timeout: '0', wake_on_stderr: 'true'})).wakeOnStderr).to.equal(true);
  });

  it('durations are clamped to what can be counted', () => {
    const {timeoutMs, abortAfterMs} = readStartFunction(membersOf({fn_name: '"echo"', fn_args: '[]', timeout: '1e300', abort_after: '1e300'}));
    expect([timeoutMs, abortAfterMs]).to.deep.equal([limits.maxDurationMs, limits.maxDurationMs]);
  });

  it('fn_args pass through as the bytes that they are', () => {
    const bytes = Buffer.from('{"n" : 12345678901234567890 , "é":1.0e0}');
    const {fnArgs} = readStartFunction(new Map([...membersOf({fn_name: '"echo"', timeout: '0'}), ['fn_args', bytes]]));
    expect(fnArgs).to.equal(bytes);
  });

  it('fnc_ids are asked for once each, in their order', () => {
    expect(readWaitForFunctions(membersOf({fnc_ids: '["b","a","b"]', timeout: '0'})).callIds).to.deep.equal(['b', 'a']);
  });

  it('are read out of the middle of a larger buffer', () => {
    const body = Buffer.from('{"fnc_id":"an-id"}');
    expect(readForgetFunction(new Map([['fnc_id', body.subarray(10, 17)]]))).to.deep.equal({callId: 'an-id'});
  });
});
