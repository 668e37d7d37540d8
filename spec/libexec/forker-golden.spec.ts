import {expect} from 'chai';
import {spawnSync} from 'node:child_process';
import {buildGolden} from '../support/forker-builds';
import {golden, hexOf} from '../support/golden';
import type {ForkServerSample, NodedSample} from '../support/golden';

/** What noded-forker's own code answers to each request of spec/libexec/forker-golden.c. */
function answers(requests: readonly string[]): string[] {
  const {stdout, stderr, status} = spawnSync(buildGolden(), {input: `${requests.join('\n')}\n`, encoding: 'utf8'});
  expect(status, stderr).to.equal(0);
  return stdout.trimEnd().split('\n');
}

function said(sample: NodedSample): string {
  if (sample.type === 'S') return ['S', sample.key, sample.flags, sample.uid, sample.gid, sample.nice, sample.file_bytes, ...[sample.program, ...sample.env, sample.args, sample.accepted].map(hexOf)].join(' ');
  if (sample.type === 'P') return `P ${sample.key} ${hexOf(sample.args)}`;
  return sample.type === 'G' ? `G ${sample.segment}` : sample.type === 'Q' ? 'Q' : '';
}

const unknownSize = 2n ** 64n - 1n;

function request(sample: ForkServerSample): string {
  switch (sample.type) {
    case 'W': return 'W';
    case 'L':
    case 'A': return [sample.type, sample.key, sample.pid, sample.start_time, sample.wall_ms, sample.boot_ms].join(' ');
    case 'O': return `O ${sample.key} ${sample.stream === 'stdout' ? 1 : 2} ${hexOf(sample.text)}`;
    case 'E': return ['E', sample.key, sample.kind, sample.code, sample.stage, sample.wall_ms, sample.user_us, sample.system_us, sample.max_rss_kib, sample.stdout_bytes ?? unknownSize, sample.stderr_bytes ?? unknownSize, sample.boot_ms, hexOf(sample.noted ?? '')].join(' ');
    case 'B': return `B ${sample.key}`;
    case 'G': return `G ${sample.segment}`;
    case 'M': return `M ${hexOf(sample.text)}`;
    case 'N': throw new Error('it has no functions of its own');
  }
}

describe('the golden samples, by noded-forker', () => {
  it('reads the frames of noded', () => {
    // It starts programs alone.
    const own = golden.from_noded.filter((sample) => sample.type !== 'S' || sample.program.startsWith('/'));
    expect(answers(own.map(({hex}) => `decode ${hex}`))).to.deep.equal(own.map(said));
  });

  it('takes for malformed what is cut short, and what is another\'s', () => {
    const cut = golden.from_noded.map(({hex}) => {
      const body = Buffer.from(hex, 'hex').subarray(4, -1);
      const size = Buffer.alloc(4);
      size.writeUInt32LE(body.length);
      return Buffer.concat([size, body]).toString('hex');
    });
    // A part of one byte less is a part.
    const requests = cut.filter((_hex, n) => golden.from_noded[n]!.type !== 'P');
    expect(answers([...requests, '0100000058'].map((hex) => `decode ${hex}`))).to.deep.equal([...requests, ''].map(() => 'malformed'));
  });

  it('makes its own, byte for byte', () => {
    const own = golden.from_fork_server.filter(({type}) => type !== 'N');
    const frames = answers(own.map(request));
    for (const [n, {type, hex, name}] of own.entries()) {
      // Its pid is its own.
      const bytes = type === 'W' ? -8 : undefined;
      expect(frames[n]!.slice(0, bytes), name).to.equal(hex.slice(0, bytes));
    }
  });

  it('makes the lines of the log', () => {
    expect(answers(golden.log_lines.map(({key, json}) => `line ${key} ${hexOf(json)}`))).to.deep.equal(golden.log_lines.map(({hex}) => hex));
  });
});
