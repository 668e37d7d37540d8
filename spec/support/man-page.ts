/** The source of a man page as specs read it: sections, list items, literal blocks; and the page as mandoc shows it. */
import {execFileSync, spawnSync} from 'node:child_process';
import {readFileSync} from 'node:fs';
import {join} from 'node:path';

export const root = join(__dirname, '../..');

export interface Item {
  /** What stands after `.It`, for instance `Ic port No = Ar number`. */
  readonly head: string;
  /** The lines up to the next item or the end of its list. */
  readonly body: string;
}

/** roff's escapes that these pages use, and no others: one that is left would be a mistake. */
function unescape(text: string): string {
  const plain = text.replace(/\\\(dq/g, '"').replace(/\\&/g, '');
  const left = /\\(?!e)./.exec(plain);
  if (left !== null) throw new Error(`an escape that no spec knows: ${left[0]}`);
  return plain.replace(/\\e/g, '\\');
}

/** A page as it is shown on a wide terminal. */
function render(input: string): string {
  return execFileSync('mandoc', ['-T', 'ascii', '-O', 'width=200'], {encoding: 'utf8', input}).replace(/.\x08/g, '');
}

export class ManPage {
  readonly path: string;
  readonly source: string;

  constructor(readonly name: string) {
    this.path = join(root, 'man', name);
    this.source = readFileSync(this.path, 'utf8');
  }

  /** The source of one `.Sh` or `.Ss`, up to the next of its kind. */
  section(title: string): string {
    const lines = this.source.split('\n');
    const begin = lines.findIndex((line) => line === `.Sh ${title}` || line === `.Ss ${title}`);
    if (begin === -1) throw new Error(`${this.name} has no section ${title}`);
    const ends = lines[begin]!.startsWith('.Sh') ? /^\.Sh / : /^\.S[hs] /;
    const length = lines.slice(begin + 1).findIndex((line) => ends.test(line));
    return lines.slice(begin + 1, length === -1 ? undefined : begin + 1 + length).join('\n');
  }

  /** The list items of a section; those of inner lists are items of their own. */
  items(title: string): Item[] {
    const items: {head: string; body: string[]}[] = [];
    let open = false;
    for (const line of this.section(title).split('\n')) {
      if (line.startsWith('.It ')) {
        items.push({head: unescape(line.slice(4)), body: []});
        open = true;
      } else if (line === '.El') {
        open = false;
      } else if (open) {
        items.at(-1)!.body.push(unescape(line));
      }
    }
    return items.map(({head, body}) => ({head, body: body.join('\n')}));
  }

  /** All literal blocks, as a reader copies them. */
  literals(): string[] {
    return [...this.source.matchAll(/^\.Bd -literal[^\n]*\n([^]*?)^\.Ed$/gm)].map(([, block]) => unescape(block!));
  }

  /** The literal block after the comment `.\" example: NAME`. */
  example(name: string): string {
    const [, after] = this.source.split(`\n.\\" example: ${name}\n`);
    const block = after === undefined ? null : /^\.Bd -literal[^\n]*\n([^]*?)^\.Ed$/m.exec(after);
    if (block?.index !== 0) throw new Error(`${this.name} has no example ${name}`);
    return unescape(block[1]!);
  }

  /** The whole page as it is shown, without what is to be copied as it stands. */
  prose(): string {
    return render(this.source.replace(/^\.Bd -literal[^]*?^\.Ed$/gm, ''));
  }

  /** One section as it is shown, all white space as single blanks. */
  shown(title: string): string {
    const section = new RegExp(`^${title}\n([^]*?)^\\S`, 'm').exec(render(this.source))?.[1];
    if (section === undefined) throw new Error(`${this.name} shows no section ${title}`);
    return section.replace(/\s+/g, ' ').trim();
  }
}

/** Whether a tool is there. Where it is not, a developer is told what is left out; under CI that is an error. */
export function hasTool(tool: string, forWhat: string): boolean {
  if (spawnSync(tool, ['--version'], {stdio: 'ignore'}).error === undefined) return true;
  const message = `${tool} is not installed: ${forWhat} is not checked`;
  if (process.env.CI === 'true') throw new Error(message);
  console.log(message);
  return false;
}
