import * as fs from 'node:fs';
import * as path from 'node:path';
import {expect} from 'chai';
import {describeManifest, errorOf, functionsDir, makeDirectory, resultOf} from './run-function';

interface Version {
  readonly noded: string;
  readonly protocol: number;
}

describe('the function version', () => {
  let root: string;
  let program: string;

  beforeEach(() => {
    root = makeDirectory();
    program = path.join(root, 'functions', 'version');
    fs.mkdirSync(path.dirname(program));
    fs.copyFileSync(path.join(functionsDir, 'version'), program);
  });

  afterEach(() => fs.rmSync(root, {recursive: true}));

  const writePackage = (text: string): void => fs.writeFileSync(path.join(root, 'package.json'), text);

  it('tells the version of package.json and the protocol', async () => {
    const text = fs.readFileSync(path.join(functionsDir, '..', 'package.json'), 'utf8');
    const {version} = JSON.parse(text) as {version: string};
    expect(await resultOf<Version>('version', [])).to.deep.equal({noded: version, protocol: 1});
  });

  it('finds package.json above the installed functions', async () => {
    writePackage(JSON.stringify({name: 'noded', version: '7.8.9-rc.1+x'}, null, 2));
    expect((await resultOf<Version>('version', null, {program})).noded).to.equal('7.8.9-rc.1+x');
  });

  it('does not take the version of something further inside', async () => {
    writePackage(JSON.stringify({config: {version: '9.9.9'}, version: '1.0.0'}, null, 2));
    expect((await resultOf<Version>('version', {}, {program})).noded).to.equal('1.0.0');
  });

  it('fails without package.json', async () => {
    expect(await errorOf('version', [], {program})).to.contain('package.json');
  });

  it('fails if package.json tells no version', async () => {
    writePackage('{}');
    expect(await errorOf('version', [], {program})).to.contain('no version');
  });

  it('fails rather than to print what would not be JSON', async () => {
    writePackage('{\n  "version": "1\\u0022, \\\\"\n}\n');
    expect(await errorOf('version', [], {program})).to.contain('no version');
  });

  describeManifest('version', [null, [], {}], [[1], {a: 1}, 'x', 0]);
});
