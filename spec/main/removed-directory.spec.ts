/** Programs that are started where their working directory was removed meanwhile: a shell that was left open, an old unpacked tree. */
import {expect} from 'chai';
import * as fs from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {exitCodes as ganetiExitCodes} from '../../lib/main/ganeti-noded';
import {exitCodes as nodectlExitCodes} from '../../lib/main/nodectl-exit';
import {exitCodes} from '../../lib/main/noded';
import {BuiltNoded} from '../support/built';
import {runNoded} from '../support/noded-command';
import type {Said} from '../support/noded-command';

const checkout = join(__dirname, '../..');

function runRemoved(program: string, args: readonly string[]): Promise<Said> {
  const directory = fs.mkdtempSync(join(tmpdir(), 'noded-removed-'));
  return runNoded(['-c', 'cd "$1" && rmdir "$1" && shift && exec "$@"', 'sh', directory, program, ...args], {program: '/bin/sh', boundMs: 100_000});
}

describe('in a directory that was removed', function () {
  this.timeout(120_000);
  let built: BuiltNoded;
  before(() => {
    built = new BuiltNoded();
  });
  after(() => built.dispose());

  for (const [where, rootOf] of [['of a checkout', () => checkout], ['that is installed', () => built.root]] as const) {
    for (const name of ['noded', 'nodectl']) {
      it(`a ${name} ${where} works, as long as no path begins there`, async () => {
        const said = await runRemoved(join(rootOf(), 'bin', name), ['--version']);
        expect(said).to.include({code: 0, stderr: ''});
        expect(said.stdout).to.match(/^\d+\.\d+\.\d+\n$/);
      });
    }
  }

  const wrong: readonly (readonly [program: string, code: number, stderr: RegExp, ...args: string[]])[] = [
    ['noded', exitCodes.usage, /^noded: run: cannot tell where this is: the working directory has been removed\n$/, '--run-dir', 'run'],
    ...['-c', '-C', '-K', '--ca', '--functions', '--pid-file'].map((option) => ['noded', exitCodes.usage, /^noded: here: [^\n]* removed\n$/, option, 'here', '--check'] as const),
    ['nodectl', nodectlExitCodes.usage, /^nodectl: here: [^\n]* removed\n$/, 'keygen', 'here'],
    ['nodectl', nodectlExitCodes.usage, /^nodectl: [^\n]*ENOENT[^\n]*\n$/, 'status', '-C', 'here'],
    ['ganeti-noded', ganetiExitCodes.failure, /^here: [^\n]* removed\n$/, '-C', 'here'],
  ];
  for (const [program, code, stderr, ...args] of wrong) {
    it(`${program} ${args.join(' ')}: one line and exit ${code}`, async () => {
      const said = await runRemoved(join(built.root, 'bin', program), args);
      expect(said.stderr).to.match(stderr);
      expect(said.code).to.equal(code);
    });
  }
});
