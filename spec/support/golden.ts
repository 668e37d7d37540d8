/** The samples of spec/golden/formats.json: made by hand from the words of doc/formats.md, and by no code that they are tried on. */
import * as fs from 'node:fs';
import {join} from 'node:path';

interface Sample {
  readonly name: string;
  readonly hex: string;
}

export interface StartSample extends Sample {
  readonly type: 'S';
  readonly key: string;
  readonly flags: number;
  readonly uid: number;
  readonly gid: number;
  readonly nice: number;
  readonly file_bytes: number;
  readonly program: string;
  readonly env: readonly string[];
  readonly args: string;
  readonly accepted: string;
}

export type NodedSample =
  | StartSample
  | (Sample & {readonly type: 'P'; readonly key: string; readonly args: string})
  | (Sample & {readonly type: 'K'; readonly key: string; readonly signal: 'terminate' | 'kill'})
  | (Sample & {readonly type: 'G'; readonly segment: number})
  | (Sample & {readonly type: 'Q'});

interface Times {
  readonly wall_ms: number;
  readonly boot_ms: number;
}

export interface EndedSample extends Sample, Times {
  readonly type: 'E';
  readonly key: string;
  readonly kind: 0 | 1 | 2;
  readonly code: number;
  readonly stage: number;
  readonly user_us: number;
  readonly system_us: number;
  readonly max_rss_kib: number;
  readonly stdout_bytes: number | null;
  readonly stderr_bytes: number | null;
  readonly noted: string | null;
}

export type ForkServerSample =
  | EndedSample
  | (Sample & {readonly type: 'N'; readonly function: string})
  | (Sample & {readonly type: 'W'; readonly version: number; readonly pid: number})
  | (Sample & Times & {readonly type: 'L' | 'A'; readonly key: string; readonly pid: number; readonly start_time: number})
  | (Sample & {readonly type: 'O'; readonly key: string; readonly stream: 'stdout' | 'stderr'; readonly text: string})
  | (Sample & {readonly type: 'B'; readonly key: string})
  | (Sample & {readonly type: 'G'; readonly segment: number})
  | (Sample & {readonly type: 'M'; readonly text: string});

export interface Golden {
  readonly log_head_hex: string;
  readonly from_noded: readonly NodedSample[];
  readonly from_fork_server: readonly ForkServerSample[];
  readonly log_lines: readonly {readonly key: string; readonly json: string; readonly hex: string}[];
}

export const goldenFile = join(__dirname, '../golden/formats.json');
export const golden = JSON.parse(fs.readFileSync(goldenFile, 'utf8')) as Golden;

/** Text as it stands in the words of spec/libexec/forker-golden.c. */
export const hexOf = (text: string): string => (text === '' ? '-' : Buffer.from(text).toString('hex'));
