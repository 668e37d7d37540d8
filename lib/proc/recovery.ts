/**
 * What an earlier noded left in the spool, after its death (DESIGN.md section 5). Calls that had ended are
 * read back; those whose process may still run lose it, because nobody can reap it any more, and are `lost`.
 */
import {bootId} from '../base/boot-clock';
import type {Ending} from '../base/outcome';
import {endingOf, parseLine, recordOf} from '../call/journal';
import type {JournalRecord} from '../call/journal';
import {readTombstone} from '../call/tombstones';
import type {Tombstone} from '../call/tombstones';
import type {EarlierLines} from './earlier-journals';
import {conclude, endingOfLost, endingOfNoted, sizesOnFile} from './ending';
import type {Trace} from './log-scan';
import type {OutputScanner} from './output';
import type {ProcessTrees} from './process-tree';
import type {Spool} from './spool';
import {TraceReader} from './unread';

/** What is on file, in order of acceptance: no more is known of it than must be before anybody is answered. */
export interface OnFile {
  readonly reader: TraceReader;
  /** Calls that run, or whose ends must be looked at. */
  readonly open: readonly {readonly record: JournalRecord; readonly order: number}[];
  /** Those that have ended, and tombstones. */
  readonly settled: readonly Trace[];
  readonly last: number;
  /** Those for which there was no room in the log. */
  readonly tombstones: readonly Tombstone[];
}

export interface ReadingOptions {
  readonly spool: Spool;
  /** Whether the fork server says that it runs: asked before the log is read, so an end in between is on file. */
  readonly isLive: (key: string) => boolean;
}

/** Looks through the log, and carries over to it what a noded of before the log has left. Removes the files of calls that are not on file. */
export function readLog({spool, isLive}: ReadingOptions): OnFile {
  const {left, tombstones} = carryOver(spool, isLive);
  const buried = new Set(tombstones.map(({key}) => key));
  const traces = spool.log.scan();
  const reader = new TraceReader(spool.log, traces);
  const placed = inOrder([...traces.all()].filter(({key, isAccepted, isBuried}) => isBuried || (isAccepted && !buried.has(key))));
  const isSettled = (trace: Trace): boolean => trace.isBuried || (trace.isComplete && !left.has(trace.key));
  const open = placed.filter((trace) => !isSettled(trace)).flatMap((trace) => {
    const record = reader.record(trace);
    if (record === null) trace.isAccepted = false; // its first line has no meaning
    return record === null ? [] : [{record, order: trace.order}];
  });
  for (const [key, lines] of left) {
    const isGone = buried.has(key) || traces.get(key)?.isBuried === true;
    const record = isGone ? null : recordOf(key, lines);
    if (record !== null) open.push({record, order: placed.length + open.length});
  }
  spool.files.sweep((key) => left.has(key) || (traces.get(key)?.isAccepted === true && !traces.get(key)!.isBuried));
  return {reader, open, settled: placed.filter(isSettled), last: placed.length + left.size, tombstones};
}

/** Lines go at about the time at which they are written; only those that a compaction has copied stand behind younger ones. */
function inOrder(traces: Trace[]): readonly Trace[] {
  const areInOrder = traces.every(({time}, number) => number === 0 || traces[number - 1]!.time <= time);
  if (!areInOrder) traces.sort((one, other) => one.time - other.time);
  for (const [number, trace] of traces.entries()) trace.order = number + 1;
  return traces;
}

/** Gives back that for which there is no room in the log: it stays where it is, for the next start. */
function carryOver({earlier}: Spool, isLive: ReadingOptions['isLive']): {readonly left: ReadonlyMap<string, readonly string[]>; readonly tombstones: readonly Tombstone[]} {
  let hasRoom = true;
  const isLeft = (one: EarlierLines, live: boolean): boolean => !(hasRoom = hasRoom && earlier.carryOver(one, live));
  const buried = [...earlier.buried()].filter((one) => isLeft(one, false));
  if (hasRoom) earlier.removeTombstones();
  const left = [...earlier.journals()].filter((one) => isLeft(one, isLive(one.key)));
  const tombstones = buried.flatMap(({key, lines}) => lines.map((line) => readTombstone(key, parseLine(line)!))).filter((tombstone) => tombstone !== null);
  return {left: new Map(left.map(({key, lines}) => [key, lines])), tombstones};
}

export interface Recovered {
  readonly record: JournalRecord;
  /** Null for a call that its fork server still runs. */
  readonly ending: Ending | null;
  readonly order: number;
}

export interface RecoveryOptions {
  readonly spool: Spool;
  readonly trees: ProcessTrees;
  readonly newScanner: () => OutputScanner;
  /** The limit of the present configuration; the one that a call was started with is not on file. */
  readonly maxOutputBytes: (fnName: string) => number;
  readonly isLive: (key: string) => boolean;
}

/** The ends of all calls that were open; kills what is left of those that nobody has any more. */
export async function recoverCalls(open: OnFile['open'], options: RecoveryOptions): Promise<readonly Recovered[]> {
  const {spool, trees} = options;
  const found: {readonly record: JournalRecord; readonly order: number; readonly ending: Ending | null | 'lost'}[] = [];
  for (const {record, order} of open) found.push({record, order, ending: await endingFor(record, options)});
  // They may write until they are killed. Nobody waits for what others left behind.
  if (found.some(({ending}) => ending === 'lost')) await trees.idle();
  return found.map(({record, order, ending}) => ({record, order, ending: ending === 'lost' ? endingOfLost(record.accepted.key, 'noded or the machine died under it', spool) : ending}));
}

async function endingFor(record: JournalRecord, options: RecoveryOptions): Promise<Ending | null | 'lost'> {
  const {spool, trees, newScanner, maxOutputBytes, isLive} = options;
  const {ended} = record;
  const {key, fnName} = record.accepted;
  const settled = settledEnding(record, options);
  if (settled !== null) return settled;
  if (ended === null && isLive(key)) return null;
  killLeftovers(record, trees);
  if (ended === null) return 'lost';
  const sizes = sizesOnFile(ended, spool, key);
  return conclude(key, ended, sizes, {files: spool, newScanner, maxOutputBytes: maxOutputBytes(fnName)});
}

/** The ending of a call whose outcome is on file, or its whole output; and kills what it left behind. Null if a file must be looked at. */
export function settledEnding(record: JournalRecord, {spool, trees, newScanner}: Pick<RecoveryOptions, 'spool' | 'trees' | 'newScanner'>): Ending | null {
  const {ended, outcome, accepted: {key}} = record;
  const noted = ended !== null && 'noted' in ended ? ended.noted : undefined;
  if (noted !== undefined) spool.keepNoted(key, noted);
  if (outcome === null && noted === undefined) return null;
  // Its process was reaped, so its pid may be anybody's by now; only the key still tells what it left behind.
  if (!record.leaveRunning) trees.sweep({key, pid: 0, startTime: null});
  // Output that stands in the log was judged under the limit of its day, and would have an outcome on file had it been too large.
  return outcome === null ? endingOfNoted(ended!, noted!, newScanner) : endingOf(record);
}

/** Without a `started` line the key in the environment still tells whose it is. */
function killLeftovers({accepted, leaveRunning, started}: JournalRecord, trees: ProcessTrees): void {
  const pid = started !== null && started.bootId === bootId ? started.pid : 0;
  const startTime = started?.startTime ?? null;
  if (!leaveRunning) trees.sweep({key: accepted.key, pid, startTime, mayBeStarting: started === null});
  // What a `leave_running` function started may go on; the function process itself has nobody to report to.
  else trees.killLeader({key: accepted.key, pid, startTime});
}
