/**
 * Validates JSON and finds the members of an object without building values: a text of 64 MiB is checked in chunks,
 * and arguments and results stay the bytes they came as. The grammar is data (NEXT), the class walks it. Whatever the
 * chunks, the error reported is the first one in the text: only whole and valid characters are scanned, and `#fail`
 * knows of names that are measured late.
 */
import { isUtf8 } from 'node:buffer';

/** One member's value in the scanned bytes: `start` inclusive, `end` exclusive, offsets from the first byte written. */
export interface Span { readonly start: number; readonly end: number }

export interface Member extends Span { readonly name: string /* decoded: its escapes are resolved */ }

/** `maxDepth`: how many containers may lie in each other. `members`: record those of the top-level object. */
export interface ScanOptions { readonly maxDepth: number; readonly members?: boolean }

type Kind = 'object' | 'array' | 'string' | 'number' | 'boolean' | 'null' | 'empty';

export type ScanResult =
  /** `empty`: white space or nothing, its span is 0 to 0. Members are in order, duplicates included. */
  | { readonly valid: true; readonly kind: Kind; readonly span: Span; readonly members: readonly Member[] }
  | { readonly valid: false; readonly reason: string; readonly offset: number };

const MAX_NAME_BYTES = 256, MAX_MEMBERS = 64;
const NAME_OVER = `a member name over ${MAX_NAME_BYTES} bytes`;

// States. A value is looked for, and its span is kept (the text's own value, a recorded member's) or not.
const WATCHED = 0, VALUE = 1;
// After '[': a value or ']'. After '{': a name or '}'. After ',' in an object: a name. After a name: ':'.
const FIRST_ELEMENT = 2, FIRST_NAME = 3, NEXT_NAME = 4, COLON = 5;
// After a value: ',' or ']'; ',' or '}'; white space only. The stack says which: a wrong bracket finds no transition.
const AFTER_ELEMENT = 6, AFTER_MEMBER = 7, DONE = 8;
// In a number: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
const MINUS = 9, ZERO = 10, INTEGER = 11, POINT = 12, FRACTION = 13, EXPONENT = 14, SIGN = 15, POWER = 16;
// The first of several states each: a literal has one per letter still to come, a string six (see stringRows).
const TRUE = 17, FALSE = 20, NULL = 24, STRING = 27, NAME = 33, LAST_STATE = 38;
const FAILED = 0xff; // has no row: nothing is scanned after it

// Actions. The last two leave the byte to the state they lead to.
const END_VALUE = 39, OPEN_ARRAY = 40, OPEN_OBJECT = 41, CLOSE = 42, BEGIN_NAME = 43, END_NAME = 44, BEGIN_VALUE = 45;
const CONTROL_CHARACTER = 46, BAD_ESCAPE = 47, SECOND_VALUE = 48, UNEXPECTED = 49;
const BEGIN_WATCHED = 50, END_NUMBER = 51, FIRST_REREAD = 50;
const ERRORS: Readonly<Record<number, string>> = {
  [CONTROL_CHARACTER]: 'a control character inside a string',
  [BAD_ESCAPE]: 'a bad escape inside a string',
  [SECOND_VALUE]: 'a second value',
  [UNEXPECTED]: 'unexpected byte',
};

const KIND: Readonly<Record<string, Kind>> = { // by a value's first byte; all others begin a number
  '{': 'object', '[': 'array', '"': 'string', t: 'boolean', f: 'boolean', n: 'null',
};
const SPACE = ' \t\n\r';
const DIGITS = '0123456789';
const BEGINS_VALUE = `[{"-${DIGITS}tfn`;

// For every state and byte, the state that follows or an action.
const NEXT = new Uint8Array((LAST_STATE + 1) << 8).fill(UNEXPECTED);
const WANTED = [VALUE, FIRST_ELEMENT];
const SETTLED = [WATCHED, ...WANTED, FIRST_NAME, NEXT_NAME, COLON, AFTER_ELEMENT, AFTER_MEMBER, DONE];
for (const state of SETTLED) on([state], SPACE, state);
on([WATCHED], BEGINS_VALUE, BEGIN_WATCHED);
on([DONE], BEGINS_VALUE, SECOND_VALUE);
on(WANTED, '[', OPEN_ARRAY);
on(WANTED, '{', OPEN_OBJECT);
on(WANTED, '"', STRING);
on([FIRST_ELEMENT, AFTER_ELEMENT], ']', CLOSE);
on([FIRST_NAME, AFTER_MEMBER], '}', CLOSE);
on([FIRST_NAME, NEXT_NAME], '"', BEGIN_NAME);
on([COLON], ':', BEGIN_VALUE);
on([AFTER_ELEMENT], ',', VALUE);
on([AFTER_MEMBER], ',', NEXT_NAME);
on(WANTED, '-', MINUS);
on([...WANTED, MINUS, INTEGER], DIGITS, INTEGER);
on([...WANTED, MINUS], '0', ZERO);
on([ZERO, INTEGER], '.', POINT);
on([POINT, FRACTION], DIGITS, FRACTION);
on([ZERO, INTEGER, FRACTION], 'eE', EXPONENT);
on([EXPONENT], '+-', SIGN);
on([EXPONENT, SIGN, POWER], DIGITS, POWER);
on([ZERO, INTEGER, FRACTION, POWER], `${SPACE},]}`, END_NUMBER);
literalRows('true', TRUE);
literalRows('false', FALSE);
literalRows('null', NULL);
stringRows(STRING, END_VALUE);
stringRows(NAME, END_NAME);

function on(states: readonly number[], bytes: string, next: number): void {
  for (const state of states) for (const byte of Buffer.from(bytes)) NEXT[(state << 8) | byte] = next;
}

function literalRows(literal: string, first: number): void {
  on(WANTED, literal.charAt(0), first);
  const last = literal.length - 1;
  for (let i = 1; i <= last; i++) on([first + i - 1], literal.charAt(i), i === last ? END_VALUE : first + i);
}

/** Six states: inside, after a backslash, before each of the four digits of \u. */
function stringRows(inside: number, end: number): void {
  const [escape, digit] = [inside + 1, inside + 2];
  NEXT.fill(CONTROL_CHARACTER, inside << 8, (inside << 8) + 0x20);
  NEXT.fill(inside, (inside << 8) + 0x20, escape << 8);
  NEXT.fill(BAD_ESCAPE, escape << 8, (digit + 4) << 8);
  on([inside], '"', end);
  on([inside], '\\', escape);
  on([escape], '"\\/bfnrt', inside);
  on([escape], 'u', digit);
  for (let i = 0; i < 4; i++) on([digit + i], `${DIGITS}abcdefABCDEF`, i === 3 ? inside : digit + i + 1);
}

/** Bytes of the character that `lead` begins. A byte that begins none counts for itself; isUtf8 refuses it. */
function characterLength(lead: number): number {
  if (lead < 0xc0 || lead >= 0xf8) return 1;
  return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/** How many of the last bytes, at most 3, begin a character that goes on behind them. */
function unfinishedTail(bytes: Uint8Array): number {
  for (let length = 1; length <= 3 && length <= bytes.length; length++) {
    const byte = bytes[bytes.length - length]!;
    if ((byte & 0xc0) !== 0x80) return characterLength(byte) > length ? length : 0;
  }
  return 0;
}

export class JsonScanner {
  readonly #options: ScanOptions;
  /** By depth, the state after a value there: all that is remembered of an open container. */
  readonly #after: Uint8Array;
  #state = WATCHED;
  #depth = 0;
  /** Values down to this depth are watched: 0, or 1 in an object whose members are wanted. */
  #watchedDepth = 0;
  /** Offset of the bytes that are being scanned. */
  #base = 0;
  /** A character cut by the end of a chunk; it is scanned once it is whole. */
  readonly #cut = new Uint8Array(4);
  #cutLength = 0;
  #kind: Kind = 'empty';
  /** By depth, where the watched value begins. */
  readonly #starts: [number, number] = [0, 0];
  #end = 0;
  readonly #members: Member[] = [];
  /** Of the name being recorded: where it begins behind its quote (-1: there is none), its bytes as they stand. */
  #nameStart = -1;
  readonly #nameBytes: Buffer;
  #name = '';
  #failure: ScanResult | undefined;

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#after = new Uint8Array(options.maxDepth + 1);
    this.#after[0] = DONE;
    this.#nameBytes = Buffer.alloc(options.members === true ? MAX_NAME_BYTES : 0);
  }

  /** Keeps no reference to `chunk`. */
  write(chunk: Uint8Array): void {
    if (this.#failure !== undefined) return;
    let from = 0;
    while (this.#cutLength > 0 && from < chunk.length) {
      this.#cut[this.#cutLength++] = chunk[from++]!;
      if (this.#cutLength < characterLength(this.#cut[0]!)) continue;
      this.#check(this.#cut.subarray(0, this.#cutLength));
      this.#cutLength = 0;
    }
    if (from === chunk.length) return;
    const rest = chunk.subarray(from);
    const length = rest.length - unfinishedTail(rest);
    this.#cut.set(rest.subarray(length));
    this.#cutLength = rest.length - length;
    this.#check(rest.subarray(0, length));
  }

  end(): ScanResult {
    const end = this.#base;
    if (this.#cutLength > 0) this.#fail('invalid UTF-8', end);
    // A number has no last byte of its own: it ends where white space would end it.
    if (NEXT[(this.#state << 8) | 0x20] === END_NUMBER) this.#state = this.#endValue(end);
    if (this.#state !== DONE && this.#kind !== 'empty') this.#fail(`text ends inside ${this.#innermost()}`, end);
    const span = { start: this.#starts[0], end: this.#end };
    return this.#failure ?? { valid: true, kind: this.#kind, span, members: this.#members };
  }

  #innermost(): string {
    if (this.#state >= STRING) return 'a string';
    if (this.#state >= MINUS) return this.#state >= TRUE ? 'a literal' : 'a number';
    return this.#after[this.#depth] === AFTER_MEMBER ? 'an object' : 'an array';
  }

  /** Scans whole characters. A bad one is found by halving, so that what lies before it is scanned first. */
  #check(bytes: Uint8Array): void {
    if (this.#failure !== undefined) return;
    if (isUtf8(bytes)) return this.#scan(bytes);
    const first = characterLength(bytes[0]!);
    if (bytes.length <= first) return void this.#fail('invalid UTF-8', this.#base);
    const half = bytes.subarray(0, Math.max(first, bytes.length >>> 1));
    const length = half.length - unfinishedTail(half);
    this.#check(bytes.subarray(0, length));
    this.#check(bytes.subarray(length));
  }

  #scan(bytes: Uint8Array): void {
    const table = NEXT, length = bytes.length;
    let state = this.#state;
    for (let i = 0; i < length; i++) {
      const next = table[(state << 8) | bytes[i]!]!;
      // Its own branch for speed: inside strings and digits no byte then waits for the state the last one led to.
      if (next === state) continue;
      state = next <= LAST_STATE ? next : this.#act(next, bytes, i);
      if (state === FAILED) return;
      if (next >= FIRST_REREAD) i--;
    }
    this.#state = state;
    this.#keepName(bytes, length);
    this.#base += length;
  }

  /** Returns the state that follows. */
  #act(action: number, bytes: Uint8Array, i: number): number {
    const offset = this.#base + i;
    switch (action) {
      case BEGIN_WATCHED: return this.#beginWatched(bytes[i]!, offset);
      case END_NUMBER: return this.#endValue(offset);
      case END_VALUE: return this.#endValue(offset + 1);
      case OPEN_ARRAY: return this.#open(AFTER_ELEMENT, FIRST_ELEMENT, offset);
      case OPEN_OBJECT: return this.#open(AFTER_MEMBER, FIRST_NAME, offset);
      case CLOSE:
        this.#depth--;
        return this.#endValue(offset + 1);
      case BEGIN_NAME: return this.#beginName(offset);
      case END_NAME: return this.#endName(bytes, i);
      case BEGIN_VALUE: return this.#depth <= this.#watchedDepth ? WATCHED : VALUE;
      default: return this.#fail(ERRORS[action]!, offset);
    }
  }

  #beginWatched(byte: number, offset: number): number {
    if (this.#depth === 0) {
      this.#kind = KIND[String.fromCharCode(byte)] ?? 'number';
      if (this.#options.members === true && this.#kind === 'object') this.#watchedDepth = 1;
    }
    this.#starts[this.#depth] = offset;
    return VALUE;
  }

  #endValue(end: number): number {
    if (this.#depth === 0) this.#end = end;
    else if (this.#depth <= this.#watchedDepth) this.#members.push({ name: this.#name, start: this.#starts[1], end });
    return this.#after[this.#depth]!;
  }

  #open(after: number, inside: number, offset: number): number {
    if (this.#depth === this.#options.maxDepth) return this.#fail(`nesting over ${this.#depth}`, offset);
    this.#after[++this.#depth] = after;
    return inside;
  }

  #beginName(offset: number): number {
    if (this.#depth > this.#watchedDepth) return NAME;
    if (this.#members.length === MAX_MEMBERS) return this.#fail(`over ${MAX_MEMBERS} members`, offset);
    this.#nameStart = offset + 1;
    return NAME;
  }

  #endName(bytes: Uint8Array, i: number): number {
    if (this.#nameStart < 0) return COLON;
    this.#keepName(bytes, i);
    if (this.#failure !== undefined) return FAILED;
    this.#name = JSON.parse(`"${this.#nameBytes.toString('utf8', 0, this.#base + i - this.#nameStart)}"`) as string;
    this.#nameStart = -1;
    return COLON;
  }

  /** Keeps the part of the recorded name, if there is one, that lies in `bytes` before `end`. */
  #keepName(bytes: Uint8Array, end: number): void {
    if (this.#nameStart < 0) return;
    const from = Math.max(this.#nameStart - this.#base, 0);
    const kept = this.#base + from - this.#nameStart;
    if (kept + end - from > MAX_NAME_BYTES) this.#fail(NAME_OVER, this.#base + end);
    else this.#nameBytes.set(bytes.subarray(from, end), kept);
  }

  /** A name is measured where it or the chunk ends; an error further on in an overlong one must not come first. */
  #fail(reason: string, offset: number): number {
    const nameEnd = this.#nameStart + MAX_NAME_BYTES;
    const over = this.#nameStart >= 0 && offset > nameEnd;
    this.#failure ??= { valid: false, reason: over ? NAME_OVER : reason, offset: over ? nameEnd : offset };
    return FAILED;
  }
}

/** Scans a whole text at once. */
export function scanJson(text: Uint8Array, options: ScanOptions): ScanResult {
  const scanner = new JsonScanner(options);
  scanner.write(text);
  return scanner.end();
}
