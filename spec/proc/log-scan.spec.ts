import {expect} from 'chai';
import * as fc from 'fast-check';
import {acceptedLine, endedLine, parseLine, startedLine, stoppingLine} from '../../lib/call/journal';
import {tombstoneLine} from '../../lib/call/tombstones';
import {lineAt, sealLine, segmentHead} from '../../lib/proc/log-lines';
import {Traces} from '../../lib/proc/log-scan';
import type {Trace} from '../../lib/proc/log-scan';
import {acceptance} from '../support/fake-host';

const key = '0123456789abcdef';
const at = {atMs: 1_764_670_000_123, boot: null};
const scanned = (lines: readonly string[]): Traces => {
  const traces = new Traces();
  traces.scan(7, Buffer.from(`${segmentHead}\n${lines.map((line) => sealLine(key, line)).join('')}`), () => expect.fail('none is damaged'));
  return traces;
};
const scan = (lines: readonly string[]): Trace => scanned(lines).get(key)!;

describe('a look through the log', () => {
  const accepted = acceptedLine(acceptance({key, requestId: 'request-1', acceptedAtMs: at.atMs}), false);
  const ended = endedLine({exitCode: 0, signal: null, ...at});
  const buried = tombstoneLine({key, callId: `1:0:1764670000.000:${key}`, fnName: 'f', role: 'master', requestId: 'request-1', outcome: 'ok', buriedAtMs: at.atMs, buriedBoot: null});
  const facts = (lines: readonly string[]): object => {
    const {isAccepted, isBuried, isComplete} = scan(lines);
    return {isAccepted, isBuried, isComplete};
  };
  const running = {isAccepted: true, isBuried: false, isComplete: false};

  for (const [what, lines, expected] of [
    ['runs', [accepted, startedLine({pid: 1, startTime: 2, bootId: 'b', ...at})], running],
    ['is being stopped', [accepted, stoppingLine('aborted', 'master', 1)], running],
    ['has ended, and has files', [accepted, ended], running],
    ['has died of a signal, and has files', [accepted, endedLine({exitCode: null, signal: 'SIGKILL', ...at})], running],
    ['could not be started', [accepted, endedLine({errno: 'ENOENT', stage: 'exec', ...at})], running],
    ['has ended, and its output stands there', [accepted, endedLine({exitCode: 0, signal: null, noted: {stdout: '[1]', stderr: ''}, ...at})], {...running, isComplete: true}],
    ['has ended, and all that it wrote was to stderr', [accepted, '{"event":"ended","exit_code":0,"signal":null,"stderr":"x"}'], {...running, isComplete: true}],
    ['has an outcome', ['{"event":"outcome","outcome":"ok"}', accepted, ended], {...running, isComplete: true}],
    ['is gone', [accepted, ended, buried], {...running, isBuried: true}],
    ['has lines of a later noded', [accepted, '{"event":"hibernating"}', '{}', '5'], running],
  ] as const) {
    it(`tells of a call that ${what}`, () => expect(facts(lines)).to.deep.equal(expected));
  }

  it('tells where the lines of a call are', () => {
    const traces = new Traces();
    const keyOf = (number: number): string => number.toString(16).padStart(16, '0');
    const first = Buffer.from(`${segmentHead}\n${Array.from({length: 2000}, (_none, number) => sealLine(keyOf(number), accepted)).join('')}`);
    const second = Buffer.from(`${segmentHead}\n${sealLine(keyOf(5), ended)}${sealLine(keyOf(5), ended)}`);
    for (const [number, segment] of [first, second].entries()) traces.scan(number, segment, () => expect.fail('none is damaged'));
    const lines = traces.placesOf(traces.get(keyOf(5))!).map(({segment, offset}) => [segment, lineAt([first, second][segment]!, offset)?.json]);
    expect(lines).to.deep.equal([[0, accepted], [1, ended], [1, ended]]);
    expect([...traces.all()]).to.have.length(2000);
    expect(traces.placesOf(traces.get(keyOf(1999))!)).to.have.length(1);
  });

  it('tells request ID, role and time, whatever they are and in whatever order they stand', () => {
    const arbitrary = fc.record({request_id: fc.option(fc.stringMatching(/^[\w.:-]{8,20}$/)), role: fc.string(), time: fc.integer({min: 0, max: 4_102_444_800_000}).map((ms) => ms / 1000)});
    fc.assert(
      fc.property(arbitrary, fc.constantFrom('accepted', 'buried'), fc.boolean(), ({request_id: requestId, role, time}, event, plain) => {
        const line = plain ? {event, request_id: requestId, role, time, more: 1} : {event, more: ',"role":"', time, role, request_id: requestId};
        expect(scan([JSON.stringify(line)])).to.deep.include({requestId, role, time});
      }),
    );
    expect(scan([accepted])).to.deep.include({requestId: 'request-1', role: 'master', time: (parseLine(accepted) as {time: number}).time});
    expect(scan([accepted, buried.replace('request-1', 'request-2'), accepted])).to.include({requestId: 'request-2'});
  });

  it('of what is no line, or half of one, does not throw', () => {
    const whole = Buffer.from(`${segmentHead}\n${sealLine(key, accepted)}`);
    const torn = fc.property(fc.uint8Array({maxLength: 200}), fc.nat(500), (bytes, length) => {
      const segment = Buffer.concat([whole.subarray(0, length), bytes]);
      const isMended = segment.subarray(0, whole.length).equals(whole);
      const traces = new Traces();
      let damaged = 0;
      traces.scan(1, segment, () => (damaged += 1));
      expect([...traces.all()].map((trace) => trace.key)).to.deep.equal(isMended ? [key] : []);
      if (length > segmentHead.length + 1 && !isMended) expect(damaged).to.be.greaterThan(0);
    });
    const emptied = segmentHead.length + 1;
    fc.assert(torn, {examples: [[Uint8Array.of(), emptied + 1], [Uint8Array.of(10), emptied + 1], [Uint8Array.of(10), whole.length - 1]]});
    expect(scan(['{"event":"accepted","request_id":5,"time":"x"}'])).to.deep.include({requestId: null, role: '', time: 0});
  });
});
