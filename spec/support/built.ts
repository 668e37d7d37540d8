/** noded as it is installed: compiled JavaScript, which starts several times as fast as the sources do. */
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {buildForker} from './forker-builds';

const checkout = join(__dirname, '../..');

/** Inside the checkout, so that what runs there counts for the coverage of the sources it was made from. */
function makeRoot(): string {
  const build = join(checkout, 'build');
  fs.mkdirSync(build, {recursive: true});
  return fs.mkdtempSync(join(build, 'spec-'));
}

/** Gives what the compiler says. */
function compileInto(directory: string): string {
  if (process.env.NODED_SPEC_BUILT !== undefined) {
    fs.cpSync(join(process.env.NODED_SPEC_BUILT, 'lib'), directory, {recursive: true});
    return '';
  }
  const tsc = join(checkout, 'node_modules/typescript/bin/tsc');
  return spawnSync(process.execPath, [tsc, '-p', join(checkout, 'tsconfig.build.json'), '--outDir', directory, '--declaration', 'false', '--sourceMap', 'true'], {encoding: 'utf8'}).stdout;
}

export class BuiltNoded {
  readonly root = makeRoot();
  readonly program = join(this.root, 'bin/noded');

  /** Compiles, which takes some seconds, unless that is done for the whole run. Without `forker` and `ganeti` it has no fork server. Throws with the compiler's words if it made nothing. */
  constructor({forker = false, ganeti = false}: {readonly forker?: boolean; readonly ganeti?: boolean} = {}) {
    const said = compileInto(join(this.root, 'lib'));
    if (!fs.existsSync(join(this.root, 'lib/main/noded.js'))) throw new Error(`noded could not be compiled:\n${said}`);
    for (const name of ['package.json', 'bin']) fs.cpSync(join(checkout, name), join(this.root, name), {recursive: true});
    if (forker || ganeti) fs.mkdirSync(join(this.root, 'libexec'));
    if (ganeti) for (const name of ['noded-ganeti', 'noded_ganeti']) fs.symlinkSync(join(checkout, 'libexec', name), join(this.root, 'libexec', name));
    if (forker) {
      fs.copyFileSync(buildForker(), join(this.root, 'libexec/noded-forker'));
    }
    fs.symlinkSync(join(checkout, 'node_modules'), join(this.root, 'node_modules'));
  }

  dispose(): void {
    fs.rmSync(this.root, {recursive: true, force: true});
  }
}
