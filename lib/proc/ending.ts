/** From the end of a function process, as its spawner or a journal knows it, to the ending of its call. */
import {messageOf} from '../base/errors';
import type {Ending} from '../base/outcome';
import type {EndedLine, OutputSizes} from '../call/journal';
import {examineStdout} from './output';
import type {OutputScanner, StdoutSource} from './output';

/** Null for a stdout whose file has gone. */
export type KnownSizes = Omit<OutputSizes, 'stdoutBytes'> & {readonly stdoutBytes: number | null};

export interface EndingOptions {
  readonly source: StdoutSource;
  readonly newScanner: () => OutputScanner;
  readonly maxOutputBytes: number;
}

/** Of output that the `ended` line itself has, or that it says is lost; null if it is in files. */
export function sizesOf(ended: EndedLine): KnownSizes | null {
  if ('errno' in ended) return null;
  if (ended.stdoutLost === true) return {stdoutBytes: null, stderrBytes: 0};
  if (ended.noted === undefined) return null;
  return {stdoutBytes: ended.noted.stdout.length, stderrBytes: ended.noted.stderr.length, inJournal: true};
}

/** Looks at what an ended function process wrote. Output that cannot be read is no result, but the end is a fact all the same. */
export async function endingOfProcess(key: string, ended: EndedLine, {stdoutBytes, stderrBytes, inJournal}: KnownSizes, {source, newScanner, maxOutputBytes}: EndingOptions): Promise<Ending> {
  if ('errno' in ended) return {kind: 'not_started', errno: ended.errno, stage: ended.stage, endedAtMs: ended.atMs};
  const exited = {kind: 'exited', exitCode: ended.exitCode, signal: ended.signal, endedAtMs: ended.atMs, stdoutBytes: stdoutBytes ?? 0, stderrBytes, ...(inJournal === true ? {inJournal} : {})} as const;
  try {
    // Without its file nobody knows what the function wrote: that must not pass for nothing.
    if (stdoutBytes === null) throw new Error('its file is gone');
    return {...exited, ...(await examineStdout(source, key, stdoutBytes, maxOutputBytes, newScanner))};
  } catch (error) {
    return {...exited, output: 'invalid', outputReason: `stdout could not be read: ${messageOf(error)}`};
  }
}
