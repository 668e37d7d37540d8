/** noded.conf(5): read, checked, and brought together with the command line, which wins. */
import {readFileSync, statSync} from 'node:fs';
import {isAbsolute} from 'node:path';
import {parse} from 'smol-toml';
import {secondsToMs} from '../base/duration';
import {errnoOf, messageOf} from '../base/errors';
import {defaults, limits} from '../base/limits';
import {runDirPath} from '../proc/run-dir';
import {unsafePath} from '../proc/safe-path';
import {normalizeCertificate} from '../rpc/tls';
import type {Role, TlsVersion} from '../rpc/tls';
import type {TlsFiles} from '../rpc/tls-files';
import {ConfigError, UsageError} from './config-error';
import {addressOfInterface, bareAddress, checkLoopback} from './listen-address';
import {absolutePath} from './absolute-path';

export const defaultConfigPath = '/etc/noded/noded.conf';
export const defaultFunctionDirectories = ['/usr/local/lib/noded/functions', '/etc/noded/functions.d'];

/** `ganeti` is for ganeti-noded alone, which has no other. */
export type SpawnerName = 'auto' | 'child' | 'forker' | 'ganeti';
export type OnStop = 'terminate' | 'drain' | 'leave';
export type ConfiguredLimits = {readonly [K in keyof typeof defaults]: number};

export interface Config {
  readonly port: number;
  readonly address: string;
  /** Null without TLS. */
  readonly tls: TlsFiles | null;
  readonly tlsMinVersion: TlsVersion;
  readonly roles: readonly Role[];
  readonly runDir: string;
  /** What a call has come to is on disk before anybody hears of it. */
  readonly durable: boolean;
  readonly functionDirectories: readonly string[];
  /** Those that need not be there. */
  readonly optionalDirectories: readonly string[];
  /** `[function.NAME]`: fn_name → JSON text. */
  readonly functionConfig: ReadonlyMap<string, string>;
  readonly limits: ConfiguredLimits;
  readonly spawner: SpawnerName;
  readonly onStop: OnStop;
  readonly stopKillAfterMs: number;
  readonly drainTimeoutMs: number;
  readonly daemonize: boolean;
  readonly pidFile: string | null;
  readonly logFile: string | null;
  readonly debug: boolean;
}

/** What the command line may say; the names are those of its options. */
export interface CommandLine {
  readonly config?: string;
  readonly port?: string;
  readonly bind?: string;
  readonly interface?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly ca?: string;
  readonly ssl: boolean;
  readonly runDir?: string;
  readonly functions?: readonly string[];
  readonly daemonize?: boolean;
  readonly foreground?: boolean;
  readonly pidFile?: string;
  readonly debug?: boolean;
}

type Table = Readonly<Record<string, unknown>>;
type Check<T> = (value: unknown, key: string) => T;

function fail(key: string, what: string): never {
  throw new ConfigError(`${key} must be ${what}`);
}

const isTable = (value: unknown): value is Table => typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
const text: Check<string> = (value, key) => (typeof value === 'string' && value !== '' ? value : fail(key, 'a string'));
const flag: Check<boolean> = (value, key) => (typeof value === 'boolean' ? value : fail(key, 'true or false'));
const path: Check<string> = (value, key) => (isAbsolute(text(value, key)) ? (value as string) : fail(key, 'an absolute path'));
const list: Check<readonly string[]> = (value, key) =>
  Array.isArray(value) && value.every((item) => typeof item === 'string') ? (value as string[]) : fail(key, 'an array of strings');
export const paths: Check<readonly string[]> = (value, key) => list(value, key).map((item) => path(item, key));
export const seconds: Check<number> = (value, key) =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0 ? secondsToMs(value) : fail(key, 'a number of seconds, 0 or more');
const whole: Check<number> = (value, key) => (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : fail(key, 'a whole number, 0 or more'));
const maxPort = 65_535;
const port: Check<number> = (value, key) => (whole(value, key) <= maxPort ? (value as number) : fail(key, `a port, 0 to ${maxPort}`));
const oneOf =
  <T extends string>(...choices: readonly T[]): Check<T> =>
  (value, key) =>
    choices.find((choice) => choice === value) ?? fail(key, `one of ${choices.join(', ')}`);

const topKeys = ['port', 'bind', 'interface', 'cert', 'key', 'ca', 'ssl', 'tls_min_version', 'run_dir', 'durable', 'functions', 'spawner', 'on_stop', 'stop_kill_after', 'drain_timeout', 'daemonize', 'pid_file', 'log_file', 'debug', 'limits', 'roles', 'function'];

/** Keys of `[limits]`, as they stand in the file; bytes are whole numbers, durations seconds. */
const limitKeys: {readonly [K in keyof typeof defaults]: readonly [key: string, check: Check<number>]} = {
  maxCalls: ['max_calls', whole],
  maxUrgentCalls: ['max_urgent_calls', whole],
  maxWaiters: ['max_waiters', whole],
  maxConnections: ['max_connections', whole],
  maxRequestBytes: ['max_request', whole],
  maxOutputBytes: ['max_output', whole],
  maxWaitMs: ['max_wait', seconds],
  killAfterMs: ['kill_after', seconds],
  keepResultMs: ['keep_result', seconds],
  maxResults: ['max_results', whole],
  maxSpoolBytes: ['max_spool', whole],
  minFreeBytes: ['min_free', whole],
};

/** What SIGHUP takes over; the rest is for a start, and stands below with its key. */
type ReloadedKey = 'tls' | 'tlsMinVersion' | 'roles' | 'functionDirectories' | 'optionalDirectories' | 'functionConfig';
const restartKeys: {readonly [K in Exclude<keyof Config, ReloadedKey | 'limits'>]: string} = {
  port: 'port',
  address: 'bind',
  runDir: 'run_dir',
  durable: 'durable',
  spawner: 'spawner',
  onStop: 'on_stop',
  stopKillAfterMs: 'stop_kill_after',
  drainTimeoutMs: 'drain_timeout',
  daemonize: 'daemonize',
  pidFile: 'pid_file',
  logFile: 'log_file',
  debug: 'debug',
};

/** Keys of noded.conf that a reload leaves as they were, although they have changed. */
export function keysForRestart(old: Config, now: Config): readonly string[] {
  const top = (Object.keys(restartKeys) as (keyof typeof restartKeys)[]).filter((name) => old[name] !== now[name]).map((name) => restartKeys[name]);
  const changed = (Object.keys(limitKeys) as (keyof typeof limitKeys)[]).filter((name) => name !== 'maxOutputBytes' && old.limits[name] !== now.limits[name]);
  return [...top, ...changed.map((name) => `limits.${limitKeys[name][0]}`)];
}

/** The command line with the paths that its words mean here, for reading it again from elsewhere. */
export function absolutePaths(line: CommandLine): CommandLine {
  try {
    const paths = (['config', 'cert', 'key', 'ca', 'runDir', 'pidFile'] as const).filter((name) => line[name] !== undefined).map((name) => [name, absolutePath(line[name]!)]);
    return {...line, ...Object.fromEntries(paths), ...(line.functions === undefined ? {} : {functions: line.functions.map(absolutePath)})};
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}

/** A table of a configuration file, whose keys are all known. */
export class Section {
  constructor(
    private readonly table: Table,
    private readonly prefix: string,
    known: readonly string[] | null,
  ) {
    for (const key of Object.keys(table)) {
      if (known !== null && !known.includes(key)) throw new ConfigError(`${prefix}${key} is not a key of noded.conf`);
    }
  }

  get<T, D>(key: string, check: Check<T>, absent: D): T | D {
    return this.table[key] === undefined ? absent : check(this.table[key], this.prefix + key);
  }

  tables(key: string): [name: string, table: Table][] {
    const value = this.table[key] ?? {};
    if (!isTable(value)) return fail(key, 'a table');
    return Object.entries(value).map(([name, table]) => [name, isTable(table) ? table : fail(`${key}.${name}`, 'a table')]);
  }

  section(key: string, known: readonly string[]): Section {
    const value = this.table[key] ?? {};
    return isTable(value) ? new Section(value, `${key}.`, known) : fail(key, 'a table');
  }
}

/** Reads a configuration file, which may be missing unless somebody named it. Throws a ConfigError. */
export function readFile(file: string, keys: readonly string[], mayBeMissing: boolean): Section {
  let content = '';
  try {
    const stats = statSync(file);
    if (stats.size > limits.maxConfigBytes) throw new Error('is too large');
    // It names programs that run as root. (/dev/null and pipes are whoever started noded.)
    const unsafe = process.getuid?.() === 0 && stats.isFile() ? unsafePath(file) : null;
    if (unsafe !== null) throw new Error(unsafe);
    content = readFileSync(file, 'utf8');
  } catch (error) {
    if (!mayBeMissing || errnoOf(error) !== 'ENOENT') throw new ConfigError(`${file}: ${messageOf(error)}`);
  }
  try {
    return new Section(parse(content) as Table, '', keys);
  } catch (error) {
    throw new ConfigError(`${file}: ${messageOf(error).split('\n')[0]}`);
  }
}

function readRoles(file: Section): readonly Role[] {
  return file.tables('roles').map(([name, table]) => {
    const role = new Section(table, `roles.${name}.`, ['certificates', 'functions']);
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(name) || name === 'local') throw new ConfigError(`roles.${name}: a role's name is 1 to 64 of A-Z a-z 0-9 _ -, and not local`);
    return {name, certificates: role.get('certificates', list, []).map(normalizeCertificate), functions: role.get('functions', list, [])};
  });
}

function readAddress(file: Section, line: CommandLine, ssl: boolean): string {
  if (line.bind !== undefined && line.interface !== undefined) throw new UsageError('give an address or an interface to listen on, not both');
  const byLine = line.bind ?? (line.interface === undefined ? undefined : addressOfInterface(line.interface));
  const bind = file.get('bind', text, undefined);
  const interfaceName = file.get('interface', text, undefined);
  if (bind !== undefined && interfaceName !== undefined) throw new ConfigError('bind and interface exclude each other');
  const given = byLine ?? bind ?? (interfaceName === undefined ? undefined : addressOfInterface(interfaceName)) ?? (ssl ? '0.0.0.0' : '127.0.0.1');
  const address = bareAddress(given);
  checkLoopback(address, ssl);
  return address;
}

export function readLimits(file: Section, absent: ConfiguredLimits): ConfiguredLimits {
  const section = file.section('limits', Object.values(limitKeys).map(([key]) => key));
  const entries = Object.entries(limitKeys) as [keyof typeof defaults, (typeof limitKeys)[keyof typeof defaults]][];
  return Object.fromEntries(entries.map(([name, [key, check]]) => [name, section.get(key, check, absent[name])])) as ConfiguredLimits;
}

export function readFunctionConfig(file: Section): ReadonlyMap<string, string> {
  return new Map(file.tables('function').map(([name, table]) => [name, JSON.stringify(table)]));
}

/** A run directory as it is used. Throws a ConfigError if there can be no socket in it, nor at $NOTIFY_SOCKET. */
export function readRunDir(given: string): string {
  const {NOTIFY_SOCKET: notifySocket = ''} = process.env;
  const tooLong = (name: string, path: string, maxBytes: number): never => {
    throw new ConfigError(`${name} has ${Buffer.byteLength(path)} bytes, and may have ${maxBytes}: the path of a socket cannot be longer: ${path}`);
  };
  if (Buffer.byteLength(notifySocket) > limits.maxSocketPathBytes) tooLong('NOTIFY_SOCKET', notifySocket, limits.maxSocketPathBytes);
  return runDirPath(given) ?? tooLong('run_dir', given, limits.maxRunDirBytes);
}

/** Where a detached noded logs if nothing is said: it has no standard error. */
const detachedLogFile = '/var/log/noded.log';

/** Reads noded.conf and the command line. Throws a ConfigError with one clear line. */
export function readConfig(given: CommandLine): Config {
  // Paths of the command line are the caller's, relative to where it was typed; those of the file must be absolute.
  const line = absolutePaths(given);
  const file = readFile(line.config ?? defaultConfigPath, topKeys, line.config === undefined);
  const ssl = line.ssl && file.get('ssl', flag, true);
  const tlsPath = (name: 'cert' | 'key' | 'ca', absent: string): string => line[name] ?? file.get(name, path, absent);
  const daemonize = line.foreground === true ? false : (line.daemonize ?? file.get('daemonize', flag, false));
  const linePort = line.port === undefined ? undefined : Number(line.port);
  if (linePort !== undefined && !(/^\d{1,5}$/.test(line.port!) && linePort <= maxPort)) throw new UsageError(`--port must be a port, 0 to ${maxPort}`);
  return {
    port: linePort ?? file.get('port', port, 1811),
    address: readAddress(file, line, ssl),
    tls: ssl ? {cert: tlsPath('cert', '/etc/noded/node.crt'), key: tlsPath('key', '/etc/noded/node.key'), ca: tlsPath('ca', '/etc/noded/ca.crt')} : null,
    tlsMinVersion: file.get('tls_min_version', oneOf<TlsVersion>('TLSv1.2', 'TLSv1.3'), 'TLSv1.3'),
    roles: readRoles(file),
    runDir: readRunDir(line.runDir ?? file.get('run_dir', path, '/run/noded')),
    durable: file.get('durable', flag, false),
    optionalDirectories: defaultFunctionDirectories,
    functionDirectories: line.functions ?? file.get('functions', paths, defaultFunctionDirectories),
    functionConfig: readFunctionConfig(file),
    limits: readLimits(file, defaults),
    spawner: file.get('spawner', oneOf<SpawnerName>('auto', 'child', 'forker'), 'auto'),
    onStop: file.get('on_stop', oneOf<OnStop>('terminate', 'drain', 'leave'), 'terminate'),
    stopKillAfterMs: file.get('stop_kill_after', seconds, 0),
    drainTimeoutMs: file.get('drain_timeout', seconds, 300_000),
    daemonize,
    pidFile: line.pidFile ?? file.get('pid_file', path, null),
    logFile: file.get('log_file', path, daemonize ? detachedLogFile : null),
    debug: line.debug ?? file.get('debug', flag, false),
  };
}
