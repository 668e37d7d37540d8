import {expect} from 'chai';
import {closeSync, openSync} from 'node:fs';
import {getSystemErrorName} from 'node:util';
import {NodedError, errnoName, errnoOf, errorCodes, errorKind, messageOf} from '../../lib/base/errors';
import type {ErrorCode} from '../../lib/base/errors';

/** DESIGN.md section 8. */
const statuses: Readonly<Record<number, readonly ErrorCode[]>> = {
  400: ['bad_json', 'bad_field', 'unknown_field', 'bad_timeout', 'bad_request'],
  401: ['no_certificate'],
  403: ['forbidden', 'certificate_expired'],
  404: ['unknown_operation', 'unknown_function', 'unknown_call', 'unknown_request'],
  405: ['method_not_allowed'],
  409: ['still_running'],
  410: ['call_expired', 'call_lost'],
  413: ['request_too_large'],
  415: ['unsupported_media_type'],
  422: ['invalid_args', 'request_id_reused'],
  429: ['function_busy', 'too_many_waiters', 'too_many_in_flight'],
  500: ['internal'],
  503: ['too_many_calls', 'spool_full', 'draining', 'spawner_unavailable'],
};

describe('the table of errors', () => {
  it('has all codes of the protocol, and no others', () => {
    expect([...errorCodes].sort()).to.deep.equal(Object.values(statuses).flat().sort());
  });

  for (const code of errorCodes) {
    it(`${code}: has a status, a message, and says whether a function was started`, () => {
      const {status, started, message} = errorKind(code);
      expect(statuses[status], `status ${status}`).to.include(code);
      expect(started).to.be.oneOf(['no', 'yes', 'unknown']);
      expect(message).to.match(/^[a-z][^\n]{10,}[^.]$/);
    });
  }

  it('tells when to ask again for all that passes: statuses 429 and 503, and no other', () => {
    for (const code of errorCodes) {
      const {retryAfter, status} = new NodedError(code);
      expect(retryAfter !== undefined, code).to.equal(status === 429 || status === 503);
    }
  });

  it('promises that nothing was started for every refusal that may be tried again', () => {
    for (const code of errorCodes) if (errorKind(code).status === 429 || errorKind(code).status === 503) expect(errorKind(code).started, code).to.equal('no');
  });
});

describe('a refusal', () => {
  it('has what its code says', () => {
    const error = new NodedError('spool_full');
    expect(error).to.be.an.instanceOf(Error).and.to.include({name: 'NodedError', code: 'spool_full', status: 503, started: 'no', retryAfter: 10});
    expect(error.message).to.equal(errorKind('spool_full').message);
    expect(error.detail).to.deep.equal({});
  });

  it('says more where more is known', () => {
    const detail = {message: 'try later', started: 'unknown', retryAfter: 0, field: 'timeout', outcome: 'ok', callId: 'x'} as const;
    const error = new NodedError('function_busy', detail);
    expect(error).to.include({message: 'try later', started: 'unknown', retryAfter: 0, status: 429});
    expect(error.detail).to.equal(detail);
  });
});

describe('errors of the system', () => {
  const thrownBy = (act: () => unknown): unknown => {
    try {
      return act();
    } catch (error) {
      return error;
    }
  };

  it('have an errno name, as Node gives it', () => {
    expect(errnoOf(thrownBy(() => openSync('/nonexistent/file', 'r')))).to.equal('ENOENT');
    expect(errnoOf(thrownBy(() => closeSync(1_000_000)))).to.equal('EBADF');
  });

  it('have one also where Node has none: EDQUOT comes as -122 without a code', () => {
    expect(errnoOf(Object.assign(new Error('Unknown system error -122'), {errno: -122}))).to.equal('EDQUOT');
    expect(errnoOf(Object.assign(new Error('Unknown system error -122: x'), {errno: -122, code: 'Unknown system error -122'}))).to.equal('EDQUOT');
  });

  it('have one for whatever a disk gives: no errno of the kernel is left to its number', () => {
    for (const [errno, name] of [[-117, 'EUCLEAN'], [-123, 'ENOMEDIUM'], [-126, 'ENOKEY'], [-52, 'EBADE'], [-5, 'EIO'], [-11, 'EAGAIN']] as const) {
      const text = getSystemErrorName(errno);
      expect(errnoOf(Object.assign(new Error(text), {errno, code: text}))).to.equal(name);
    }
    expect(errnoName(122)).to.equal('EDQUOT');
    expect(errnoName(100_000)).to.equal('EUNKNOWN');
  });

  it('have that name in their text too', () => {
    expect(messageOf(Object.assign(new Error('Unknown system error -122: Unknown system error -122, write'), {errno: -122}))).to.equal('EDQUOT: write');
    expect(messageOf(new Error('Unknown system error -122'))).to.equal('EDQUOT');
    expect(messageOf(thrownBy(() => openSync('/nonexistent/file', 'r')))).to.equal('ENOENT: no such file or directory, open \'/nonexistent/file\'');
  });

  it('are EUNKNOWN where nobody knows', () => {
    for (const error of [new Error('no code'), 'a string', null, undefined, {code: 'ENOENT'}]) expect(errnoOf(error)).to.equal('EUNKNOWN');
  });

  it('have a text for the log, whatever was thrown', () => {
    expect(messageOf(new Error('broken'))).to.equal('broken');
    expect(messageOf('broken')).to.equal('broken');
    expect(messageOf(undefined)).to.equal('undefined');
  });
});
