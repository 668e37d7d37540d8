/** `<name>.toml` beside a function: what noded knows of its calls (DESIGN.md section 6, noded-functions(7)). */
import {spawnSync} from 'node:child_process';
import {parse} from 'smol-toml';
import {secondsToMs} from '../base/duration';
import {errnoOf} from '../base/errors';
import {limits} from '../base/limits';
import type {FunctionUser} from '../call/spawner';

/** A manifest's keys in code's names; null where it says nothing. */
export interface Manifest {
  readonly description: string | null;
  /** JSON Schema of the arguments. */
  readonly args: object | boolean | null;
  readonly abortAfterMs: number | null;
  readonly maxAbortAfterMs: number | null;
  readonly killAfterMs: number | null;
  readonly maxRunning: number | null;
  readonly maxOutputBytes: number | null;
  readonly user: FunctionUser | null;
  readonly nice: number | null;
  readonly urgent: boolean;
  readonly leaveRunning: boolean;
  readonly roles: readonly string[] | null;
}

type Check<T> = (value: unknown, key: string) => T;

function fail(key: string, what: string): never {
  throw new Error(`${key} must be ${what}`);
}

const text: Check<string> = (value, key) => (typeof value === 'string' ? value : fail(key, 'a string'));
const flag: Check<boolean> = (value, key) => (typeof value === 'boolean' ? value : fail(key, 'true or false'));
const seconds: Check<number> = (value, key) =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0 ? secondsToMs(value) : fail(key, 'a number of seconds, 0 or more');
const positiveSeconds: Check<number> = (value, key) => (seconds(value, key) > 0 ? seconds(value, key) : fail(key, 'a number of seconds over 0'));
const positive: Check<number> = (value, key) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : fail(key, 'a whole number, 1 or more');
const niceness: Check<number> = (value, key) =>
  typeof value === 'number' && Number.isInteger(value) && value >= -20 && value <= 19 ? value : fail(key, 'a whole number from -20 to 19');
const names: Check<readonly string[]> = (value, key) =>
  Array.isArray(value) && value.every((name) => typeof name === 'string') ? (value as string[]) : fail(key, 'an array of strings');
const schema: Check<object | boolean> = (value, key) =>
  typeof value === 'boolean' || (typeof value === 'object' && value !== null && !Array.isArray(value)) ? value : fail(key, 'a JSON Schema');

const keys = [
  'description',
  'args',
  'abort_after',
  'max_abort_after',
  'kill_after',
  'max_running',
  'max_output',
  'user',
  'group',
  'nice',
  'urgent',
  'leave_running',
  'roles',
];

/** Reads the text of a manifest. Throws an Error that says what is wrong: then the function is left out. */
export function readManifest(content: string): Manifest {
  const table = parse(content);
  for (const key of Object.keys(table)) if (!keys.includes(key)) throw new Error(`${key} is not a key of a manifest`);
  const get = <T, D>(key: string, check: Check<T>, absent: D): T | D => (table[key] === undefined ? absent : check(table[key], key));
  return {
    description: get('description', text, null),
    args: get('args', schema, null),
    abortAfterMs: get('abort_after', positiveSeconds, null),
    maxAbortAfterMs: get('max_abort_after', positiveSeconds, null),
    killAfterMs: get('kill_after', seconds, null),
    maxRunning: get('max_running', positive, null),
    maxOutputBytes: get('max_output', positive, null),
    user: findUser(get('user', text, null), get('group', text, null)),
    nice: get('nice', niceness, null),
    urgent: get('urgent', flag, false),
    leaveRunning: get('leave_running', flag, false),
    roles: get('roles', names, null),
  };
}

/** The system could not say whether there is such a user: a directory server is down, or there is no process to be had. */
export class LookupError extends Error {
  override readonly name = 'LookupError';
}

const notFound = 2; // getent(1)

/** One line of the system's user or group database, whatever it is kept in (files, LDAP, …). Throws a LookupError if nobody can say. */
function getent(database: 'passwd' | 'group', name: string): string[] {
  const {status, signal, error, stdout} = spawnSync('getent', [database, '--', name], {encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: limits.userLookupMs});
  if (status === 0) return stdout.trim().split(':');
  const what = `${database === 'passwd' ? 'user' : 'group'} ${name}`;
  if (status === notFound) throw new Error(`there is no ${what}`);
  throw new LookupError(`getent cannot say whether there is a ${what}: ${error === undefined ? (signal ?? `exit ${status}`) : errnoOf(error)}`);
}

function findUser(user: string | null, group: string | null): FunctionUser | null {
  if (user === null && group === null) return null;
  if (user === null) throw new Error('group needs user');
  const [, , uid, userGid, , home] = getent('passwd', user);
  const gid = group === null ? userGid : getent('group', group)[2];
  return {uid: Number(uid), gid: Number(gid), home: home ?? '/'};
}
