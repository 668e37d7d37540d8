/**
 * Call IDs: `${ppid}:${cpid}:${time}:${random}` (DESIGN.md section 1), opaque to masters. ppid is the
 * noded that accepted the call, cpid its function process, time the wall clock in seconds. The random
 * part is drawn before the start and is the call's key: the table and the spool go by it, because it is
 * the only part that exists before there is a process.
 */
import {randomBytes} from 'node:crypto';

export interface CallIdParts {
  readonly ppid: number;
  /** 0 while the call is starting, and for ever if its process could not be started. */
  readonly cpid: number;
  /** Wall clock of the acceptance, ms since the epoch. */
  readonly acceptedAtMs: number;
  /** 16 lower-case hexadecimal digits. */
  readonly key: string;
}

const idPattern = /^(\d{1,10}):(\d{1,10}):(\d{1,12})\.(\d{3}):([0-9a-f]{16})$/;
const keyPattern = /^[0-9a-f]{16}$/;

const keyBytes = 8;
const poolBytes = 512 * keyBytes;
let pool = Buffer.alloc(0);

/** 64 random bits: no two calls of a node share a key, and nobody guesses one. Asking the system for a few at a time is slow. */
export function drawKey(): string {
  if (pool.length === 0) pool = randomBytes(poolBytes);
  const key = pool.toString('hex', 0, keyBytes);
  pool = pool.subarray(keyBytes);
  return key;
}

export function isKey(text: string): boolean {
  return keyPattern.test(text);
}

export function makeCallId({ppid, cpid, acceptedAtMs, key}: CallIdParts): string {
  return `${ppid}:${cpid}:${Math.floor(acceptedAtMs / 1000)}.${String(acceptedAtMs % 1000).padStart(3, '0')}:${key}`;
}

/** The parts of a call ID, or null if noded cannot have made it. */
export function parseCallId(text: string): CallIdParts | null {
  const match = idPattern.exec(text);
  if (match === null) return null;
  const [, ppid, cpid, seconds, millis, key] = match;
  return {ppid: Number(ppid), cpid: Number(cpid), acceptedAtMs: Number(seconds) * 1000 + Number(millis), key: key!};
}

/**
 * Whether `given` names the call `actual`. An ID that was given out while the call was starting has
 * cpid 0 and stays good; and a whole one stays good if the start was not on file when noded died.
 */
export function isSameCall(given: CallIdParts, actual: CallIdParts): boolean {
  return (
    given.key === actual.key &&
    given.ppid === actual.ppid &&
    given.acceptedAtMs === actual.acceptedAtMs &&
    (given.cpid === actual.cpid || given.cpid === 0 || actual.cpid === 0)
  );
}
