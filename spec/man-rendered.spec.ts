/** The pages as readers see them: what mandoc's lint does not look at. */
import {readdirSync} from 'node:fs';
import {join} from 'node:path';
import {expect} from 'chai';
import {ManPage, hasTool, root} from './support/man-page';

/** Paragraphs in which a quote opens before the one before it has closed, or closes what is not open. */
function badlyQuoted(text: string): string[] {
  return text.split(/\n\s*\n/).filter((paragraph) => {
    let open = false;
    const wrong = [...paragraph.matchAll(/"/g)].some(({index}) => {
      const [before, after] = [paragraph[index - 1] ?? ' ', paragraph[index + 1] ?? ' '];
      const opens = /[\s([{]/.test(before) || (/[:,=<|']/.test(before) && /[\w"{[]/.test(after));
      const isWrong = opens === open;
      open = opens;
      return isWrong;
    });
    return wrong || open;
  });
}

describe('quotes in the rendered pages', () => {
  it('are seen where they go wrong', () => {
    for (const bad of ['the spawner ("forker or "child; see there)', 'a "word', 'a word" and "another"']) expect(badlyQuoted(bad), bad).to.deep.equal([bad]);
    expect(badlyQuoted('"forker" or "child"; "::"; "sha256:" and {"error": "one sentence", "n":"x"}\n\nand "so on"')).to.deep.equal([]);
  });

  for (const name of readdirSync(join(root, 'man'))) {
    it(`open and close in turn in ${name}`, () => {
      if (!hasTool('mandoc', `quotes in ${name}`)) return;
      expect(badlyQuoted(new ManPage(name).prose())).to.deep.equal([]);
    });
  }
});
