/** The refusals of DESIGN.md section 8, stated once more: what the program's own table must say. */
import {expect} from 'chai';
import type {IncomingHttpHeaders} from 'node:http';
import type {ErrorCode} from '../../lib/base/errors';

type Started = 'no' | 'yes' | 'unknown';

/** HTTP status, whether a function was started, and whether it says when to come again. */
export const problems: Readonly<Record<ErrorCode, readonly [status: number, started: Started, retry?: 'retry']>> = {
  bad_json: [400, 'no'],
  bad_field: [400, 'no'],
  unknown_field: [400, 'no'],
  bad_timeout: [400, 'no'],
  bad_request: [400, 'no'],
  no_certificate: [401, 'no'],
  forbidden: [403, 'no'],
  certificate_expired: [403, 'no'],
  unknown_operation: [404, 'no'],
  unknown_function: [404, 'no'],
  unknown_call: [404, 'unknown'],
  unknown_request: [404, 'no'],
  method_not_allowed: [405, 'no'],
  request_too_large: [413, 'no'],
  unsupported_media_type: [415, 'no'],
  still_running: [409, 'yes'],
  call_expired: [410, 'yes'],
  call_lost: [410, 'unknown'],
  invalid_args: [422, 'no'],
  request_id_reused: [422, 'yes'],
  function_busy: [429, 'no', 'retry'],
  too_many_waiters: [429, 'no', 'retry'],
  too_many_in_flight: [429, 'no', 'retry'],
  too_many_calls: [503, 'no', 'retry'],
  spool_full: [503, 'no', 'retry'],
  draining: [503, 'no', 'retry'],
  spawner_unavailable: [503, 'no', 'retry'],
  internal: [500, 'unknown'],
};

export interface ProblemResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** The problem document of a response that must be this refusal, in all that a master goes by. */
export function problemOf(response: ProblemResponse, code: ErrorCode): Record<string, unknown> {
  const [status, started, retry] = problems[code];
  const problem = JSON.parse(response.text) as Record<string, unknown>;
  expect(problem).to.include({code, status, started});
  expect(response.status).to.equal(status);
  expect(response.headers['content-type']).to.equal('application/problem+json');
  expect(response.headers['noded-protocol']).to.equal('1');
  expect(response.headers['noded-instance']).to.match(/^[0-9a-f-]+:\d+:\d+$/);
  expect(problem.detail).to.be.a('string').that.is.not.empty;
  expect(problem.title).to.be.a('string').that.is.not.empty;
  if (retry === undefined) {
    expect(problem).not.to.have.property('retry_after');
    expect(response.headers).not.to.have.property('retry-after');
  } else {
    expect(problem.retry_after).to.be.a('number');
    expect(Number(response.headers['retry-after'])).to.equal(Math.ceil(problem.retry_after as number));
  }
  return problem;
}
