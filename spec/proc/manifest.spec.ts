import {expect} from 'chai';
import {ArgsSchema} from '../../lib/proc/args-schema';
import {readManifest} from '../../lib/proc/manifest';

describe('a manifest', () => {
  it('may be empty', () => {
    expect(readManifest('')).to.deep.equal({
      description: null, args: null, abortAfterMs: null, maxAbortAfterMs: null, killAfterMs: null, maxRunning: null, maxOutputBytes: null, user: null, nice: null, urgent: false, leaveRunning: false, roles: null,
    });
  });

  it('says users and groups by name', () => {
    expect(readManifest('user = "root"').user).to.deep.equal({uid: 0, gid: 0, home: '/root'});
    expect(readManifest('user = "root"\ngroup = "daemon"').user).to.include({uid: 0, gid: 1});
  });

  it('may say never: kill_after = 0', () => {
    expect(readManifest('kill_after = 0').killAfterMs).to.equal(0);
  });

  const wrong: readonly (readonly [text: string, complaint: string | RegExp])[] = [
    ['description = 1', 'description must be a string'],
    ['args = "object"', 'args must be a JSON Schema'],
    ['args = []', 'args must be a JSON Schema'],
    ['abort_after = -1', 'abort_after must be a number of seconds, 0 or more'],
    ['max_abort_after = nan', 'max_abort_after must be a number of seconds, 0 or more'],
    ['abort_after = 0', 'abort_after must be a number of seconds over 0'],
    ['max_abort_after = 0.0', 'max_abort_after must be a number of seconds over 0'],
    ['kill_after = "10"', 'kill_after must be a number of seconds, 0 or more'],
    ['max_running = 0', 'max_running must be a whole number, 1 or more'],
    ['max_running = 1.5', 'max_running must be a whole number, 1 or more'],
    ['max_output = -1', 'max_output must be a whole number, 1 or more'],
    ['nice = 20', 'nice must be a whole number from -20 to 19'],
    ['nice = -21', 'nice must be a whole number from -20 to 19'],
    ['urgent = 1', 'urgent must be true or false'],
    ['leave_running = "no"', 'leave_running must be true or false'],
    ['roles = "master"', 'roles must be an array of strings'],
    ['roles = [1]', 'roles must be an array of strings'],
    ['group = "daemon"', 'group needs user'],
    ['user = "no-such-user-here"', 'there is no user no-such-user-here'],
    ['user = "-h"', 'there is no user -h'],
    ['user = "root"\ngroup = "no-such-group-here"', 'there is no group no-such-group-here'],
    ['user = 0', 'user must be a string'],
    ['nise = 1', 'nise is not a key of a manifest'],
    ['nice = 1\nnice = 2', /Invalid TOML/],
  ];
  for (const [text, complaint] of wrong) {
    it(`is refused with a reason: ${JSON.stringify(text)}`, () => {
      if (typeof complaint === 'string') expect(() => readManifest(text)).to.throw(Error).with.property('message', complaint);
      else expect(() => readManifest(text)).to.throw(complaint);
    });
  }
});

describe('the schema of arguments', () => {
  const check = (schema: object | boolean, args: string): readonly {pointer: string; message: string}[] | null => new ArgsSchema(schema).check(Buffer.from(args));

  it('lets through what fits', () => {
    expect(check({type: 'array', items: {type: 'integer'}}, '[1,2]')).to.equal(null);
    expect(check(true, '{"anything":1}')).to.equal(null);
  });

  it('says where something does not fit, as a JSON pointer', () => {
    const schema = {type: 'object', properties: {disks: {type: 'array', items: {type: 'object', properties: {'a/b': {type: 'integer'}}}}}};
    expect(check(schema, '{"disks":[{"a/b":1},{"a/b":"x"}]}')).to.deep.equal([{pointer: '/disks/1/a~1b', message: 'must be integer'}]);
  });

  it('names the member that is too much, and the one that is missing', () => {
    const schema = {type: 'object', required: ['size'], properties: {size: {type: 'integer'}}, additionalProperties: false};
    expect(check(schema, '{"size":1,"sise":2}')).to.deep.equal([{pointer: '', message: 'must NOT have additional properties: sise'}]);
    expect(check(schema, '{}')).to.deep.equal([{pointer: '', message: 'must have required property \'size\''}]);
  });

  it('refuses everything with false', () => {
    expect(check(false, 'null')).to.have.length(1);
  });

  it('is not fooled by names that every object has', () => {
    const schema = {type: 'object', properties: {a: {}}, additionalProperties: false};
    expect(check(schema, '{"constructor":1}')).to.have.length(1);
    expect(check(schema, '{"__proto__":1}')).to.have.length(1);
    const inherited = {type: 'object', properties: {toString: {type: 'string'}}, required: ['toString']};
    expect(check(inherited, '{}')).to.deep.equal([{pointer: '', message: 'must have required property \'toString\''}]);
    expect(check({...inherited, required: []}, '{}')).to.equal(null);
  });

  for (const [title, schema] of [['an unknown type', {type: 'objekt'}], ['an unknown keyword', {tipe: 'object'}], ['a broken pattern', {type: 'string', pattern: '('}], ['a reference to nothing', {$ref: '#/definitions/none'}]] as const) {
    it(`is a mistake with ${title}`, () => {
      expect(() => new ArgsSchema(schema).compile()).to.throw(Error);
    });
  }
});
