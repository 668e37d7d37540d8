/** `make check` and `make check-all` share the spec files between them. */
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {expect} from 'chai';

const root = join(__dirname, '..');

describe('the spec files', () => {
  const lists = execFileSync('make', ['-s', '--no-print-directory', 'spec-lists'], {cwd: root, encoding: 'utf8'}).trim().split('\n').map((line) => line.split(' '));
  const inList = (wanted: string): string[] => lists.flatMap(([list, file]) => (list === wanted ? [file!] : []));

  it('are each in one of the two lists, and in one only', () => {
    const all = fs.readdirSync(join(root, 'spec'), {recursive: true, encoding: 'utf8'}).filter((name) => name.endsWith('.spec.ts')).map((name) => `spec/${name}`);
    expect([...inList('check'), ...inList('check-all')]).to.have.members(all);
    expect(inList('check-all')).to.not.deep.equal([]);
  });

  it('need no Ganeti in make check', () => {
    const needy = inList('check').filter((file) => /^import .*\b(ganetiProblem|GanetiNoded|noGaneti)\b/m.test(fs.readFileSync(join(root, file), 'utf8')));
    expect(needy).to.deep.equal([]);
  });
});
