/**
 * What an earlier noded left in the spool, after its death (DESIGN.md section 5). Calls that had ended are
 * read back; those whose process may still run lose it, because nobody can reap it any more, and are `lost`.
 */
import {ageMs, bootId} from '../base/boot-clock';
import type {Ending, KnownSizes} from '../base/outcome';
import {acceptedMoment} from '../call/call-record';
import {Journal, endingOf, parseLine} from '../call/journal';
import type {JournalRecord} from '../call/journal';
import {readTombstone} from '../call/tombstones';
import type {Tombstone} from '../call/tombstones';
import type {EarlierLines} from './earlier-journals';
import {conclude, endingOfLost, sizesOnFile} from './ending';
import type {OutputScanner} from './output';
import type {ProcessTrees} from './process-tree';
import type {Spool} from './spool';

/** All that the log tells. */
export interface OnFile {
  readonly journals: ReadonlyMap<string, Journal>;
  /** In order of burial. */
  readonly tombstones: readonly Tombstone[];
}

export interface ReadingOptions {
  readonly spool: Spool;
  /** Whether the fork server says that it runs: asked before the log is read, so an end in between is on file. */
  readonly isLive: (key: string) => boolean;
}

/** Reads the log, and carries over to it what a noded of before the log has left. */
export async function readLog({spool, isLive}: ReadingOptions): Promise<OnFile> {
  const journals = new Map<string, Journal>();
  const tombstones = new Map<string, Tombstone>();
  const take = (key: string, json: string): void => {
    const line = parseLine(json);
    if (line === null) return;
    const tombstone = line.event === 'buried' ? readTombstone(key, line) : null;
    if (tombstone !== null) tombstones.set(key, tombstone);
    else (journals.get(key) ?? addTo(journals, key)).take(line);
  };
  await spool.log.read(({key, json}) => take(key, json));
  let hasRoom = true;
  const carryOver = (one: EarlierLines, live: boolean): void => {
    for (const line of one.lines) take(one.key, line);
    hasRoom = hasRoom && spool.earlier.carryOver(one, live);
  };
  for (const one of spool.earlier.buried()) carryOver(one, false);
  if (hasRoom) spool.earlier.removeTombstones();
  for (const one of spool.earlier.journals()) carryOver(one, isLive(one.key));
  return {journals, tombstones: oldestFirst([...tombstones.values()], ({buriedAtMs, buriedBoot}) => ageMs({atMs: buriedAtMs, boot: buriedBoot}))};
}

function addTo(journals: Map<string, Journal>, key: string): Journal {
  const journal = new Journal(key);
  journals.set(key, journal);
  return journal;
}

function oldestFirst<T>(items: readonly T[], age: (item: T) => number): readonly T[] {
  return items.map((item) => ({item, age: age(item)})).sort((a, b) => b.age - a.age).map(({item}) => item);
}

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
  readonly isLive: (key: string) => boolean;
}

/** All calls that are on file and not buried, in order of acceptance; kills what is left of calls that nobody has any more. */
export async function recoverCalls({journals, tombstones}: OnFile, options: RecoveryOptions): Promise<readonly Recovered[]> {
  const {spool, trees} = options;
  const found: {readonly record: JournalRecord; readonly ending: Ending | null | 'lost'}[] = [];
  const buried = new Set(tombstones.map(({key}) => key));
  for (const [key, journal] of journals) {
    const record = buried.has(key) ? null : journal.record;
    if (record !== null) found.push({record, ending: await endingFor(record, options)});
  }
  const known = new Set(found.map(({record}) => record.accepted.key));
  spool.sweep((key) => known.has(key));
  // They may write until they are killed. Nobody waits for what others left behind.
  if (found.some(({ending}) => ending === 'lost')) await trees.idle();
  const recovered = found.map(({record, ending}) => ({record, ending: ending === 'lost' ? endingOfLost(record.accepted.key, 'noded or the machine died under it', spool) : ending}));
  return oldestFirst(recovered, ({record}) => ageMs(acceptedMoment(record.accepted)));
}

async function endingFor(record: JournalRecord, options: RecoveryOptions): Promise<Ending | null | 'lost'> {
  const {spool, trees, newScanner, maxOutputBytes, isLive} = options;
  const {ended, outcome} = record;
  const {key, fnName} = record.accepted;
  if (ended !== null && 'noted' in ended && ended.noted !== undefined) spool.keepNoted(key, ended.noted);
  if (outcome !== null) {
    // Its process was reaped, so its pid may be anybody's by now; only the key still tells what it left behind.
    if (!record.leaveRunning) trees.sweep({key, pid: 0, startTime: null});
    return endingOf(record);
  }
  if (ended === null && isLive(key)) return null;
  killLeftovers(record, trees);
  if (ended === null) return 'lost';
  const sizes = sizesOnFile(ended, spool, key);
  return conclude(key, ended, sizes, {files: spool, newScanner, maxOutputBytes: limitOf(sizes, maxOutputBytes(fnName))});
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
