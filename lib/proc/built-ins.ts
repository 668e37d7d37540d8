/** The functions that noded-ganeti has built in, as the catalog has functions (DESIGN.md section 11). */
import type {CatalogEntry, Scan} from './catalog';

/** Votes, watchdogs and the job queue wait for these: they have slots of their own, and need no room in the spool. */
const urgent = new Set(['version', 'master_node_name', 'node_info', 'node_has_ip_address', 'get_watcher_pause']);
const isUrgent = (name: string): boolean => urgent.has(name) || name.startsWith('jobqueue_');

function entryOf(name: string, maxOutputBytes: number): CatalogEntry {
  return {
    // What a function of Ganeti starts is meant to stay: a virtual machine, the daemon of an export, a master daemon.
    spec: {name, program: `ganeti:${name}`, maxRunning: null, maxOutputBytes, killAfterMs: null, urgent: isUrgent(name), leaveRunning: true, user: null, nice: null, config: null},
    description: null,
    args: null,
    abortAfterMs: null,
    maxAbortAfterMs: null,
    roles: null,
  };
}

/** Ganeti's masters must get what they ask for: a program that has the name of a built-in function is left out. */
export function withBuiltIns({entries, leftOut}: Scan, names: ReadonlySet<string>, maxOutputBytes: number): Scan {
  const hidden = [...entries.values()].filter(({spec}) => names.has(spec.name)).map(({spec}) => ({path: spec.program, reason: 'has the name of a function of Ganeti'}));
  return {entries: new Map([...entries, ...[...names].map((name) => [name, entryOf(name, maxOutputBytes)] as const)]), leftOut: [...leftOut, ...hidden]};
}
