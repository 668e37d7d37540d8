/** What the sources of lib/ say of themselves, for specs that hold pages and examples to it. */
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import type {defaults} from '../../lib/base/limits';
import {readConfig} from '../../lib/main/config';
import {root} from './man-page';

/** The text of a file of lib/. */
export const sourceOf = (file: string): string => readFileSync(join(root, 'lib', file), 'utf8');

/** The quoted names in the first array after some words of a file of lib/. */
export function namesIn(file: string, words: string): string[] {
  const [, after] = sourceOf(file).split(words);
  const array = after === undefined ? undefined : /\[([^\]]+)\]/.exec(after)?.[1];
  if (array === undefined) throw new Error(`lib/${file} has no array after ${words}`);
  return [...array.matchAll(/'([^']+)'/g)].map(([, name]) => name!);
}

export interface LimitKey {
  readonly name: keyof typeof defaults;
  readonly key: string;
  readonly isSeconds: boolean;
}

/** The keys of `[limits]`. */
export function limitKeys(): LimitKey[] {
  const found = [...sourceOf('main/config.ts').matchAll(/^ {2}(\w+): \['(\w+)', (\w+)\],$/gm)];
  if (found.length === 0) throw new Error('lib/main/config.ts has no keys of [limits]');
  return found.map(([, name, key, check]) => ({name: name as LimitKey['name'], key: key!, isSeconds: check === 'seconds'}));
}

/** What an empty noded.conf means, by key; null where there is no default. */
export function configDefaults(): Record<string, unknown> {
  const {port, address, tls, tlsMinVersion, runDir, durable, functionDirectories, spawner, onStop, stopKillAfterMs, drainTimeoutMs, daemonize, pidFile, logFile, debug, limits} =
    readConfig({config: '/dev/null', ssl: true});
  return {
    port,
    bind: address,
    interface: null,
    ssl: tls !== null,
    cert: tls?.cert,
    key: tls?.key,
    ca: tls?.ca,
    tls_min_version: tlsMinVersion,
    run_dir: runDir,
    durable,
    functions: functionDirectories,
    spawner,
    on_stop: onStop,
    stop_kill_after: stopKillAfterMs / 1000,
    drain_timeout: drainTimeoutMs / 1000,
    daemonize,
    pid_file: pidFile,
    log_file: logFile,
    debug,
    ...Object.fromEntries(limitKeys().map(({name, key, isSeconds}) => [key, isSeconds ? limits[name] / 1000 : limits[name]])),
  };
}
