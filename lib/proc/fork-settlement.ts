/** Calls that no fork server has any more: what is on file of their ends, or `lost` once their processes are dead. */
import {momentOf} from '../base/boot-clock';
import type {Ending} from '../base/outcome';
import type {JournalRecord} from '../call/journal';
import {conclude, endingOfLost, sizesOnFile} from './ending';
import type {EndingOptions} from './ending';
import type {LiveCall, Running} from './fork-call';
import type {ProcessTrees} from './process-tree';
import type {Spool} from './spool';

export interface SettlementOptions {
  readonly spool: Spool;
  readonly trees: ProcessTrees;
}

/** Reports the end of each. `started` is told first of a start that nobody has reported. */
export async function settle(gone: readonly Running[], options: SettlementOptions, started: (running: Running, live: LiveCall) => void, endingOptions: (running: Running) => EndingOptions): Promise<void> {
  if (gone.length === 0) return;
  const {spool, trees} = options;
  const onFile = await spool.find(new Set(gone.map(({key}) => key)));
  for (const running of gone) {
    const start = onFile.get(running.key)?.started ?? null;
    if (running.pid === 0 && start !== null) started(running, {...start, at: momentOf(start)});
    const {key, pid, startTime, leaveRunning} = running;
    // The fork server may have died over a start before it was on file, and its end is to be.
    if (running.pid === 0 && running.start !== null && running.start.accepted !== null) spool.putOnFile(key, running.start.accepted);
    // What a `leave_running` function started may go on; the function process itself has nobody to report to.
    if (leaveRunning) trees.killLeader({key, pid, startTime});
    else trees.sweep({key, pid, startTime, mayBeStarting: pid === 0});
  }
  await trees.idle();
  for (const running of gone) running.sink.ended(await endingOnFile(running, onFile.get(running.key) ?? null, spool, endingOptions(running)));
}

async function endingOnFile({key}: Running, record: JournalRecord | null, spool: Spool, options: EndingOptions): Promise<Ending> {
  const ended = record?.ended ?? null;
  if (ended === null) return endingOfLost(key, 'the fork server died under it', spool);
  if ('noted' in ended && ended.noted !== undefined) spool.keepNoted(key, ended.noted);
  return conclude(key, ended, sizesOnFile(ended, spool, key), options);
}
