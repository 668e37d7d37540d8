import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {CandidateMap, fileVersion} from '../../lib/rpc/ganeti-candidates';
import type {Peer} from '../../lib/rpc/tls';
import {codeOf} from '../support/fake-table';

const digest = (byte: string): string => Array<string>(20).fill(byte).join(':');
const dayMs = 86_400_000;

describe('Ganeti\'s list of master candidates', () => {
  let directory: string;
  let file: string;
  let map: CandidateMap;
  const own = digest('0A');

  beforeEach(() => {
    directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-map-'));
    file = join(directory, 'map');
    map = new CandidateMap(file);
  });
  afterEach(() => fs.rmSync(directory, {recursive: true}));

  const peer = (sha1: string, facts: Partial<Peer> = {}): Peer => ({fingerprint: 'ab'.repeat(32), sha1, subject: 'CN=node1', notBeforeMs: Date.now() - dayMs, notAfterMs: Date.now() + dayMs, against: null, chain: () => [], ...facts});
  const may = (sha1: string): boolean => codeOf(() => map.authorize(peer(sha1), own)) === undefined;
  const write = (text: string): void => {
    fs.writeFileSync(`${file}.new`, text);
    fs.renameSync(`${file}.new`, file);
  };

  it('lets in those whose fingerprint is a value of it, under whatever name, and nobody else', () => {
    write(`0a1b=${digest('AA')}\nbootstrap=${digest('BB')}\n`);
    expect(['AA', 'BB', 'CC', '0A'].map((byte) => may(digest(byte)))).to.deep.equal([true, true, false, false]);
    expect(may('0a1b')).to.equal(false);
    expect(may('')).to.equal(false);
  });

  it('gives them the role master, which may call everything', () => {
    write(`x=${digest('AA')}`);
    expect(map.authorize(peer(digest('AA')), own)).to.include({name: 'master'}).and.deep.include({functions: ['*']});
  });

  for (const [title, prepare] of Object.entries({'is missing': () => {}, 'is empty': () => write(''), 'has empty lines only': () => write('\n \n')})) {
    it(`lets in the cluster's own certificate, and nobody else, if it ${title}`, () => {
      prepare();
      expect([may(own), may(digest('AA'))]).to.deep.equal([true, false]);
      expect(() => map.authorize(peer(digest('AA')), own)).to.throw(/^the certificate (AA:){19}AA \(CN=node1\) is not that of the cluster, which has no list/);
    });
  }

  it('is read again when it has changed: replaced, written over, removed, there again', () => {
    write(`x=${digest('AA')}\n`);
    expect(may(digest('AA'))).to.equal(true);
    write(`x=${digest('BB')}\n`);
    expect([may(digest('AA')), may(digest('BB'))]).to.deep.equal([false, true]);
    fs.writeFileSync(file, `x=${digest('CC')}\nlonger=${digest('DD')}\n`);
    expect([may(digest('BB')), may(digest('DD'))]).to.deep.equal([false, true]);
    fs.rmSync(file);
    expect([may(digest('DD')), may(own)]).to.deep.equal([false, true]);
    write(`x=${digest('EE')}\n`);
    expect([may(own), may(digest('EE'))]).to.deep.equal([false, true]);
  });

  it('lets nobody in by a line that is none, and is not taken for an empty one', () => {
    write(`${digest('AA')}\nx=AA:BB\n=${digest('AA')}\nx=y=${digest('AA')}\n`);
    expect([may(digest('AA')), may(own), may('AA:BB')]).to.deep.equal([false, false, false]);
    write(`nonsense\nx=${digest('AA').toLowerCase()}\r\n`);
    expect(may(digest('AA'))).to.equal(true);
  });

  it('lets nobody in if it cannot be read, and is read once it can be', () => {
    fs.mkdirSync(file);
    for (let round = 0; round < 2; round += 1) expect(() => map.authorize(peer(own), own)).to.throw(/^the list of master candidates cannot be read: EISDIR/);
    fs.rmdirSync(file);
    expect(may(own)).to.equal(true);
  });

  it('lets in nobody without a certificate, or with one that is past its date', () => {
    write(`x=${digest('AA')}\n`);
    expect(codeOf(() => map.authorize(null, own))).to.equal('no_certificate');
    expect(codeOf(() => map.authorize(peer(digest('AA'), {notAfterMs: Date.now() - 1000}), own))).to.equal('certificate_expired');
    expect(codeOf(() => map.authorize(peer(digest('AA'), {notBeforeMs: Date.now() + dayMs}), own))).to.equal('certificate_expired');
  });

  it('is told from another file of the same size and time', () => {
    write('a');
    const before = fileVersion(file);
    const {atime, mtime} = fs.statSync(file);
    write('b');
    fs.utimesSync(file, atime, mtime);
    expect(fileVersion(file)).to.not.equal(before);
    expect(fileVersion(join(directory, 'none'))).to.equal('absent');
  });
});
