/** What is on file of calls, read as a spec needs it. */
import * as fs from 'node:fs';
import {join} from 'node:path';
import {recordOf} from '../../lib/call/journal';
import type {JournalRecord} from '../../lib/call/journal';
import {linesOf, sealLine, segmentHead} from '../../lib/proc/log-lines';
import type {LogLine} from '../../lib/proc/log-lines';

const segmentsOf = (runDir: string): readonly string[] => {
  const directory = join(runDir, 'log');
  return fs.existsSync(directory) ? fs.readdirSync(directory).sort().map((name) => join(directory, name)) : [];
};

/** All lines of the log of a run directory; `damaged` counts those that are none. */
export function logOf(runDir: string, damaged: () => void = () => {}): readonly LogLine[] {
  return segmentsOf(runDir).flatMap((path) => [...linesOf(fs.readFileSync(path), damaged)]);
}

/** The lines of one call, as JSON. */
export const linesOnFile = (runDir: string, key: string): readonly string[] => logOf(runDir).flatMap((line) => (line.key === key ? [line.json] : []));

export const recordOnFile = (runDir: string, key: string): JournalRecord | null => recordOf(key, linesOnFile(runDir, key));

export const eventsOnFile = (runDir: string, key: string): readonly string[] => linesOnFile(runDir, key).map((json) => (JSON.parse(json) as {event: string}).event);

/** Makes a log of these lines, as an earlier noded would have left it. */
export function writeLog(runDir: string, lines: readonly (readonly [key: string, json: string])[]): void {
  const directory = join(runDir, 'log');
  fs.mkdirSync(directory, {recursive: true, mode: 0o700});
  fs.chmodSync(runDir, 0o700);
  const path = segmentsOf(runDir).at(-1) ?? join(directory, '0000000001.log');
  const head = fs.existsSync(path) ? '' : segmentHead;
  fs.writeFileSync(path, `${head}\n${lines.map(([key, json]) => sealLine(key, json)).join('')}`, {flag: 'a', mode: 0o600});
}
