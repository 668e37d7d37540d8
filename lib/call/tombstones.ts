/**
 * What is left of a call that was forgotten or expired: enough to tell `call_expired` from
 * `unknown_call`, and to refuse a late retry of its request ID instead of running it twice. Kept for
 * a day, at most limits.maxTombstones, oldest first out.
 */
import {wallMs} from '../base/duration';
import {limits} from '../base/limits';
import {isOutcome} from '../base/outcome';
import type {Outcome} from '../base/outcome';
import {parseCallId} from './call-id';

export interface Tombstone {
  readonly key: string;
  readonly callId: string;
  readonly fnName: string;
  readonly role: string;
  readonly requestId: string | null;
  readonly outcome: Outcome;
  /** Wall clock, because a tombstone outlives the daemon and its monotonic clock. */
  readonly buriedAtMs: number;
}

/** The one way from (role, request ID) to an index key; a request ID has no NUL. */
export function requestKey(role: string, requestId: string): string {
  return `${role}\0${requestId}`;
}

export class Tombstones {
  private readonly byKey = new Map<string, Tombstone>();
  private readonly byRequest = new Map<string, Tombstone>();

  get size(): number {
    return this.byKey.size;
  }

  add(tombstone: Tombstone): void {
    // A crash between burial and removal buries a call twice; the order of the map must stay that of burial.
    this.byKey.delete(tombstone.key);
    this.byKey.set(tombstone.key, tombstone);
    if (tombstone.requestId !== null) this.byRequest.set(requestKey(tombstone.role, tombstone.requestId), tombstone);
    this.purge();
  }

  get(key: string): Tombstone | undefined {
    this.purge();
    return this.byKey.get(key);
  }

  getByRequest(role: string, requestId: string): Tombstone | undefined {
    this.purge();
    return this.byRequest.get(requestKey(role, requestId));
  }

  /** Insertion order is burial order, so the old ones are in front. */
  private purge(): void {
    const oldest = wallMs() - limits.keepTombstoneMs;
    for (const tombstone of this.byKey.values()) {
      if (this.byKey.size <= limits.maxTombstones && tombstone.buriedAtMs >= oldest) return;
      this.byKey.delete(tombstone.key);
      if (tombstone.requestId === null) continue;
      const request = requestKey(tombstone.role, tombstone.requestId);
      if (this.byRequest.get(request) === tombstone) this.byRequest.delete(request);
    }
  }
}

export function tombstoneLine(tombstone: Tombstone): string {
  return `${JSON.stringify({
    time: tombstone.buriedAtMs / 1000,
    id: tombstone.callId,
    key: tombstone.key,
    fn_name: tombstone.fnName,
    role: tombstone.role,
    request_id: tombstone.requestId,
    outcome: tombstone.outcome,
  })}\n`;
}

/** Null for a line that is torn or none of ours. */
export function readTombstone(line: string): Tombstone | null {
  try {
    const value = JSON.parse(line) as Record<string, unknown>;
    const {id, key, fn_name: fnName, role, request_id: requestId, outcome, time} = value;
    if (typeof id !== 'string' || typeof key !== 'string' || typeof fnName !== 'string' || typeof role !== 'string') return null;
    if (!isOutcome(outcome) || typeof time !== 'number' || parseCallId(id)?.key !== key) return null;
    return {key, callId: id, fnName, role, requestId: typeof requestId === 'string' ? requestId : null, outcome, buriedAtMs: time * 1000};
  } catch {
    return null;
  }
}
