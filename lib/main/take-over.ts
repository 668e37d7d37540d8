/** At the start: every call of an earlier noded that is neither forgotten nor expired is known again (DESIGN.md section 5). */
import {setImmediate as nextTurn} from 'node:timers/promises';
import type {Log} from '../base/log';
import type {CallTable} from '../call/call-table';
import type {JournalRecord} from '../call/journal';
import type {FunctionSpec} from '../call/spawner';
import type {Catalog} from '../proc/catalog';
import {endingOfLost} from '../proc/ending';
import type {OutputScanner} from '../proc/output';
import type {ProcessTrees} from '../proc/process-tree';
import {readLog, recoverCalls, settledEnding} from '../proc/recovery';
import type {Spool} from '../proc/spool';
import {Unread} from '../proc/unread';
import type {ChosenSpawner} from './spawner-choice';

export interface TakeOverOptions {
  readonly table: CallTable;
  readonly catalog: Catalog;
  readonly spool: Spool;
  readonly trees: ProcessTrees;
  readonly chosen: ChosenSpawner;
  readonly newScanner: () => OutputScanner;
  readonly maxOutputBytes: number;
  readonly log: Log;
}

/** The spec that a running call was started with, as far as it is known: its function may have gone from the catalog. */
function specOf({accepted, leaveRunning}: JournalRecord, {catalog, maxOutputBytes}: TakeOverOptions): FunctionSpec {
  const spec = catalog.get(accepted.fnName)?.spec;
  if (spec !== undefined) return {...spec, leaveRunning};
  return {name: accepted.fnName, program: '', maxRunning: null, maxOutputBytes, killAfterMs: null, urgent: false, leaveRunning, user: null, nice: null, config: null};
}

export async function takeOver(options: TakeOverOptions): Promise<void> {
  const {table, catalog, spool, trees, chosen, newScanner, log} = options;
  const isLive = (key: string): boolean => chosen.live.has(key);
  const onFile = readLog({spool, isLive});
  for (const tombstone of onFile.tombstones) table.index.restoreTombstone(tombstone);
  const maxOutputBytes = (fnName: string): number => catalog.get(fnName)?.spec.maxOutputBytes ?? options.maxOutputBytes;
  // Signals that came while all that was read are heard before the port is open: in the next turn, if this one is past them.
  await nextTurn();
  await nextTurn();
  const recovered = await recoverCalls(onFile.open, {spool, trees, newScanner, maxOutputBytes, isLive});
  for (const {record, ending, order} of recovered) {
    const {key} = record.accepted;
    if (ending !== null) table.restore(record, ending, order);
    else table.resume(record, specOf(record, options), {...chosen.live.get(key)!, order}, (sink) => chosen.adopt(key, specOf(record, options), sink));
  }
  const count = (matches: (kind: string | undefined) => boolean): number => recovered.filter(({ending}) => matches(ending?.kind)).length;
  const ended = onFile.settled.filter(({isBuried}) => !isBuried).length;
  const facts = {calls: recovered.length + ended, running: count((kind) => kind === undefined), lost: count((kind) => kind === 'lost')};
  if (facts.calls > 0) log.info(facts, 'took over the calls of an earlier noded');
  const unread = new Unread(onFile.settled, onFile.last, onFile.reader, {
    call: (record, order) => void table.restore(record, settledEnding(record, options) ?? endingOfLost(record.accepted.key, 'its line in the log is damaged', spool), order),
    log,
    nothing: (key) => spool.remove(key),
    tombstone: (tombstone) => table.index.restoreTombstone(tombstone),
  });
  void table.takeIn(unread).then(() => spool.log.compact(table.index));
}
