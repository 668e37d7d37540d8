/**
 * fn_name → program and manifest: the only reader of the functions directories (DESIGN.md section 6).
 * Only names found by scanning are ever run: input never becomes a path.
 */
import {readFileSync, readdirSync, realpathSync} from 'node:fs';
import {join} from 'node:path';
import {errnoOf, isExhausted, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {FunctionSpec} from '../call/spawner';
import {notExecutable} from './executable';
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
  /** Later ones win. */
  readonly directories: readonly string[];
  /** Those of them that need not be there: nobody has asked for them by name. */
  readonly optional: readonly string[];
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
      names = readdirSync(directory);
    } catch (error) {
      const isMissing = errnoOf(error) === 'ENOENT';
      if (!isMissing || !options.optional.includes(directory)) leftOut.push(isMissing ? {path: directory, reason: 'there is no such directory'} : leaveOut(directory, error));
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
