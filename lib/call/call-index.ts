/** The calls that this node knows, by call ID and by request ID, in order of acceptance; and the tombstones of those it knew. */
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {isSameCall, parseCallId} from './call-id';
import type {CallIdParts} from './call-id';
import type {Call, State} from './call-record';
import {CallOrder} from './call-order';
import {inSlices} from './slices';
import {Tombstones, requestKey} from './tombstones';
import type {Tombstone} from './tombstones';

export interface CallFilter {
  readonly state: State | null;
  readonly fnName: string | null;
  readonly role: string | null;
  /** Whether the caller may see calls of this function. */
  readonly visible: (fnName: string) => boolean;
}

/** Calls and tombstones that are on file and are read one after the other, or when somebody asks for them. */
export interface UnreadCalls {
  readonly calls: number;
  readonly tombstones: number;
  /** The place of the last of them in order of acceptance. */
  readonly last: number;
  /** Reads what is on file of this key, if that is unread. Throws spawner_unavailable while it cannot be read. */
  read(key: string): void;
  /** The same of a request. */
  readRequest(role: string, requestId: string): void;
  /** Resolves when all of them have been read. Never rejects: what cannot be read is tried again. */
  readonly done: Promise<void>;
  /** The same of the try that is under way; rejects with spawner_unavailable. */
  readonly pass: Promise<void>;
}

const nothingUnread: UnreadCalls = {
  calls: 0,
  tombstones: 0,
  last: 0,
  read: () => {},
  readRequest: () => {},
  done: Promise.resolve(),
  pass: Promise.resolve(),
};

export class CallIndex {
  private readonly byKey = new Map<string, Call>();
  private readonly byRequest = new Map<string, Call>();
  /** Those of them that have not ended, in the same order: few, beside those that have. */
  private readonly active = new Map<string, Call>();
  private readonly order = new CallOrder();
  private readonly byFunction = new Map<string, CallOrder>();
  private readonly tombstones = new Tombstones();
  private unread = nothingUnread;

  get tombstoneCount(): number {
    return this.tombstones.size + this.unread.tombstones;
  }

  /** Calls that have ended, but are not in here yet. */
  get unreadCount(): number {
    return this.unread.calls;
  }

  /** Resolves when all of them have been read. */
  async takeIn(unread: UnreadCalls): Promise<void> {
    this.unread = unread;
    this.tombstones.expectOlder();
    await unread.done;
    this.unread = nothingUnread;
    this.tombstones.settle();
    for (const order of [this.order, ...this.byFunction.values()]) order.sort();
  }

  add(call: Call): void {
    const {key, role, requestId, fnName} = call.accepted;
    this.byKey.set(key, call);
    this.active.set(key, call);
    this.order.add(call);
    const order = this.byFunction.get(fnName) ?? new CallOrder();
    this.byFunction.set(fnName, order);
    order.add(call);
    if (requestId !== null) this.byRequest.set(requestKey(role, requestId), call);
  }

  ended(call: Call): void {
    this.active.delete(call.accepted.key);
  }

  /** The call is gone: nothing is known of it, and its request ID is free again. */
  remove(call: Call): void {
    const {key, role, requestId, fnName} = call.accepted;
    this.byKey.delete(key);
    this.active.delete(key);
    this.order.delete();
    const order = this.byFunction.get(fnName)!;
    order.delete();
    if (order.isEmpty) this.byFunction.delete(fnName);
    if (requestId !== null) this.byRequest.delete(requestKey(role, requestId));
  }

  /** The call is gone; its tombstone takes its place. */
  replace(call: Call, tombstone: Tombstone): void {
    this.remove(call);
    this.tombstones.add(tombstone);
  }

  /** A tombstone that has been read, in order of burial. */
  restoreTombstone(tombstone: Tombstone): void {
    this.tombstones.restore(tombstone);
  }

  /** Whether a line of the log still counts: every one of a call that is known, and the tombstone of one that was. */
  isWanted({key, json}: {readonly key: string; readonly json: string}): boolean {
    return this.byKey.has(key) || (this.tombstones.has(key) && json.startsWith('{"event":"buried"'));
  }

  /** About how many bytes of the log these are. */
  get wantedBytes(): number {
    return this.byKey.size * limits.keptCallBytes + this.tombstones.size * limits.tombstoneBytes;
  }

  /**
   * The call of an ID. Throws unknown_call, or call_expired or call_lost with the outcome for one that is gone;
   * `check` throws first for a function whose calls the caller must not hear of.
   */
  find(callId: string, check: (fnName: string) => void = () => {}): Call {
    const parts = parseCallId(callId);
    if (parts === null) throw new NodedError('unknown_call', {callId});
    this.unread.read(parts.key);
    const call = this.byKey.get(parts.key);
    if (call !== undefined && isSameCall(parts, partsOf(call))) {
      check(call.accepted.fnName);
      return call;
    }
    const tombstone = this.tombstones.get(parts.key);
    if (tombstone !== undefined && isSameCall(parts, parseCallId(tombstone.callId)!)) {
      check(tombstone.fnName);
      throw gone(tombstone);
    }
    throw new NodedError('unknown_call', {callId});
  }

  /** The call of a request ID of this role, or null. Throws call_expired or call_lost for one that is gone. */
  findByRequest(role: string, requestId: string): Call | null {
    this.unread.readRequest(role, requestId);
    const call = this.byRequest.get(requestKey(role, requestId));
    if (call !== undefined) return call;
    const tombstone = this.tombstones.getByRequest(role, requestId);
    if (tombstone !== undefined) throw gone(tombstone);
    return null;
  }

  /** Calls in order of acceptance, those after `afterSequence`, at most `limit`: looked for in slices, so the first may be gone when the last is found. */
  async list(filter: CallFilter, afterSequence: number, limit: number): Promise<Call[]> {
    const found: Call[] = [];
    if (this.unread !== nothingUnread && (filter.state === null || filter.state === 'ended')) await this.unread.pass;
    await inSlices(this.calls(filter, afterSequence), (call) => {
      if (call.sequence > afterSequence && matches(call, filter)) found.push(call);
      return found.length < limit;
    });
    return found;
  }

  /** As few as may be, in order of acceptance, among which are those that fit. */
  private calls({state, fnName}: CallFilter, afterSequence: number): Iterable<Call> {
    if (state !== null && state !== 'ended') return this.active.values();
    if (fnName === null) return this.order.after(afterSequence);
    const order = this.byFunction.get(fnName);
    if (order === undefined) return [];
    return order.after(afterSequence);
  }
}

function partsOf(call: Call): CallIdParts {
  return {...call.accepted, cpid: call.pid ?? 0};
}

function matches(call: Call, {state, fnName, role, visible}: CallFilter): boolean {
  const {accepted} = call;
  if (state !== null && call.state !== state) return false;
  if (fnName !== null && accepted.fnName !== fnName) return false;
  if (role !== null && accepted.role !== role) return false;
  return visible(accepted.fnName);
}

function gone({callId, outcome}: Tombstone): NodedError {
  return new NodedError(outcome === 'lost' ? 'call_lost' : 'call_expired', {callId, outcome});
}
