import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import {cutMembers} from '../../lib/rpc/json-members';
import {scanJson} from '../../lib/rpc/json-scan';
import type {Members} from '../../lib/rpc/protocol';

function cut(body: string): Members {
  const text = Buffer.from(body);
  return cutMembers(text, scanJson(text, {maxDepth: 128, members: true}));
}

const textsOf = (members: Members): Record<string, string> => Object.fromEntries([...members].map(([name, raw]) => [name, Buffer.from(raw).toString()]));

describe('the members of an object', () => {
  it('are cut out as the bytes that they are, without the space around them', () => {
    expect(textsOf(cut(' {"a" : 1.0 , "b":[ 1, 2 ],"ü":"\\u00fc é", "d" : {"a":null} } '))).to.deep.equal({a: '1.0', b: '[ 1, 2 ]', ü: '"\\u00fc é"', d: '{"a":null}'});
  });

  it('are none in an empty object', () => {
    expect(cut('{}').size).to.equal(0);
  });

  it('keep their names, whatever they mean elsewhere', () => {
    expect([...cut('{"__proto__":1,"constructor":2,"":3}').keys()]).to.deep.equal(['__proto__', 'constructor', '']);
  });

  it('are views, not copies: a large one costs nothing', () => {
    const text = Buffer.from('{"a":[1]}');
    const [raw] = cutMembers(text, scanJson(text, {maxDepth: 8, members: true})).values();
    expect(raw!.buffer).to.equal(text.buffer);
  });

  const refused: readonly (readonly [what: string, body: string, message: RegExp])[] = [
    ['text that is not JSON', '{"a":1', /^the body is not JSON: .+ at byte 6$/],
    ['nothing', '', /^the body (is not JSON: .+|must be a JSON object, and is empty)/],
    ['an array', '[1]', /^the body must be a JSON object, and is array$/],
    ['a string', '"x"', /^the body must be a JSON object, and is string$/],
    ['null', 'null', /^the body must be a JSON object, and is null$/],
    ['a member that is given twice', '{"a":1,"b":2,"a":1}', /^a is given twice$/],
    ['one that is given twice in another spelling', '{"a":1,"\\u0061":2}', /^a is given twice$/],
  ];
  for (const [what, body, message] of refused) {
    it(`bad_json: are not those of ${what}`, () => {
      expect(() => cut(body)).to.throw(NodedError, message).with.property('code', 'bad_json');
    });
  }

  it('may be doubled further in, where they are a function\'s affair', () => {
    expect(textsOf(cut('{"fn_args":{"a":1,"a":2}}'))).to.deep.equal({fn_args: '{"a":1,"a":2}'});
  });
});
