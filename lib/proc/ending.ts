/** From the end of a function process, as its spawner or a journal knows it, to the ending of its call. */
import {setTimeout as pause} from 'node:timers/promises';
import {momentNow} from '../base/boot-clock';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Ending, KnownSizes, OutputSizes} from '../base/outcome';
import type {EndedLine, NotedOutput} from '../call/journal';
import {examineBytes, examineStdout} from './output';
import type {OutputFacts, OutputScanner, StdoutSource} from './output';

/** The files of calls; proc/spool.ts. */
export interface EndedFiles extends StdoutSource {
  sizes(key: string): OutputSizes;
  trim(key: string, sizes: KnownSizes): void;
}

export interface EndingOptions {
  readonly files: EndedFiles;
  readonly newScanner: () => OutputScanner;
  readonly maxOutputBytes: number;
}

/** ENOENT does not: somebody removed the file. */
const mayPass = (error: unknown): boolean => !['EUNKNOWN', 'ENOENT'].includes(errnoOf(error));

/** What the files have now. Of those that the system cannot tell of nothing is known. */
export function sizesNow(files: Pick<EndedFiles, 'sizes'>, key: string): KnownSizes {
  try {
    return files.sizes(key);
  } catch {
    return {stdoutBytes: null, stderrBytes: null};
  }
}

/** What an `ended` line that is on file says of the output: it may have it itself, or know that it is lost. */
export function sizesOnFile(ended: EndedLine, files: EndedFiles, key: string): KnownSizes {
  if ('errno' in ended) return sizesNow(files, key);
  if (ended.noted !== undefined) return {stdoutBytes: ended.noted.stdout.length, stderrBytes: ended.noted.stderr.length, inJournal: true};
  const sizes = sizesNow(files, key);
  // What is not whole is not what the function wrote: half of a number is a number.
  const isWhole = ended.stdoutLost !== true && (ended.sizes === undefined || (sizes.stdoutBytes ?? 0) >= ended.sizes.stdoutBytes);
  return isWhole ? sizes : {...sizes, stdoutBytes: null};
}

function written({stdoutBytes, stderrBytes, inJournal}: KnownSizes): OutputSizes {
  const unsized = stdoutBytes === null || stderrBytes === null;
  return {stdoutBytes: stdoutBytes ?? 0, stderrBytes: stderrBytes ?? 0, ...(inJournal === true ? {inJournal} : {}), ...(unsized ? {unsized} : {})};
}

/** A result must not be lost because there was no descriptor to look at it with, or for a disk's error that passes. */
async function examinePatiently(key: string, stdoutBytes: number, {files, newScanner, maxOutputBytes}: EndingOptions): Promise<OutputFacts> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await examineStdout(files, key, stdoutBytes, maxOutputBytes, newScanner);
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
export async function endingOfProcess(key: string, ended: EndedLine, sizes: KnownSizes, options: EndingOptions): Promise<Ending> {
  const when = {endedAtMs: ended.atMs, endedBoot: ended.boot};
  if ('errno' in ended) return {kind: 'not_started', errno: ended.errno, stage: ended.stage, ...when};
  const exited = {kind: 'exited', exitCode: ended.exitCode, signal: ended.signal, ...when, ...written(sizes)} as const;
  try {
    // Without its file nobody knows what the function wrote: that must not pass for nothing.
    if (sizes.stdoutBytes === null) throw new Error('its file is gone or cut short');
    return {...exited, ...(await examinePatiently(key, sizes.stdoutBytes, options))};
  } catch (error) {
    const reason = `stdout could not be read: ${errnoOf(error) === 'EUNKNOWN' ? messageOf(error) : errnoOf(error)}`;
    if (exited.exitCode === 0) return {kind: 'lost', reason, ...when, ...written(sizes)};
    return {...exited, output: 'invalid', outputReason: reason};
  }
}

/** The same of a process whose whole output stands in its `ended` line. */
export function endingOfNoted(ended: EndedLine, {stdout, stderr}: NotedOutput, newScanner: () => OutputScanner): Ending {
  const {exitCode, signal} = ended as Exclude<EndedLine, {readonly errno: string}>;
  const facts = stdout === '' ? ({output: 'empty'} as const) : examineBytes(Buffer.from(stdout), newScanner());
  return {kind: 'exited', exitCode, signal, endedAtMs: ended.atMs, endedBoot: ended.boot, stdoutBytes: stdout.length, stderrBytes: stderr.length, inJournal: true, ...facts};
}

/** The same where nobody else sees to the files: those that say nothing any more go. */
export async function conclude(key: string, ended: EndedLine, sizes: KnownSizes, options: EndingOptions): Promise<Ending> {
  const ending = await endingOfProcess(key, ended, sizes, options);
  if (sizes.inJournal !== true) options.files.trim(key, sizes);
  return ending;
}

/** Of a call whose end nobody saw, once its processes are dead: what it wrote until then is all that is left to look at. */
export function endingOfLost(key: string, reason: string, files: EndedFiles): Ending {
  const sizes = sizesNow(files, key);
  files.trim(key, sizes);
  const {atMs, boot} = momentNow();
  return {kind: 'lost', reason, endedAtMs: atMs, endedBoot: boot, ...written(sizes)};
}
