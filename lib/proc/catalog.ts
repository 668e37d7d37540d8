/**
 * fn_name → program and manifest: the only reader of the functions directories (DESIGN.md section 6).
 * Only names found by scanning are ever run: input never becomes a path.
 */
import {closeSync, constants, fstatSync, openSync, readFileSync, readSync, readdirSync, realpathSync} from 'node:fs';
import {join} from 'node:path';
import {errnoOf, isExhausted, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {FunctionSpec} from '../call/spawner';
import {unsafePath} from './safe-path';
import {LookupError, readManifest} from './manifest';
import type {Manifest} from './manifest';
import {ArgsSchema} from './args-schema';

export interface CatalogEntry {
  readonly spec: FunctionSpec;
  readonly description: string | null;
  readonly args: ArgsSchema | null;
  readonly abortAfterMs: number | null;
  readonly maxAbortAfterMs: number | null;
  /** The roles that may call it; null is every role that has the function. */
  readonly roles: readonly string[] | null;
}

export interface CatalogOptions {
  /** Later ones win. One that does not exist is empty. */
  readonly directories: readonly string[];
  /** The most that a manifest's max_output may leave unsaid. */
  readonly maxOutputBytes: number;
  /** `[function.NAME]` of noded.conf: fn_name → JSON text. */
  readonly functionConfig: ReadonlyMap<string, string>;
}

export interface Scan {
  readonly entries: ReadonlyMap<string, CatalogEntry>;
  /** Files that are not functions although they look like it, and why. */
  readonly leftOut: readonly LeftOut[];
}

export interface LeftOut {
  readonly path: string;
  readonly reason: string;
  /** The reason lies not in the file, and may be gone the next time. */
  readonly passes?: true;
}

/** What a function may be called. */
export const namePattern = /^[a-z][a-z0-9_-]{0,63}$/;
const elfMagic = '7f454c46';

function readStart(path: string, length: number): Buffer {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const start = Buffer.alloc(length);
    return start.subarray(0, readSync(fd, start, 0, length, 0));
  } finally {
    closeSync(fd);
  }
}

/** Class, byte order and machine of an ELF file: bytes 4, 5, 18 and 19 of its header. */
const elfKind = (header: Buffer): string => `${header[4]}.${header[5]}.${header[18]}.${header[19]}`;
let ownElfKind: string | undefined;

/** Why the kernel would not run a file, or null. execvp would then hand it to /bin/sh, as root: so it must never get there. */
function notExecutable(path: string): string | null {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) return 'is not a regular file';
    if ((stats.mode & 0o111) === 0) return 'is not executable';
  } finally {
    closeSync(fd);
  }
  const header = readStart(path, 256);
  if (header.toString('latin1', 0, 2) === '#!') {
    const interpreter = /^#![ \t]*([^ \t\n]+)/.exec(header.toString('latin1'))?.[1];
    return interpreter === undefined ? 'names no interpreter after #!' : missingInterpreter(interpreter);
  }
  if (header.toString('hex', 0, 4) !== elfMagic || header.length < 20) return 'is neither ELF nor does it begin with #!';
  ownElfKind ??= elfKind(readStart(process.execPath, 20));
  return elfKind(header) === ownElfKind ? null : 'is an ELF file for another machine';
}

function missingInterpreter(interpreter: string): string | null {
  try {
    closeSync(openSync(interpreter, constants.O_RDONLY));
    return null;
  } catch (error) {
    return `has the interpreter ${interpreter}, which gives ${errnoOf(error)}`;
  }
}

function readManifestOf(program: string): Manifest {
  let content: string;
  try {
    content = readFileSync(`${program}.toml`, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return readManifest('');
    throw error;
  }
  const unsafe = unsafePath(`${program}.toml`);
  if (unsafe !== null) throw new Error(unsafe);
  if (content.length > limits.maxConfigBytes) throw new Error(`is over ${limits.maxConfigBytes} bytes`);
  try {
    return readManifest(content);
  } catch (error) {
    const message = `${program}.toml: ${messageOf(error)}`;
    throw error instanceof LookupError ? new LookupError(message) : new Error(message);
  }
}

function readEntry(name: string, path: string, options: CatalogOptions): CatalogEntry {
  const unsafe = unsafePath(path);
  if (unsafe !== null) throw new Error(unsafe);
  const unfit = notExecutable(path);
  if (unfit !== null) throw new Error(unfit);
  const manifest = readManifestOf(path);
  return {
    spec: {
      name,
      program: realpathSync(path),
      maxRunning: manifest.maxRunning,
      maxOutputBytes: manifest.maxOutputBytes ?? options.maxOutputBytes,
      killAfterMs: manifest.killAfterMs,
      urgent: manifest.urgent,
      leaveRunning: manifest.leaveRunning,
      user: manifest.user,
      nice: manifest.nice,
      config: options.functionConfig.get(name) ?? null,
    },
    description: manifest.description,
    args: manifest.args === null ? null : new ArgsSchema(manifest.args),
    abortAfterMs: manifest.abortAfterMs,
    maxAbortAfterMs: manifest.maxAbortAfterMs,
    roles: manifest.roles,
  };
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

function leaveOut(path: string, error: unknown): LeftOut {
  return {path, reason: messageOf(error), ...(error instanceof LookupError || isExhausted(error) || errnoOf(error) === 'EIO' ? {passes: true} : {})};
}

/** Reads the functions directories. Never throws for one bad function: it is left out, with the reason. */
export function scanFunctions(options: CatalogOptions): Scan {
  const entries = new Map<string, CatalogEntry>();
  const leftOut: LeftOut[] = [];
  for (const directory of options.directories) {
    let names: readonly string[] = [];
    try {
      names = namesIn(directory);
    } catch (error) {
      leftOut.push(leaveOut(directory, error));
    }
    for (const name of names) {
      if (name.endsWith('.toml') || name.startsWith('.')) continue;
      const path = join(directory, name);
      try {
        if (!namePattern.test(name)) throw new Error(`is no function's name: ${namePattern.source}`);
        entries.set(name, readEntry(name, path, options));
      } catch (error) {
        entries.delete(name); // an override that is broken must not bring back what it was to replace
        leftOut.push(leaveOut(path, error));
      }
    }
  }
  return {entries, leftOut};
}

/** The functions of this node; replaced whole on SIGHUP, so that running calls keep what they were started with. */
export class Catalog {
  private entries: ReadonlyMap<string, CatalogEntry> = new Map();

  replace(scan: Scan): void {
    this.entries = scan.entries;
  }

  /** Takes one function out: something about it turned out to be wrong. */
  leaveOut(name: string): void {
    this.entries = new Map([...this.entries].filter(([other]) => other !== name));
  }

  get(name: string): CatalogEntry | undefined {
    return this.entries.get(name);
  }

  list(): readonly CatalogEntry[] {
    return [...this.entries.values()];
  }
}
