import {expect} from 'chai';
import {describeManifest, startFunction} from './run-function';

describe('the function echo', () => {
  const texts = [
    '{"big": 12345678901234567890, "big": 1.0e+2}',
    ' [ "\\u00e9", "é€😀" ]\n\n',
    '',
    JSON.stringify('x'.repeat(3_000_000)),
  ];
  for (const text of texts) {
    it(`returns ${text.length} characters byte for byte: ${text.slice(0, 20)}`, async () => {
      const ended = await startFunction('echo', text).ended;
      expect(ended).to.deep.equal({code: 0, signal: null, stdout: text, stderr: ''});
    });
  }

  describeManifest('echo', [null, [1], {a: 'b'}, 'x'], []);
});
