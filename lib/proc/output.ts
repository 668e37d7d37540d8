/** What a function wrote: is its stdout exactly one JSON value? Read in slices, so that no size of it stalls the loop. */
import {closeSync, read} from 'node:fs';
import {promisify} from 'node:util';
import {limits} from '../base/limits';
import type {OutputKind} from '../base/outcome';

/** A JSON validator that is fed slices; rpc/json-scan.ts has the one, main/ brings them together. */
export interface OutputScanner {
  write(chunk: Uint8Array): void;
  end(): {readonly valid: true; readonly kind: string} | {readonly valid: false; readonly reason: string; readonly offset: number};
}

export interface OutputFacts {
  readonly output: OutputKind;
  readonly outputReason?: string;
}

const readAsync = promisify(read);

function verdict(scanner: OutputScanner): OutputFacts {
  const result = scanner.end();
  if (result.valid) return {output: result.kind === 'empty' ? 'empty' : 'json'};
  return {output: 'invalid', outputReason: `${result.reason} at byte ${result.offset}`};
}

/** Where stdout is; proc/spool.ts. */
export interface StdoutSource {
  readStdout(key: string, length: number): Buffer;
  openStdout(key: string): number;
}

/** Examines all that was written. */
export function examineBytes(bytes: Uint8Array, scanner: OutputScanner): OutputFacts {
  scanner.write(bytes);
  return verdict(scanner);
}

/** Examines the first `size` bytes of an open file: those that were there when the function process ended. */
async function examineFile(fd: number, size: number, scanner: OutputScanner): Promise<OutputFacts> {
  const slice = Buffer.allocUnsafe(Math.min(size, limits.scanSliceBytes));
  for (let at = 0; at < size; ) {
    const {bytesRead} = await readAsync(fd, slice, 0, Math.min(slice.length, size - at), at);
    if (bytesRead === 0) return {output: 'invalid', outputReason: `stdout was cut short at byte ${at}`};
    scanner.write(slice.subarray(0, bytesRead));
    at += bytesRead;
  }
  return verdict(scanner);
}

/**
 * Examines the stdout of an ended call. `size` are the bytes that were there when its process ended:
 * what a leftover writes after that does not count.
 */
export async function examineStdout(source: StdoutSource, key: string, size: number, maxBytes: number, newScanner: () => OutputScanner): Promise<OutputFacts> {
  if (size > maxBytes) return {output: 'too_large'};
  // An empty file may be gone by now.
  if (size === 0) return {output: 'empty'};
  if (size <= limits.scanSliceBytes) return examineBytes(source.readStdout(key, size), newScanner());
  const fd = source.openStdout(key);
  try {
    return await examineFile(fd, size, newScanner());
  } finally {
    closeSync(fd);
  }
}
