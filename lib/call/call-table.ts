/**
 * The MANY: the pending-call table, keyed by call ID and also by request ID, with its limits, waiters,
 * drain and retention (DESIGN.md sections 3 and 5). One record per call; everything else is an index.
 */
import {ageMs, momentNow, momentOf, spanMs} from '../base/boot-clock';
import type {Moment} from '../base/boot-clock';
import {monotonicMs} from '../base/duration';
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {outcomeOf, writtenOf} from '../base/outcome';
import type {Ending, StopCause, VisibleState} from '../base/outcome';
import type {FunctionProcess, FunctionSpec, SpawnSink, Spawner} from './spawner';
import {acceptedMoment, callIdOf} from './call-record';
import {armDeadline, dispatch, keepUntil, resume} from './call';
import type {Acceptance, Call, State} from './call-record';
import type {CallHost, EventName} from './call';
import {newCall} from './call-record';
import {accept} from './acceptance';
import type {StartRequest} from './acceptance';
import type {CallFiles, JournalRecord} from './journal';
import {Journaling} from './journaling';
import type {Tombstone} from './tombstones';
import {inSlices} from './slices';
import {Waiters} from './waiters';
import {Retention} from './retention';
import type {RetentionLimits} from './retention';
import {Expiry} from './expiry';
import {Slots} from './slots';
import type {SlotLimits} from './slots';
import {CallIndex} from './call-index';
import type {UnreadCalls} from './call-index';

export interface TableLimits extends SlotLimits, RetentionLimits {
  readonly maxWaiters: number;
  readonly keepResultMs: number;
  readonly killAfterMs: number;
}

/** Who is told what happens: metrics and the log. */
export interface TableObserver {
  ended(call: Call): void;
  duplicate(call: Call): void;
  late(lateMs: number): void;
  unkillable(call: Call): void;
  bug(call: Call, event: EventName): void;
  /** An urgent call has no files; why. */
  unspooled(call: Call, error: Error): void;
}

export type Counts = Readonly<Record<VisibleState | 'waiters' | 'tombstones', number>>;

export class CallTable implements CallHost {
  readonly index = new CallIndex();
  readonly waiters: Waiters;
  readonly keepResultMs: number;
  readonly killAfterMs: number;
  readonly unkillableMs = limits.unkillableMs;
  /** New calls are refused, the present ones go on. */
  draining = false;
  readonly retention: Retention;
  private readonly slots: Slots;
  readonly journaling: Journaling;
  private readonly perState: Record<State, number> = {starting: 0, running: 0, stopping: 0, ended: 0, gone: 0};
  private sequence = 0;
  private drained: (() => void)[] = [];
  private readonly expiry = new Expiry((call) => dispatch(call, 'evict', {}, this));

  constructor(
    tableLimits: TableLimits,
    private readonly spawner: Spawner,
    private readonly files: CallFiles,
    private readonly observer: TableObserver,
  ) {
    this.keepResultMs = tableLimits.keepResultMs;
    this.killAfterMs = tableLimits.killAfterMs;
    this.waiters = new Waiters(tableLimits.maxWaiters, (lateMs) => observer.late(lateMs));
    this.retention = new Retention(tableLimits);
    this.slots = new Slots(tableLimits);
    this.journaling = new Journaling(spawner, files);
  }

  get counts(): Counts {
    const {starting, running, stopping, ended} = this.perState;
    return {starting, running, stopping, ended: ended + this.index.unreadCount, waiters: this.waiters.size, tombstones: this.index.tombstoneCount};
  }

  /** Bytes that the files of ended calls occupy. */
  get spoolBytes(): number {
    return this.retention.spoolBytes;
  }

  /** Calls that are starting, running or stopping. */
  get activeCalls(): Call[] {
    return this.slots.calls();
  }

  /**
   * The call that this request ID has already made, or null. Throws request_id_reused if it was for
   * something else, call_expired or call_lost if it is gone: then it must not run a second time either.
   */
  duplicateOf(role: string, requestId: string, fnName: string, fingerprint: string): Call | null {
    const call = this.index.findByRequest(role, requestId);
    if (call === null) return null;
    if (call.accepted.fnName !== fnName || call.accepted.fingerprint !== fingerprint) {
      this.naming(call);
      throw new NodedError('request_id_reused', {callId: callIdOf(call)});
    }
    this.observer.duplicate(call);
    return call;
  }

  /** Accepts and starts a call. A refusal starts nothing: draining, spawner_unavailable, too_many_calls, function_busy, spool_full. */
  start(request: StartRequest): Call {
    const {spec} = request;
    if (this.draining) throw new NodedError('draining');
    if (this.spawner.unavailable !== null) throw new NodedError('spawner_unavailable', {message: this.spawner.unavailable});
    this.slots.checkRoom(spec);
    const accepted = accept(request);
    const inline = request.args.byteLength <= this.spawner.inlineArgsBytes;
    const {accepted: line, error} = this.journaling.begin(accepted, spec, inline ? null : request.args);
    const spooled = error === null;
    const call = this.addCall(spooled ? accepted : {...accepted, spooled}, spec);
    this.slots.take(call, spec);
    if (!spooled) this.observer.unspooled(call, error);
    armDeadline(call, this);
    const {requestId, traceparent} = request;
    // In the table before the process is started, because the answer may come first.
    call.process = this.spawner.spawn({key: accepted.key, spec, requestId, traceparent, args: inline || !spooled || spec.urgent ? request.args : null, accepted: line, spooled}, this.sinkOf(call));
    return call;
  }

  /** The ID of a call is about to be handed out. */
  naming(call: Call): void {
    this.journaling.name(call);
  }

  /** Stops a call; one that is stopping is at most killed sooner, one that has ended stays as it is. */
  abort(call: Call, by: string, killAfterMs: number | null): void {
    dispatch(call, 'abort', {by, killAfterMs}, this);
  }

  /** Throws still_running for a call that has not ended. What is said to be forgotten is so after a crash, too. */
  forget(call: Call): void {
    this.naming(call);
    dispatch(call, 'forget', {}, this);
    this.files.flushLines();
  }

  /** The result has been handed out: it stays for at least 5 min more, and is the first to go when room is needed. */
  markDelivered(call: Call): void {
    if (call.state !== 'ended' || call.deliveredAt !== null) return;
    call.deliveredAt = monotonicMs();
    this.retention.markDelivered(call);
    keepUntil(call, Math.max(call.expiresAt!, call.deliveredAt + limits.keepDeliveredMs), this);
  }

  /** SIGTERM to every function process, SIGKILL after the grace of its function or `killAfterMs` (0: never). */
  shutdown(killAfterMs: number): void {
    for (const call of this.activeCalls) dispatch(call, 'shutdown', {killAfterMs}, this);
  }

  /** SIGKILL to every function process. */
  kill(): void {
    for (const call of this.activeCalls) dispatch(call, 'kill', {}, this);
  }

  /** Calls back once no call is active and every waiter has been settled. */
  onDrained(callback: () => void): void {
    this.drained.push(callback);
    this.checkDrained();
  }

  /** Calls of an earlier noded are read while this one is at work: they are older than all others. */
  async takeIn(unread: UnreadCalls): Promise<void> {
    this.sequence = unread.last;
    this.retention.expectOlder();
    await this.index.takeIn(unread);
    this.retention.settle();
    await inSlices(this.retention.surplus(), (call) => dispatch(call, 'evict', {}, this));
  }

  /** Takes in a call that an earlier noded left, ended; `order` is its place among those, from 1. An outcome that is not on file is written. */
  restore(record: JournalRecord, ending: Ending, order: number): Call {
    const ended: Moment = {atMs: ending.endedAtMs, boot: ending.endedBoot};
    const age = ageMs(ended);
    const endedAt = monotonicMs() - age;
    const call = this.addCall(record.accepted, null, endedAt - spanMs(acceptedMoment(record.accepted), ended), order);
    call.pid = record.started?.pid ?? null;
    call.started = record.started && momentOf(record.started);
    call.stopCause = record.stopCause;
    call.ending = ending;
    call.outcome = record.outcome?.outcome ?? outcomeOf(ending, record.stopCause);
    if (record.outcome === null) this.journalOutcome(call);
    call.endedAt = endedAt;
    keepUntil(call, monotonicMs() + Math.max(0, this.keepResultMs - age), this);
    call.state = 'ended';
    this.changed(call, 'starting');
    return call;
  }

  /** Takes over a call of an earlier noded that still runs. `adopt` is told where its end is to be reported. */
  resume(record: JournalRecord, spec: FunctionSpec, {pid, at, order}: {readonly pid: number; readonly at: Moment | null; readonly order: number}, adopt: (sink: SpawnSink) => FunctionProcess): Call {
    const call = this.addCall(record.accepted, spec, monotonicMs() - ageMs(acceptedMoment(record.accepted)), order);
    this.slots.take(call, spec);
    call.process = adopt(this.sinkOf(call));
    resume(call, {pid, started: at ?? (record.started && momentOf(record.started)), stopCause: record.stopCause}, this);
    return call;
  }

  journalStopping(call: Call, cause: StopCause, by: string): void {
    this.journaling.stopping(call, cause, by);
  }

  journalOutcome(call: Call): void {
    this.journaling.outcome(call);
  }

  changed(call: Call, from: State): void {
    this.perState[from] -= 1;
    this.perState[call.state] += 1;
    if (call.state === 'ended') this.callEnded(call);
    else if (call.refusal !== null) this.callRefused(call);
    else if (call.state === 'gone') this.callGone(call);
    else this.waiters.callStarted(call);
  }

  keepUntil(call: Call): void {
    this.expiry.set(call);
  }

  unkillable(call: Call): void {
    this.observer.unkillable(call);
  }

  bug(call: Call, event: EventName): void {
    this.observer.bug(call, event);
  }

  private addCall(accepted: Acceptance, spec: FunctionSpec | null, acceptedAt = monotonicMs(), sequence = ++this.sequence): Call {
    const call = newCall(accepted, spec, sequence, acceptedAt);
    this.index.add(call);
    this.perState.starting += 1;
    return call;
  }

  private sinkOf(call: Call): SpawnSink {
    return {
      started: (pid, at) => dispatch(call, 'started', {pid, at}, this),
      ended: (ending) => dispatch(call, 'ended', {ending}, this),
      refused: (refusal, errno) => dispatch(call, 'refused', {refusal, errno}, this),
    };
  }

  private callEnded(call: Call): void {
    this.index.ended(call);
    if (call.spec === null) {
      this.retention.restore(call);
    } else {
      this.retention.add(call, this.waiters.waitersOf(call) > 0);
      this.slots.free(call, call.spec);
      this.observer.ended(call);
    }
    this.waiters.callEnded(call);
    for (const surplus of this.retention.surplus()) dispatch(surplus, 'evict', {}, this);
    this.checkDrained();
  }

  private callRefused(call: Call): void {
    this.perState.gone -= 1;
    this.index.remove(call);
    this.files.remove(call.accepted.key, {stdoutBytes: 0, stderrBytes: 0});
    this.slots.free(call, call.spec!);
    this.waiters.callEnded(call);
    this.checkDrained();
  }

  private callGone(call: Call): void {
    const {key, role, requestId, fnName} = call.accepted;
    this.perState.gone -= 1;
    this.expiry.delete(call);
    this.retention.remove(call);
    const {atMs, boot} = momentNow();
    const tombstone: Tombstone = {key, callId: callIdOf(call), fnName, role, requestId, outcome: call.outcome!, buriedAtMs: atMs, buriedBoot: boot};
    this.index.replace(call, tombstone);
    this.journaling.buried(tombstone);
    // Of a call of an earlier noded nobody knows what that left unfinished.
    const written = writtenOf(call.ending!);
    this.files.remove(key, written.unsized === true || call.spec === null ? null : written);
  }

  private checkDrained(): void {
    if (this.drained.length === 0 || this.slots.size > 0) return;
    if (this.waiters.settlingCount > 0) {
      setImmediate(() => this.checkDrained());
      return;
    }
    for (const callback of this.drained.splice(0)) callback();
  }
}
