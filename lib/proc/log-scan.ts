/**
 * What the lines of a log are about, without reading them: at a start it is enough to know which calls and which request
 * IDs there are. The members that are looked for stand where noded writes them (doc/formats.md, "The log"); of a line in
 * another order all is read.
 */
import {parseLine} from '../call/journal';
import {headChars, keyAt, keyChars, lineEnd, lineStarts} from './log-lines';

/** All that is known of a call before its lines are read. */
export interface Trace {
  readonly key: string;
  /** The last of its lines, by number among all. */
  lastLine: number;
  requestId: string | null;
  role: string;
  /** Of its `accepted` line, or of its tombstone: seconds by the wall clock. */
  time: number;
  isAccepted: boolean;
  isBuried: boolean;
  /** Its end and its output need no look at a file: its outcome is on file, or the output itself. */
  isComplete: boolean;
  /** Its place in order of acceptance, from 1 on; 0 until that is known. */
  order: number;
  /** It has ended, and its lines will be read when somebody asks for it, or when it is its turn. */
  isUnread: boolean;
}

/** Where a line stands: the segment, and its offset there. */
export interface Place {
  readonly segment: number;
  readonly offset: number;
}

const eventAt = headChars + '{"event":"'.length;
const [quote, comma, a, b, e, o] = [...'",abeo'].map((char) => char.charCodeAt(0)) as [number, number, number, number, number, number];
const firstOf = (event: string): string => `{"event":"${event}","request_id":`;
const roleMember = Buffer.from(',"role":"');
const timeMember = Buffer.from('","time":');
const stdoutMember = Buffer.from('"stdout":"');
const stderrMember = Buffer.from('"stderr":"');

/** The calls of a log, and where their lines are: some bytes a line, for there are millions. */
export class Traces {
  private readonly byKey = new Map<string, Trace>();
  /** Of each line: its segment, its offset there, and the number of the line of its call before it, or -1. */
  private lines = new Uint32Array(3 * 1024);
  private count = 0;

  get(key: string): Trace | undefined {
    return this.byKey.get(key);
  }

  all(): IterableIterator<Trace> {
    return this.byKey.values();
  }

  /** In the order in which they were scanned. */
  placesOf({lastLine}: Trace): readonly Place[] {
    const places: Place[] = [];
    for (let line = lastLine; line !== -1; line = this.lines[3 * line + 2]! | 0) places.push({segment: this.lines[3 * line]!, offset: this.lines[3 * line + 1]!});
    return places.reverse();
  }

  /** Notes the whole lines of a segment; `damaged` is told of each other one. */
  scan(number: number, segment: Buffer, damaged: () => void): void {
    let trace: Trace | undefined;
    let before = 0;
    for (const at of lineStarts(segment, damaged)) {
      // The lines of a short call stand side by side.
      if (trace === undefined || !isSameKey(segment, before, at)) trace = this.traceOf(segment.toString('latin1', at + keyAt, at + keyAt + keyChars));
      this.add(trace, number, at);
      note(trace, segment, at, lineEnd(segment, at));
      before = at;
    }
  }

  private traceOf(key: string): Trace {
    let trace = this.byKey.get(key);
    if (trace === undefined) this.byKey.set(key, (trace = {key, lastLine: -1, requestId: null, role: '', time: 0, isAccepted: false, isBuried: false, isComplete: false, order: 0, isUnread: false}));
    return trace;
  }

  private add(trace: Trace, segment: number, offset: number): void {
    const at = 3 * this.count;
    if (at === this.lines.length) {
      const lines = new Uint32Array(2 * at);
      lines.set(this.lines);
      this.lines = lines;
    }
    this.lines[at] = segment;
    this.lines[at + 1] = offset;
    this.lines[at + 2] = trace.lastLine;
    trace.lastLine = this.count;
    this.count += 1;
  }
}

function isSameKey(segment: Buffer, one: number, other: number): boolean {
  for (let index = keyAt + keyChars - 1; index >= keyAt; index -= 1) if (segment[one + index] !== segment[other + index]) return false;
  return true;
}

function note(trace: Trace, segment: Buffer, at: number, end: number): void {
  if (end - at <= eventAt) return;
  const first = segment[at + eventAt];
  if (first === a) {
    trace.isAccepted = true;
    if (!trace.isBuried) identify(trace, 'accepted', segment, at, end);
  } else if (first === b) {
    trace.isBuried = true;
    identify(trace, 'buried', segment, at, end);
  } else if (first === o) {
    trace.isComplete = true;
  } else if (first === e && !trace.isComplete && segment[end - 3] === quote) {
    // The last member of a line with output is text; few others are that.
    trace.isComplete = has(segment, stdoutMember, at, end) || has(segment, stderrMember, at, end);
  }
}

const has = (segment: Buffer, member: Buffer, at: number, end: number): boolean => segment.subarray(at, end).includes(member);

/** Request ID, role and time. */
function identify(trace: Trace, event: string, segment: Buffer, at: number, end: number): void {
  const idAt = at + headChars + firstOf(event).length;
  const isText = segment[idAt] === quote;
  const idEnd = isText ? segment.indexOf(quote, idAt + 1) : segment.indexOf(comma, idAt);
  const roleAt = idEnd + (isText ? 1 : 0) + roleMember.length;
  const roleEnd = segment.indexOf(quote, roleAt);
  const timeAt = roleEnd + timeMember.length;
  const timeEnd = segment.indexOf(comma, timeAt);
  const isPlain = idEnd > 0 && roleEnd > 0 && timeEnd > 0 && timeEnd < end && segment.compare(roleMember, 0, roleMember.length, roleAt - roleMember.length, roleAt) === 0 && segment.compare(timeMember, 0, timeMember.length, roleEnd, timeAt) === 0;
  const role = isPlain ? segment.toString('utf8', roleAt, roleEnd) : '\\';
  // An escape, of a quote perhaps.
  if (role.includes('\\')) return identifyByAll(trace, segment.toString('utf8', at + headChars, end));
  trace.requestId = isText ? segment.toString('latin1', idAt + 1, idEnd) : null;
  trace.role = role;
  trace.time = Number(segment.toString('latin1', timeAt, timeEnd));
}

function identifyByAll(trace: Trace, json: string): void {
  const {request_id: requestId, role, time} = parseLine(json) ?? {};
  trace.requestId = typeof requestId === 'string' ? requestId : null;
  trace.role = typeof role === 'string' ? role : '';
  trace.time = typeof time === 'number' ? time : 0;
}
