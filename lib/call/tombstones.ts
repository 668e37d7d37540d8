/**
 * What is left of a call that was forgotten or expired: enough to tell `call_expired` from
 * `unknown_call`, and to refuse a late retry of its request ID instead of running it twice. Kept for
 * a day, at most limits.maxTombstones, oldest first out.
 */
import {ageMs} from '../base/boot-clock';
import type {BootTime} from '../base/boot-clock';
import {monotonicMs} from '../base/duration';
import {limits} from '../base/limits';
import {isOutcome} from '../base/outcome';
import type {Outcome} from '../base/outcome';
import {parseCallId} from './call-id';
import type {Line} from './journal';

export interface Tombstone {
  readonly key: string;
  readonly callId: string;
  readonly fnName: string;
  readonly role: string;
  readonly requestId: string | null;
  readonly outcome: Outcome;
  /** Wall clock, and the boot clock where that is known: a tombstone outlives the daemon and its monotonic clock. */
  readonly buriedAtMs: number;
  readonly buriedBoot: BootTime | null;
}

/** The one way from (role, request ID) to an index key; a request ID has no NUL. */
export function requestKey(role: string, requestId: string): string {
  return `${role}\0${requestId}`;
}

export class Tombstones {
  private readonly byKey = new Map<string, {readonly tombstone: Tombstone; readonly buriedAt: number}>();
  private readonly byRequest = new Map<string, Tombstone>();
  /** Of calls that went while older tombstones were still being read back; else null. */
  private younger: Tombstone[] | null = null;

  get size(): number {
    return this.byKey.size;
  }

  add(tombstone: Tombstone): void {
    this.younger?.push(tombstone);
    this.put(tombstone);
    this.purge();
  }

  private put(tombstone: Tombstone): void {
    // A crash between burial and removal buries a call twice; the order of the map must stay that of burial.
    this.byKey.delete(tombstone.key);
    const buriedAt = monotonicMs() - ageMs({atMs: tombstone.buriedAtMs, boot: tombstone.buriedBoot});
    this.byKey.set(tombstone.key, {tombstone, buriedAt});
    if (tombstone.requestId !== null) this.byRequest.set(requestKey(tombstone.role, tombstone.requestId), tombstone);
  }

  /** From now on, until `settle`, only those that `restore` brings back are the oldest. */
  expectOlder(): void {
    this.younger = [];
  }

  /** One of those that are being read back, in order of burial. */
  restore(tombstone: Tombstone): void {
    this.put(tombstone);
  }

  /** All have been read back: those that came meanwhile are the youngest. */
  settle(): void {
    const younger = this.younger!;
    this.younger = null;
    for (const tombstone of younger) this.put(tombstone);
    this.purge();
  }

  has(key: string): boolean {
    return this.byKey.has(key);
  }

  get(key: string): Tombstone | undefined {
    this.purge();
    return this.byKey.get(key)?.tombstone;
  }

  getByRequest(role: string, requestId: string): Tombstone | undefined {
    this.purge();
    return this.byRequest.get(requestKey(role, requestId));
  }

  /** Insertion order is burial order, so the old ones are in front. */
  private purge(): void {
    if (this.younger !== null) return;
    const oldest = monotonicMs() - limits.keepTombstoneMs;
    for (const {tombstone, buriedAt} of this.byKey.values()) {
      if (this.byKey.size <= limits.maxTombstones && buriedAt >= oldest) return;
      this.byKey.delete(tombstone.key);
      if (tombstone.requestId === null) continue;
      const request = requestKey(tombstone.role, tombstone.requestId);
      if (this.byRequest.get(request) === tombstone) this.byRequest.delete(request);
    }
  }
}

/** The line that a tombstone is on file as. */
export function tombstoneLine(tombstone: Tombstone): string {
  return JSON.stringify({
    event: 'buried',
    request_id: tombstone.requestId,
    role: tombstone.role,
    time: tombstone.buriedAtMs / 1000,
    ...(tombstone.buriedBoot === null ? {} : {boot_id: tombstone.buriedBoot.bootId, boot_time: tombstone.buriedBoot.ms / 1000}),
    id: tombstone.callId,
    fn_name: tombstone.fnName,
    outcome: tombstone.outcome,
  });
}

/** Null for a line that is none of ours. */
export function readTombstone(key: string, line: Line): Tombstone | null {
  const {id, fn_name: fnName, role, request_id: requestId, outcome, time, boot_id: bootId, boot_time: bootTime} = line;
  if (typeof id !== 'string' || typeof fnName !== 'string' || typeof role !== 'string') return null;
  if (!isOutcome(outcome) || typeof time !== 'number' || parseCallId(id)?.key !== key) return null;
  const buriedBoot = typeof bootId === 'string' && typeof bootTime === 'number' ? {bootId, ms: Math.round(bootTime * 1000)} : null;
  return {key, callId: id, fnName, role, requestId: typeof requestId === 'string' ? requestId : null, outcome, buriedAtMs: time * 1000, buriedBoot};
}
