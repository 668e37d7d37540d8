/** From the end of a function process, as its spawner or a journal knows it, to the ending of its call. */
import {setTimeout as pause} from 'node:timers/promises';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Ending} from '../base/outcome';
import type {EndedLine, OutputSizes} from '../call/journal';
import {examineStdout} from './output';
import type {OutputFacts, OutputScanner, StdoutSource} from './output';

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

/** ENOENT does not: somebody removed the file. */
const mayPass = (error: unknown): boolean => !['EUNKNOWN', 'ENOENT'].includes(errnoOf(error));

/** What the files have now. Of those that the system cannot tell of nothing is known. */
export function sizesNow(files: {sizes(key: string): OutputSizes}, key: string): KnownSizes {
  try {
    return files.sizes(key);
  } catch {
    return {stdoutBytes: null, stderrBytes: 0};
  }
}

/** A result must not be lost because there was no descriptor to look at it with, or for a disk's error that passes. */
async function examinePatiently(key: string, stdoutBytes: number, {source, newScanner, maxOutputBytes}: EndingOptions): Promise<OutputFacts> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await examineStdout(source, key, stdoutBytes, maxOutputBytes, newScanner);
    } catch (error) {
      if (!mayPass(error) || tries >= limits.outputTries) throw error;
      await pause(limits.outputRetryMs);
    }
  }
}

/**
 * Looks at what an ended function process wrote. What cannot be read is the node's fault and not the function's: after
 * exit code 0 nobody knows then whether there was a result. A failure is one whatever was written.
 */
export async function endingOfProcess(key: string, ended: EndedLine, {stdoutBytes, stderrBytes, inJournal}: KnownSizes, options: EndingOptions): Promise<Ending> {
  if ('errno' in ended) return {kind: 'not_started', errno: ended.errno, stage: ended.stage, endedAtMs: ended.atMs};
  const exited = {kind: 'exited', exitCode: ended.exitCode, signal: ended.signal, endedAtMs: ended.atMs, stdoutBytes: stdoutBytes ?? 0, stderrBytes, ...(inJournal === true ? {inJournal} : {})} as const;
  try {
    // Without its file nobody knows what the function wrote: that must not pass for nothing.
    if (stdoutBytes === null) throw new Error('its file is gone');
    return {...exited, ...(await examinePatiently(key, stdoutBytes, options))};
  } catch (error) {
    const reason = `stdout could not be read: ${errnoOf(error) === 'EUNKNOWN' ? messageOf(error) : errnoOf(error)}`;
    if (exited.exitCode === 0) return {kind: 'lost', reason, endedAtMs: ended.atMs};
    return {...exited, output: 'invalid', outputReason: reason};
  }
}
