/**
 * What of a call outlives the daemon: its lines in the log (DESIGN.md section 5). One JSON object a line,
 * each appended by whoever knows the fact. Text only; proc/call-log.ts reads and writes the files.
 */
import type {BootTime, Moment} from '../base/boot-clock';
import {limits} from '../base/limits';
import {outcomes, outputKinds, stopCauses, writtenOf} from '../base/outcome';
import type {Ending, Outcome, OutputKind, OutputSizes, StopCause} from '../base/outcome';
import type {Acceptance, Call} from './call-record';

/** What a function wrote, where its `ended` line has it: little, and plain ASCII. */
export interface NotedOutput {
  readonly stdout: string;
  readonly stderr: string;
}

/** The files of calls as the table sees them; proc/spool.ts is the one implementation. */
export interface CallFiles {
  /**
   * Puts the first line of a call on file unless `line` is null, and makes `<key>.args` unless `args` is. Throws a NodedError
   * `spool_full` when there is no room; nothing is left then. An urgent call may use the room that is kept free. On a disk
   * both may still be under way when this returns: the spawner waits for them.
   */
  create(key: string, line: string | null, args: Uint8Array | null, urgent: boolean): void;
  /**
   * A line that is on file when this returns, or on a disk before what comes after it. A failure is logged and
   * survived: the call goes on.
   */
  putOnFile(key: string, line: string): void;
  /** A line that is on file soon: before anything that is sent in a later turn of the loop. A failure is logged and survived. */
  append(key: string, line: string): void;
  /** Puts on file now what was appended. */
  flushLines(): void;
  /**
   * Resolves once all that was put on file is where it survives what it is to survive: in memory at once. Rejects with
   * the system's error.
   */
  onDisk(): Promise<void>;
  /** Removes all files of a call that has ended with so much output, a slice at a time; null: whatever there is. */
  remove(key: string, sizes: OutputSizes | null): void;
}

/** The start of a process, written before its spawner reports it. */
export interface StartedLine extends Moment {
  readonly pid: number;
  /** Field 22 of proc(5) stat, in clock ticks since boot: with the boot ID it tells a pid from its reuse. */
  readonly startTime: number;
  readonly bootId: string;
}

export type EndedLine = EndedMoment & (EndedProcess | {readonly errno: string; readonly stage: string});

interface EndedMoment {
  readonly atMs: number;
  /** Null where it is not known. Its boot is that of the `accepted` line: no process lives longer. */
  readonly boot: BootTime | null;
}

interface EndedProcess {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly noted?: NotedOutput;
  /** What the files had; after a power cut they may have less. */
  readonly sizes?: {readonly stdoutBytes: number; readonly stderrBytes: number};
  readonly stdoutLost?: true;
}

interface OutcomeLine {
  readonly outcome: Outcome;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly output: OutputKind;
  readonly outputReason: string | null;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  readonly atMs: number;
  readonly boot: BootTime | null;
}

/** What is on file of one call, read back. What a missing line would tell is null. */
export interface JournalRecord {
  readonly accepted: Acceptance;
  readonly leaveRunning: boolean;
  readonly started: StartedLine | null;
  readonly stopCause: StopCause | null;
  readonly ended: EndedLine | null;
  readonly outcome: OutcomeLine | null;
}

const seconds = (ms: number): number => ms / 1000;
/** Members of a line that tell a moment by the boot clock too, where that is known. */
const bootMembers = (boot: BootTime | null): object => (boot ? {boot_id: boot.bootId, boot_time: seconds(boot.ms)} : {});
/** The same of a line that has its boot ID for another reason, or that of the `accepted` line. */
const timeMembers = ({atMs, boot}: Moment): object => ({time: seconds(atMs), ...(boot ? {boot_time: seconds(boot.ms)} : {})});

export function acceptedLine(accepted: Acceptance, leaveRunning: boolean): string {
  const line = (reason: string | null): string =>
    JSON.stringify({
      event: 'accepted',
      request_id: accepted.requestId,
      role: accepted.role,
      time: seconds(accepted.acceptedAtMs),
      ...bootMembers(accepted.acceptedBoot),
      ppid: accepted.ppid,
      fn_name: accepted.fnName,
      fingerprint: accepted.fingerprint,
      args_bytes: accepted.argsBytes,
      abort_after: accepted.abortAfterMs === null ? null : seconds(accepted.abortAfterMs),
      leave_running: leaveRunning,
      reason,
    });
  const whole = line(accepted.reason);
  // Escapes can make 512 characters of reason longer than a line may be; the reason is for people, the line is not.
  return Buffer.byteLength(whole) <= limits.maxLineBytes ? whole : line(null);
}

export function startedLine({pid, startTime, bootId, ...at}: StartedLine): string {
  return JSON.stringify({event: 'started', ...timeMembers(at), pid, start_time: startTime, boot_id: bootId});
}

export function stoppingLine(cause: StopCause, by: string, atMs: number): string {
  return JSON.stringify({event: 'stopping', time: seconds(atMs), cause, by});
}

const sizeMembers = ({sizes}: EndedProcess): object => (sizes === undefined ? {} : {stdout_bytes: sizes.stdoutBytes, stderr_bytes: sizes.stderrBytes});

export function endedLine(ended: EndedLine): string {
  const when = timeMembers(ended);
  return 'errno' in ended
    ? JSON.stringify({event: 'ended', ...when, errno: ended.errno, stage: ended.stage})
    : JSON.stringify({event: 'ended', ...when, exit_code: ended.exitCode, signal: ended.signal, ...ended.noted, ...sizeMembers(ended), ...(ended.stdoutLost === true ? {stdout_lost: true} : {})});
}

/**
 * Of a call that has ended; null if the journal says it without that. It does of a call that nobody stopped and whose
 * output stands in the `ended` line: what that is was the same at every look, unless max_output has a say in it.
 */
export function outcomeLine(call: Call): string | null {
  const ending = call.ending!;
  if (ending.kind === 'exited' && ending.inJournal === true && call.stopCause === null && ending.output !== 'too_large') return null;
  const exited = ending.kind === 'exited' ? ending : null;
  const {stdoutBytes, stderrBytes} = writtenOf(ending);
  return JSON.stringify({
    event: 'outcome',
    time: seconds(ending.endedAtMs),
    ...bootMembers(ending.endedBoot),
    outcome: call.outcome,
    // Again, because on a full disk the line before this one may be missing.
    exit_code: exited?.exitCode ?? null,
    signal: exited?.signal ?? null,
    output: exited?.output ?? 'empty',
    output_reason: (ending.kind === 'lost' ? ending.reason : exited?.outputReason) ?? null,
    stdout_bytes: stdoutBytes,
    stderr_bytes: stderrBytes,
  });
}

/** A line, parsed: what it tells is read by its `event`. */
export type Line = Readonly<Record<string, unknown>>;

/** Null for what is no JSON object: no line of ours. */
export function parseLine(text: string): Line | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Line) : null;
  } catch {
    return null;
  }
}

const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
/** What many lines say, held once: a node may keep a million calls of a few functions. */
const common = new Map<string, string>();
function shared(value: unknown): string | null {
  if (typeof value !== 'string') return null;
  const known = common.get(value);
  if (known === undefined && common.size < limits.sharedTexts) common.set(value, value);
  return known ?? value;
}
const number = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) ? value : 0);
const numberOrNull = (value: unknown): number | null => (typeof value === 'number' && Number.isFinite(value) ? value : null);
const ms = (value: unknown): number => Math.round(number(value) * 1000);
/** A line of an earlier version has no `boot_time`. */
const bootOf = (bootId: unknown, bootTime: unknown): BootTime | null => (text(bootId) === null || numberOrNull(bootTime) === null ? null : {bootId: shared(bootId)!, ms: ms(bootTime)});
const oneOf = <T>(choices: readonly T[], value: unknown): T | null => choices.find((choice) => choice === value) ?? null;

function readAccepted(key: string, line: Line): Pick<JournalRecord, 'accepted' | 'leaveRunning'> | null {
  const fnName = shared(line.fn_name);
  const role = shared(line.role);
  const fingerprint = text(line.fingerprint);
  if (fnName === null || role === null || fingerprint === null) return null;
  const accepted: Acceptance = {
    key,
    ppid: number(line.ppid),
    acceptedAtMs: ms(line.time),
    acceptedBoot: bootOf(line.boot_id, line.boot_time),
    fnName,
    requestId: text(line.request_id),
    role,
    fingerprint,
    argsBytes: number(line.args_bytes),
    abortAfterMs: numberOrNull(line.abort_after) === null ? null : ms(line.abort_after),
    reason: text(line.reason),
    spooled: true,
  };
  return {accepted, leaveRunning: line.leave_running === true};
}

function readStarted(line: Line): StartedLine {
  return {pid: number(line.pid), startTime: number(line.start_time), bootId: shared(line.boot_id) ?? '', atMs: ms(line.time), boot: bootOf(line.boot_id, line.boot_time)};
}

function readEnded(line: Line, bootId: string | undefined): EndedLine {
  const errno = text(line.errno);
  const [stdout, stderr] = [text(line.stdout), text(line.stderr)];
  const when = {atMs: ms(line.time), boot: bootOf(bootId, line.boot_time)};
  const noted = stdout === null && stderr === null ? {} : {noted: {stdout: stdout ?? '', stderr: stderr ?? ''}};
  const [stdoutBytes, stderrBytes] = [numberOrNull(line.stdout_bytes), numberOrNull(line.stderr_bytes)];
  const sizes = stdoutBytes === null || stderrBytes === null ? {} : {sizes: {stdoutBytes, stderrBytes}};
  return errno === null
    ? {exitCode: numberOrNull(line.exit_code), signal: text(line.signal), ...when, ...noted, ...sizes, ...(line.stdout_lost === true ? {stdoutLost: true} : {})}
    : {errno, stage: text(line.stage) ?? '', ...when};
}

function readOutcome(line: Line): OutcomeLine | null {
  const outcome = oneOf(outcomes, line.outcome);
  if (outcome === null) return null;
  return {
    outcome,
    exitCode: numberOrNull(line.exit_code),
    signal: text(line.signal),
    output: oneOf(outputKinds, line.output) ?? 'empty',
    outputReason: text(line.output_reason),
    stdoutBytes: number(line.stdout_bytes),
    stderrBytes: number(line.stderr_bytes),
    atMs: ms(line.time),
    boot: bootOf(line.boot_id, line.boot_time),
  };
}

/** The lines of one call, in whatever order they come and however often: a log that is compacted copies them. */
export class Journal {
  private accepted: ReturnType<typeof readAccepted> = null;
  private started: StartedLine | null = null;
  private stopCause: StopCause | null = null;
  private ended: Line | null = null;
  private outcome: OutcomeLine | null = null;

  constructor(private readonly key: string) {}

  take(line: Line): this {
    if (line.event === 'accepted') this.accepted ??= readAccepted(this.key, line);
    else if (line.event === 'started') this.started ??= readStarted(line);
    else if (line.event === 'stopping') this.stopCause ??= oneOf(stopCauses, line.cause);
    // A start that failed in exec is an exit first, and what it really was afterwards.
    else if (line.event === 'ended') this.ended = this.ended === null || text(line.errno) !== null ? line : this.ended;
    else if (line.event === 'outcome') this.outcome ??= readOutcome(line);
    return this;
  }

  /** Null without an `accepted` line, which means that nothing was started. */
  get record(): JournalRecord | null {
    const {accepted, started, stopCause, ended, outcome} = this;
    if (accepted === null) return null;
    return {...accepted, started, stopCause, ended: ended && readEnded(ended, accepted.accepted.acceptedBoot?.bootId), outcome};
  }
}

/** What lines of JSON tell of a call; null if nothing of it was started. */
export function recordOf(key: string, lines: readonly string[]): JournalRecord | null {
  const journal = new Journal(key);
  for (const text of lines) {
    const line = parseLine(text);
    if (line !== null) journal.take(line);
  }
  return journal.record;
}

/** The ending that an `outcome` line tells of. The `ended` line before it says more of a start that failed, if it is there. */
export function endingOf({ended, outcome}: JournalRecord): Ending {
  if (outcome === null) throw new Error('endingOf: the journal has no outcome');
  const {exitCode, signal, stdoutBytes, stderrBytes} = outcome;
  const sizes = {stdoutBytes, stderrBytes, ...(ended !== null && 'noted' in ended ? {inJournal: true} : {})};
  const reason = outcome.outputReason ?? 'noded or the machine died under it';
  if (outcome.outcome === 'lost' || (ended === null && exitCode === null && signal === null)) return {kind: 'lost', reason, endedAtMs: outcome.atMs, endedBoot: outcome.boot, ...sizes};
  if (ended !== null && 'errno' in ended) return {kind: 'not_started', errno: ended.errno, stage: ended.stage, endedAtMs: ended.atMs, endedBoot: ended.boot};
  return {
    kind: 'exited',
    exitCode,
    signal,
    output: outcome.output,
    ...(outcome.outputReason === null ? {} : {outputReason: outcome.outputReason}),
    ...sizes,
    endedAtMs: outcome.atMs,
    endedBoot: outcome.boot,
  };
}
