/**
 * What an earlier noded left in the spool, after its death (DESIGN.md section 5). Calls that had ended are
 * read back; those whose process may still run lose it, because nobody can reap it any more, and are `lost`.
 */
import {ageMs, bootId} from '../base/boot-clock';
import type {Ending, KnownSizes} from '../base/outcome';
import {acceptedMoment} from '../call/call-record';
import {endingOf, readJournal} from '../call/journal';
import type {JournalRecord} from '../call/journal';
import {conclude, endingOfLost, sizesOnFile} from './ending';
import type {OutputScanner} from './output';
import type {ProcessTrees} from './process-tree';
import type {Spool} from './spool';

export interface Recovered {
  readonly record: JournalRecord;
  /** Null for a call that its fork server still runs. */
  readonly ending: Ending | null;
}

export interface RecoveryOptions {
  readonly spool: Spool;
  readonly trees: ProcessTrees;
  readonly newScanner: () => OutputScanner;
  /** The limit of the present configuration; the one that a call was started with is not on file. */
  readonly maxOutputBytes: (fnName: string) => number;
  /** Whether a call has a tombstone: then it is gone, although noded died before its files were. */
  readonly isBuried: (key: string) => boolean;
  /** Whether the fork server says that it runs: asked before the journals are read, so an end in between is on file. */
  readonly isLive: (key: string) => boolean;
}

/** Reads all journals, in order of acceptance, and kills what is left of calls that nobody has any more. */
export async function recoverCalls(options: RecoveryOptions): Promise<readonly Recovered[]> {
  const found: {readonly record: JournalRecord; readonly ending: Ending | null | 'lost'}[] = [];
  for (const {key, content} of options.spool.journals()) {
    const record = options.isBuried(key) ? null : readJournal(key, content);
    if (record === null) options.spool.remove(key);
    else found.push({record, ending: await endingFor(record, options)});
  }
  await options.trees.idle();
  // Only now: they may have written until they were killed.
  const recovered = found.map(({record, ending}) => ({record, ending: ending === 'lost' ? endingOfLost(record.accepted.key, 'noded or the machine died under it', options.spool) : ending}));
  const ages = new Map(recovered.map((one) => [one, ageMs(acceptedMoment(one.record.accepted))]));
  return recovered.sort((a, b) => ages.get(b)! - ages.get(a)!);
}

async function endingFor(record: JournalRecord, options: RecoveryOptions): Promise<Ending | null | 'lost'> {
  const {spool, trees, newScanner, maxOutputBytes, isLive} = options;
  const {key, fnName} = record.accepted;
  if (record.outcome !== null) {
    // Its process was reaped, so its pid may be anybody's by now; only the key still tells what it left behind.
    if (!record.leaveRunning) trees.sweep({key, pid: 0, startTime: null});
    return endingOf(record);
  }
  if (record.ended === null && isLive(key)) return null;
  killLeftovers(record, trees);
  if (record.ended === null) return 'lost';
  const sizes = sizesOnFile(record.ended, spool, key);
  return conclude(key, record.ended, sizes, {files: spool, newScanner, maxOutputBytes: limitOf(sizes, maxOutputBytes(fnName))});
}

/** Output that stands in the journal was judged under the limit of its day, and would have an outcome on file had it been too large. */
const limitOf = ({inJournal}: KnownSizes, maxOutputBytes: number): number => (inJournal === true ? Infinity : maxOutputBytes);

/** Without a `started` line the key in the environment still tells whose it is. */
function killLeftovers({accepted, leaveRunning, started}: JournalRecord, trees: ProcessTrees): void {
  const pid = started !== null && started.bootId === bootId ? started.pid : 0;
  const startTime = started?.startTime ?? null;
  if (!leaveRunning) trees.sweep({key: accepted.key, pid, startTime, mayBeStarting: started === null});
  // What a `leave_running` function started may go on; the function process itself has nobody to report to.
  else trees.killLeader({key: accepted.key, pid, startTime});
}
