import {expect} from 'chai';
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import {dirname, join} from 'node:path';
import {ganetiForker} from '../support/ganeti-node';
import {golden, goldenFile} from '../support/golden';

describe('the golden samples, by noded-ganeti', () => {
  let answer: {readonly read: readonly object[]; readonly made: Readonly<Record<string, string>>; readonly lines: readonly string[]};
  before(() => {
    const program = fs.readFileSync(join(__dirname, 'golden_frames.py'), 'utf8');
    const found = `import sys; sys.path.insert(0, ${JSON.stringify(dirname(ganetiForker))})\n`;
    answer = JSON.parse(execFileSync('/usr/bin/python3', ['-IB', '-c', found + program, goldenFile], {encoding: 'utf8'})) as typeof answer;
  });

  it('reads the frames of noded', () => {
    expect(answer.read).to.deep.equal(golden.from_noded.map(({name: _name, hex: _hex, ...facts}) => facts));
  });

  it('makes its own, byte for byte: all output is in files', () => {
    const own = golden.from_fork_server.filter((sample) => sample.type !== 'E' || sample.noted === null);
    // Its pid is its own to say, and so is its version.
    expect(answer.made).to.deep.equal(Object.fromEntries(own.map(({name, hex}) => [name, hex])));
  });

  it('makes the lines of the log', () => {
    expect(answer.lines).to.deep.equal(golden.log_lines.filter(({json}) => /^[\0-\x7f]*$/.test(json)).map(({hex}) => hex));
  });
});
