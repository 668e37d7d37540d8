import { expect } from 'chai';
import * as fc from 'fast-check';
import { JsonScanner, scanJson, type ScanOptions, type ScanResult } from '../../lib/rpc/json-scan';

const OPTIONS: ScanOptions = { maxDepth: 128, members: true };

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

function scan(text: string, options: ScanOptions = OPTIONS): ScanResult {
  return scanJson(Buffer.from(text), options);
}

function scanInChunks(chunks: Iterable<Uint8Array>, options: ScanOptions = OPTIONS): ScanResult {
  const scanner = new JsonScanner(options);
  for (const chunk of chunks) {
    // A copy that is wiped afterwards: the scanner must not keep a view of it.
    const copy = Uint8Array.from(chunk);
    scanner.write(copy);
    copy.fill(0x22);
  }
  return scanner.end();
}

/** Cuts `text` after `sizes[0]`, `sizes[1]`, … bytes, over and over. */
function* cut(text: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  for (let start = 0, i = 0; start < text.length; i++) {
    const size = sizes[i % sizes.length] ?? text.length;
    yield text.subarray(start, start + size);
    start += size;
  }
}

/** The same result at once, cut in two anywhere, and byte by byte. */
function scanEveryWay(text: Uint8Array, options: ScanOptions = OPTIONS): ScanResult {
  const whole = scanJson(text, options);
  for (let at = 0; at <= text.length; at++) {
    expect(scanInChunks([text.subarray(0, at), text.subarray(at)], options), `cut at ${at}`).to.deep.equal(whole);
  }
  expect(scanInChunks(cut(text, [1]), options), 'byte by byte').to.deep.equal(whole);
  return whole;
}

function parse(text: Uint8Array): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text)) as unknown };
  } catch {
    return undefined;
  }
}

function spanOf(text: Uint8Array, span: { readonly start: number; readonly end: number }): string {
  return Buffer.from(text.subarray(span.start, span.end)).toString();
}

const VALID: readonly string[] = [
  '{}', '[]', '""', '0', '-0', 'true', 'false', 'null', ' \t\r\n1 \t\r\n', '[ ]', '{ }', ' [ 1 , 2 ] ',
  '1', '-1', '10', '-123', '1.5', '0.0', '-0.0e-0', '1e5', '1E5', '1e+5', '1e-5', '0e0', '0E+9', '123.456e78',
  '1e999', '-1e999', '1e-999', '123456789012345678901234567890', '[0,1,20,-3.5,4e1]', '{"a":0,"b":1e1}', '[1 ]',
  '"a"', '" "', '"\u007f"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u0000"', '"\\u12aB\\uFFFF"', '"\\ud83d\\ude00"',
  '"\\ud800"', '"\\udc00\\ud800"', '"ä€😀"', '"\u2028\u2029"', '"\ufeff"', '"\uffff"', '"/*x*/"',
  '[[]]', '[[],[[]],{}]', '{"a":{"b":{"c":[]}}}', '[null,true,false,"x",{},[]]', '{"":1}', '{"a":1,"a":2}',
  '{"a" : 1 , "b" :\n[ ] }', '{"fn\\u005fname":"x","ä€😀":{"x":1}}',
  '{"\\ud800":1}', '{"\\"\\\\":"}"}', '{"__proto__":1}',
];

const INVALID: readonly (readonly [text: string, reason: string, offset: number])[] = [
  ['[', 'text ends inside an array', 1], ['{', 'text ends inside an object', 1], ['[1', 'text ends inside an array', 2],
  ['[1,', 'text ends inside an array', 3], ['{"a"', 'text ends inside an object', 4],
  ['{"a":', 'text ends inside an object', 5], ['{"a":1', 'text ends inside an object', 6],
  ['{"a":1,', 'text ends inside an object', 7], ['[{}', 'text ends inside an array', 3],
  ['{"a":[]', 'text ends inside an object', 7],
  ['"', 'text ends inside a string', 1], ['"abc', 'text ends inside a string', 4],
  ['"\\', 'text ends inside a string', 2],
  ['"\\u12', 'text ends inside a string', 5], ['"\\"', 'text ends inside a string', 3],
  ['{"a', 'text ends inside a string', 3],
  ['-', 'text ends inside a number', 1], ['1.', 'text ends inside a number', 2], ['1e', 'text ends inside a number', 2],
  ['1e+', 'text ends inside a number', 3], ['tru', 'text ends inside a literal', 3],
  ['f', 'text ends inside a literal', 1],
  ['nul', 'text ends inside a literal', 3],
  ['1 2', 'a second value', 2], ['{}{}', 'a second value', 2], ['"a""b"', 'a second value', 3],
  ['true false', 'a second value', 5],
  ['null[', 'a second value', 4], ['[]1', 'a second value', 2], ['{} -', 'a second value', 3],
  [']', 'unexpected byte', 0], ['}', 'unexpected byte', 0], [',', 'unexpected byte', 0], [':', 'unexpected byte', 0],
  ['[]]', 'unexpected byte', 2], ['[}', 'unexpected byte', 1], ['{]', 'unexpected byte', 1],
  ['[1}', 'unexpected byte', 2],
  ['{"a":1]', 'unexpected byte', 6], ['[,1]', 'unexpected byte', 1], ['[1,]', 'unexpected byte', 3],
  ['[1,,2]', 'unexpected byte', 3], ['[1 2]', 'unexpected byte', 3], ['["a" "b"]', 'unexpected byte', 5],
  ['{,}', 'unexpected byte', 1], ['{"a":1,}', 'unexpected byte', 7], ['{"a":1,,}', 'unexpected byte', 7],
  ['{"a"}', 'unexpected byte', 4], ['{"a",1}', 'unexpected byte', 4], ['{"a":}', 'unexpected byte', 5],
  ['{"a"::1}', 'unexpected byte', 5], ['{"a":1 "b":2}', 'unexpected byte', 7], ['{a:1}', 'unexpected byte', 1],
  ['{1:1}', 'unexpected byte', 1], ["{'a':1}", 'unexpected byte', 1], ['[a', 'unexpected byte', 1],
  ['01', 'unexpected byte', 1], ['-01', 'unexpected byte', 2], ['[-]', 'unexpected byte', 2],
  ['--1', 'unexpected byte', 1],
  ['+1', 'unexpected byte', 0], ['.5', 'unexpected byte', 0], ['-.5', 'unexpected byte', 1],
  ['[1.]', 'unexpected byte', 3],
  ['1.e1', 'unexpected byte', 2], ['1.5.5', 'unexpected byte', 3], ['[1e]', 'unexpected byte', 3],
  ['1ee1', 'unexpected byte', 2],
  ['1e1.5', 'unexpected byte', 3], ['1e++1', 'unexpected byte', 3], ['0x10', 'unexpected byte', 1],
  ['1_000', 'unexpected byte', 1],
  ['1a', 'unexpected byte', 1], ['0e', 'text ends inside a number', 2], ['-Infinity', 'unexpected byte', 1],
  ['NaN', 'unexpected byte', 0], ['Infinity', 'unexpected byte', 0], ['nan', 'unexpected byte', 1],
  ['True', 'unexpected byte', 0], ['trUe', 'unexpected byte', 2], ['truee', 'unexpected byte', 4],
  ['t rue', 'unexpected byte', 1],
  ['falsy', 'unexpected byte', 4], ['undefined', 'unexpected byte', 0], ["'a'", 'unexpected byte', 0],
  ['"\\x41"', 'a bad escape inside a string', 2], ['"\\U0041"', 'a bad escape inside a string', 2],
  ['"\\\'"', 'a bad escape inside a string', 2], ['"\\ "', 'a bad escape inside a string', 2],
  ['"\\\n"', 'a bad escape inside a string', 2], ['"\\u00g0"', 'a bad escape inside a string', 5],
  ['"\\u"', 'a bad escape inside a string', 3], ['"\\u123"', 'a bad escape inside a string', 6],
  ['"\\ud83d\\u"', 'a bad escape inside a string', 9], ['"\\ä"', 'a bad escape inside a string', 2],
  ['{"\\q":1}', 'a bad escape inside a string', 3],
  ['"\n"', 'a control character inside a string', 1], ['"a\tb"', 'a control character inside a string', 2],
  ['"\u0000"', 'a control character inside a string', 1], ['"\u001f"', 'a control character inside a string', 1],
  ['{"\r":1}', 'a control character inside a string', 2],
  ['\ufeff{}', 'unexpected byte', 0], ['\u00a01', 'unexpected byte', 0], ['[\u20281]', 'unexpected byte', 1],
  ['\f1', 'unexpected byte', 0], ['1\v', 'unexpected byte', 1], ['\u0000', 'unexpected byte', 0],
  ['[1\u0000]', 'unexpected byte', 2],
  ['// x\n1', 'unexpected byte', 0], ['1 /* x */', 'unexpected byte', 2], ['#', 'unexpected byte', 0],
  ['[1]ä', 'unexpected byte', 3],
  ['[1]\u0003', 'unexpected byte', 3],
];

/** Written as Latin-1: one character, one byte. */
const NOT_UTF8: readonly (readonly [what: string, text: string, offset: number])[] = [
  ['a lone continuation byte', '"\x80"', 1], ['0xff', '"\xff"', 1], ['0xfe at the beginning', '\xfe[]', 0],
  ['an overlong slash', '"\xc0\xaf"', 1], ['an overlong NUL of three bytes', '"\xe0\x80\x80"', 1],
  ['a surrogate', '"a\xed\xa0\x80"', 2], ['over U+10FFFF', '"\xf4\x90\x80\x80"', 1],
  ['a lead of five bytes', '"\xf8\x88\x80\x80\x80"', 1],
  ['two bytes short of three', '"\xe2"', 1], ['one byte short of three', '"\xe2\x82"', 1],
  ['one byte short of four', '"\xf0\x9f\x98"', 1], ['a lead before a lead', '"\xe2\xe2\x82\xac"', 1],
  ['Latin-1', '{"name":"J\xfcrgen"}', 10], ['UTF-16', '\xff\xfe1\x00', 0], ['in a name', '{"\xe9":1}', 2],
  ['outside of strings', '[1,\xe9]', 3], ['after the value', '[1] \xe9', 4],
  ['cut by the end, in a string', '"\xe2\x82', 1], ['cut by the end, outside', '[1]\xf0\x9f\x98', 3],
  ['cut by the end, nothing else', '\xc3', 0], ['after a whole character', '"\xc3\xa4\xc3"', 3],
  ['far inside', `"${'\xc3\xa4'.repeat(20)}\xc3(${'\xc3\xa4'.repeat(20)}"`, 41],
  ['twice', `"${'x'.repeat(20)}\xff${'\xc3\xa4'.repeat(20)}\xff"`, 21],
];

describe('rpc/json-scan: validation', () => {
  for (const text of VALID) {
    it(`accepts ${JSON.stringify(text)}`, () => {
      const bytes = Buffer.from(text);
      expect(parse(bytes)).to.not.equal(undefined);
      const result = scanEveryWay(bytes);
      if (!result.valid) throw new Error(`${result.reason} at ${result.offset}`);
      expect(spanOf(bytes, result.span)).to.equal(text.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, ''));
    });
  }

  for (const [text, reason, offset] of INVALID) {
    it(`refuses ${JSON.stringify(text)}: ${reason} at ${offset}`, () => {
      expect(parse(Buffer.from(text))).to.equal(undefined);
      expect(scanEveryWay(Buffer.from(text))).to.deep.equal({ valid: false, reason, offset });
    });
  }

  for (const [what, text, offset] of NOT_UTF8) {
    it(`refuses what is not UTF-8: ${what}`, () => {
      expect(parse(latin1(text))).to.equal(undefined);
      expect(scanEveryWay(latin1(text))).to.deep.equal({ valid: false, reason: 'invalid UTF-8', offset });
    });
  }

  // One place for each state: whatever byte stands there, JSON.parse decides.
  const places = [
    ['', ''], ['[', ']'], ['[', '1]'], ['[0', '1]'], ['[1', ']'], ['[1,', ']'], ['{', '}'], ['{', '"a":1}'],
    ['{"a":1,', '}'], ['{"a"', '1}'], ['{"a":', '}'], ['{"a":1', '}'], ['{"a":""', '}'], ['[]', ''], ['-', ''],
    ['0', ''], ['1', ''], ['1.', ''], ['1.0', ''], ['1e', ''], ['1e', '1'], ['1e-', ''], ['1e1', ''],
    ['"', '"'], ['"\\', '"'],
    ['"\\u', '000"'],
    ['"\\u0', '00"'], ['"\\u00', '0"'], ['"\\u000', '"'], ['{"', '":1}'], ['{"\\', '":1}'], ['{"\\u000', '":1}'],
    ['t', 'ue'], ['tr', 'e'], ['tru', ''], ['f', 'lse'], ['fa', 'se'], ['fal', 'e'], ['fals', ''],
    ['n', 'll'], ['nu', 'l'], ['nul', ''],
  ] as const;
  for (const [before, after] of places) {
    it(`agrees with JSON.parse on every byte between ${before} and ${after}`, () => {
      for (let byte = 0; byte < 256; byte++) {
        const text = Buffer.concat([Buffer.from(before), Buffer.of(byte), Buffer.from(after)]);
        const result = scanJson(text, OPTIONS);
        const accepted = result.valid && result.kind !== 'empty';
        expect(accepted, JSON.stringify(text.toString('latin1'))).to.equal(parse(text) !== undefined);
      }
    });
  }

  it('reports the first error where the text has several', () => {
    expect(scanEveryWay(latin1('[1,,\xff]'))).to.deep.equal({ valid: false, reason: 'unexpected byte', offset: 3 });
    expect(scanEveryWay(latin1('["\xff",,]'))).to.deep.equal({ valid: false, reason: 'invalid UTF-8', offset: 2 });
    expect(scanEveryWay(latin1('1}\xe2\x82'))).to.deep.equal({ valid: false, reason: 'unexpected byte', offset: 1 });
  });

  const kinds = [
    ['{}', 'object'], ['[]', 'array'], ['"x"', 'string'], ['-1', 'number'], ['7', 'number'],
    ['true', 'boolean'], ['false', 'boolean'], ['null', 'null'],
  ] as const;
  for (const [text, kind] of kinds) {
    it(`says that ${text} is of the kind ${kind}`, () => {
      const expected = { valid: true, kind, span: { start: 2, end: 2 + text.length }, members: [] };
      expect(scanEveryWay(Buffer.from(`\n ${text} `))).to.deep.equal(expected);
    });
  }

  for (const text of ['', ' ', '\n\t\r ']) {
    it(`says that ${JSON.stringify(text)} is empty`, () => {
      const expected = { valid: true, kind: 'empty', span: { start: 0, end: 0 }, members: [] };
      expect(scanEveryWay(Buffer.from(text))).to.deep.equal(expected);
    });
  }

  it('ends as often as it is asked to, with the same result', () => {
    for (const text of ['12', '{"a":1}', '{"a":1', '"\\', '\u00e4']) {
      const scanner = new JsonScanner(OPTIONS);
      scanner.write(Buffer.from(text));
      const first = scanner.end();
      expect(scanner.end()).to.deep.equal(first);
    }
  });

  it('ignores what is written after an error', () => {
    const scanner = new JsonScanner(OPTIONS);
    for (const text of ['[1}', '"', ']', '\u00e4']) scanner.write(Buffer.from(text));
    scanner.write(latin1('\xff'));
    expect(scanner.end()).to.deep.equal({ valid: false, reason: 'unexpected byte', offset: 2 });
  });
});

describe('rpc/json-scan: nesting', () => {
  const brackets = [['[', ']', ''], ['{"a":', '}', '1'], ['[{"a":[', ']}]', '']] as const;
  for (const [open, close, inner] of brackets) {
    const depth = open.replace(/[^[{]/g, '').length * 4;
    const text = Buffer.from(open.repeat(4) + inner + close.repeat(4));

    it(`accepts ${open} to a depth of exactly maxDepth`, () => {
      expect(scanEveryWay(text, { maxDepth: depth }).valid).to.equal(true);
    });

    it(`refuses ${open} one deeper`, () => {
      const offset = text.toString().search(/[[{][^[{]*$/);
      const expected = { valid: false, reason: `nesting over ${depth - 1}`, offset };
      expect(scanEveryWay(text, { maxDepth: depth - 1 })).to.deep.equal(expected);
    });
  }

  it('counts open containers, not all of them', () => {
    expect(scan(`[${'[[]],'.repeat(1000)}{}]`, { maxDepth: 3 }).valid).to.equal(true);
  });

  it('accepts no container at all with a maxDepth of 0', () => {
    expect(scan('[]', { maxDepth: 0 })).to.deep.equal({ valid: false, reason: 'nesting over 0', offset: 0 });
    expect(scan('1', { maxDepth: 0 }).valid).to.equal(true);
  });

  it('refuses 1,000,000 brackets at the first one too many', () => {
    const text = Buffer.alloc(1_000_000, '[');
    const expected = { valid: false, reason: 'nesting over 128', offset: 128 };
    expect(scanJson(text, OPTIONS)).to.deep.equal(expected);
    expect(scanInChunks(cut(text, [1000]))).to.deep.equal(expected);
  });

  it('goes as deep as it is allowed to without recursion', () => {
    const depth = 1_000_000;
    const text = Buffer.concat([Buffer.alloc(depth, '['), Buffer.alloc(depth, ']')]);
    expect(scanJson(text, { maxDepth: depth }).valid).to.equal(true);
  });
});

/** Every member as [name, text of its value]. */
function membersOf(text: Uint8Array): readonly (readonly [string, string])[] {
  const result = scanEveryWay(text);
  if (!result.valid) throw new Error(`${result.reason} at ${result.offset}`);
  return result.members.map((member) => [member.name, spanOf(text, member)] as const);
}

describe('rpc/json-scan: members', () => {
  it('finds those of the top-level object only, without the white space around the values', () => {
    const text = ' { "a" :1,"b": "x\\"}" ,"c":\t[ {"d": 1} ] , "e":{"f":{"g":2}}, "h" : -0.5e1 ,"i":true,"j":null } ';
    expect(membersOf(Buffer.from(text))).to.deep.equal([
      ['a', '1'], ['b', '"x\\"}"'], ['c', '[ {"d": 1} ]'], ['e', '{"f":{"g":2}}'],
      ['h', '-0.5e1'], ['i', 'true'], ['j', 'null'],
    ]);
  });

  it('counts offsets in bytes from the first one written', () => {
    const result = scan('{"\u00e4":1}');
    expect(result).to.have.deep.property('members', [{ name: '\u00e4', start: 6, end: 7 }]);
  });

  it('reports both of two members with one name', () => {
    expect(membersOf(Buffer.from('{"a":1,"a":2}'))).to.deep.equal([['a', '1'], ['a', '2']]);
    expect(membersOf(Buffer.from('{"a":1,"\\u0061":2}'))).to.deep.equal([['a', '1'], ['a', '2']]);
  });

  const names = [
    ['fn\\u005fname', 'fn_name'], ['\\ud83d\\ude00', '😀'], ['ä€😀', 'ä€😀'],
    ['\\"\\\\\\/\\b\\f\\n\\r\\t', '"\\/\b\f\n\r\t'],
    ['', ''], ['\\ud800', '\ud800'], ['__proto__', '__proto__'], ['\ufeffx', '\ufeffx'], ['\\u0000', '\u0000'],
  ] as const;
  for (const [written, name] of names) {
    it(`decodes the name "${written}"`, () => {
      expect(membersOf(Buffer.from(`{"${written}":0}`))).to.deep.equal([[name, '0']]);
    });
  }

  it('finds none in anything but an object', () => {
    for (const text of ['[{"a":1}]', '"{}"', '1', '{}']) expect(membersOf(Buffer.from(text))).to.deep.equal([]);
  });

  it('records none unless asked to, and then has no bounds', () => {
    const long = 'x'.repeat(1000);
    const text = Buffer.from(`{${Array.from({ length: 100 }, (_, i) => `"${long}${i}":${i}`).join(',')}}`);
    for (const options of [{ maxDepth: 1 }, { maxDepth: 1, members: false }]) {
      const expected = { valid: true, kind: 'object', span: { start: 0, end: text.length }, members: [] };
      expect(scanJson(text, options)).to.deep.equal(expected);
    }
  });

  it('accepts 64 members, not 65', () => {
    const members = (count: number): string => Array.from({ length: count }, (_, i) => `"${i}":[${i}]`).join(',');
    expect(membersOf(Buffer.from(`{${members(64)}}`))).to.have.length(64);
    const offset = members(64).length + 2;
    const expected = { valid: false, reason: 'over 64 members', offset };
    expect(scanEveryWay(Buffer.from(`{${members(65)}}`))).to.deep.equal(expected);
  });

  it('accepts more than 64 members further down', () => {
    const inner = Array.from({ length: 100 }, (_, i) => `"${'y'.repeat(300)}${i}":0`).join(',');
    const result = scan(`{"a":{${inner}},"b":[{${inner}}]}`);
    expect(result.valid && result.members.map((member) => member.name)).to.deep.equal(['a', 'b']);
  });

  const over = { valid: false, reason: 'a member name over 256 bytes', offset: 258 };
  const full = 'x'.repeat(256);
  const bounds: readonly (readonly [what: string, text: Buffer, expected: object])[] = [
    ['refuses a name of 257 bytes', Buffer.from(`{"${full}x":1}`), over],
    ['refuses a name that does not end', Buffer.from(`{"${full}${full}`), over],
    ['refuses a name of 86 characters of three bytes each', Buffer.from(`{"${'€'.repeat(86)}":1}`), over],
    ['refuses a long name before the error in it', Buffer.from(`{"${full}xx\n":1}`), over],
    ['refuses a long name before the bad UTF-8 in it', latin1(`{"${full}x\xff":1}`), over],
    ['refuses a long name before the cut UTF-8 at its end', latin1(`{"${full}x\xe2`), over],
    ['refuses a name with an error behind its 256 bytes', Buffer.from(`{"${full}\n":1}`),
      { valid: false, reason: 'a control character inside a string', offset: 258 }],
    ['refuses bad UTF-8 before the name is too long', latin1(`{"${full.slice(1)}\xff${full}":1}`),
      { valid: false, reason: 'invalid UTF-8', offset: 257 }],
  ];
  for (const [what, text, expected] of bounds) {
    it(what, () => {
      expect(scanEveryWay(text)).to.deep.equal(expected);
    });
  }

  it('accepts a name of 256 bytes', () => {
    expect(membersOf(Buffer.from(`{"${full}":1}`))).to.deep.equal([[full, '1']]);
  });
});

function depthOf(text: string): number {
  let [depth, deepest] = [0, 0];
  for (const byte of text.replace(/"(?:[^"\\]|\\.)*"/g, '')) {
    if (byte === '[' || byte === '{') deepest = Math.max(deepest, ++depth);
    if (byte === ']' || byte === '}') depth--;
  }
  return deepest;
}

/** A text of a value, with white space, then some of its bytes changed, inserted or taken out. */
const mutated = fc.tuple(
  fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' }),
  fc.constantFrom(undefined, 1, '\t', '\r\n'),
  fc.array(fc.record({
    at: fc.nat(), remove: fc.integer({ min: 0, max: 2 }),
    insert: fc.oneof(
      fc.constantFrom('', 'true', 'null', '\\u', ...' ,:"\\[]{}-01.e+\n').map(latin1),
      fc.uint8Array({ maxLength: 3 }).map((bytes) => Buffer.from(bytes)),
    ),
  }), { maxLength: 4 }),
).map(([value, space, edits]) => edits.reduce((text, { at, remove, insert }) => {
  const from = at % (text.length + 1);
  return Buffer.concat([text.subarray(0, from), insert, text.subarray(from + remove)]);
}, Buffer.from(JSON.stringify(value, null, space))));

/** Texts of the bytes that JSON is made of: much likelier to be almost right than bytes at large. */
const soup = fc.array(fc.constantFrom(
  ...' ,:"\\[]{}-01.e+\xc3\xa4', '"a"', '[]', '{"a":', '\\n', '\\u00e4', 'true', 'null', '\xf0\x9f\x98\x80',
), { maxLength: 12 }).map((pieces) => latin1(pieces.join('')));

const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });

describe('rpc/json-scan: properties', () => {
  it('accepts every JSON value, however cut, and finds its members', () => {
    const values = fc.jsonValue({ maxDepth: 5, stringUnit: 'binary' });
    fc.assert(fc.property(values, fc.constantFrom(0, 2), sizes, (value, space, cuts) => {
      const text = Buffer.from(JSON.stringify(value, null, space));
      const result = scanInChunks(cut(text, cuts));
      if (!result.valid) throw new Error(`${result.reason} at ${result.offset}`);
      const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
      const found = result.members.map((member) => [member.name, JSON.parse(spanOf(text, member)) as unknown]);
      expect(found).to.deep.equal(isObject ? Object.entries(JSON.parse(text.toString()) as object) : []);
    }), { numRuns: 1000 });
  });

  for (const [what, texts] of [['mutated texts', mutated], ['soups of JSON bytes', soup]] as const) {
    it(`accepts of ${what} exactly what JSON.parse accepts, and does not mind the chunks`, () => {
      fc.assert(fc.property(texts, sizes, (text, cuts) => {
        const result = scanInChunks(cut(text, cuts));
        expect(result).to.deep.equal(scanJson(text, OPTIONS));
        if (result.valid && result.kind === 'empty') return;
        expect(result.valid).to.equal(parse(text) !== undefined);
      }), { numRuns: 5000 });
    });
  }

  it('refuses exactly the values that are too deep', () => {
    fc.assert(fc.property(fc.jsonValue({ maxDepth: 6 }), fc.integer({ min: 0, max: 6 }), (value, maxDepth) => {
      const text = JSON.stringify(value);
      expect(scan(text, { maxDepth }).valid).to.equal(depthOf(text) <= maxDepth);
    }), { numRuns: 500 });
  });
});

describe('rpc/json-scan: a large text', () => {
  it('goes through in chunks of 256 KiB', () => {
    const size = 32 * 1024 * 1024;
    const record = Buffer.from('{"name":"n\u00f6de \\u20ac\u20ac","load":[0.25,-1e3,null,true]},');
    const array = Buffer.alloc(size, record);
    const end = size - (size % record.length);
    const head = Buffer.from('{"fn_name":"test","fn_args":[');
    const tail = Buffer.from('0],"timeout":1.5}');
    const text = Buffer.concat([head, array.subarray(0, end), tail]);
    const scanner = new JsonScanner(OPTIONS);
    for (const chunk of cut(text, [256 * 1024])) scanner.write(chunk);
    const result = scanner.end();
    if (!result.valid) throw new Error(`${result.reason} at ${result.offset}`);
    expect(result.span).to.deep.equal({ start: 0, end: text.length });
    expect(result.members).to.deep.equal([
      { name: 'fn_name', start: 11, end: 17 },
      { name: 'fn_args', start: head.length - 1, end: head.length + end + 2 },
      { name: 'timeout', start: text.length - 4, end: text.length - 1 },
    ]);
  });

  it('names the place of bad UTF-8 in a chunk that is large', () => {
    const text = Buffer.concat([Buffer.from('"'), Buffer.alloc(8 * 1024 * 1024, '\u20ac'), Buffer.from('"')]);
    const offset = 1 + 3 * 2_000_000;
    text[offset + 1] = 0x22;
    expect(scanJson(text, OPTIONS)).to.deep.equal({ valid: false, reason: 'invalid UTF-8', offset });
  });
});
