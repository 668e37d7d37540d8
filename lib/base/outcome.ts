/** What became of a call: the closed list of DESIGN.md section 4, shared by core, wire and client. */
import {constants} from 'node:os';
import type {BootTime} from './boot-clock';

export const outcomes = [
  'ok',
  'failed',
  'invalid_output',
  'output_too_large',
  'signaled',
  'start_failed',
  'aborted',
  'deadline',
  'shutdown',
  'lost',
] as const;

export type Outcome = (typeof outcomes)[number];

/** Why noded stopped a call; each is also the outcome that the stop leads to. */
export const stopCauses = ['aborted', 'deadline', 'shutdown'] as const satisfies readonly Outcome[];

export type StopCause = (typeof stopCauses)[number];

export function isOutcome(value: unknown): value is Outcome {
  return (outcomes as readonly unknown[]).includes(value);
}

/** What stdout turned out to be once the function process had ended. */
export const outputKinds = ['json', 'empty', 'invalid', 'too_large'] as const;

export type OutputKind = (typeof outputKinds)[number];

/** Bytes of what a function wrote. */
export interface OutputSizes {
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** They stand in the journal's `ended` line, and in no file of their own. */
  readonly inJournal?: boolean;
  /** A file has gone or the system could not tell of it: there may be one, of any size. */
  readonly unsized?: boolean;
}

/** The same before it is known; null for a file that has gone, or that the system cannot tell of. */
export type KnownSizes = Pick<OutputSizes, 'inJournal'> & {readonly stdoutBytes: number | null; readonly stderrBytes: number | null};

/** When a function process ended. */
export interface Ended {
  /** Wall clock, ms since the epoch: for display. */
  readonly endedAtMs: number;
  /** What ages go by; null where it is not known. */
  readonly endedBoot: BootTime | null;
}

/** How a function process ended, as its spawner reports it. */
export type Ending =
  | (Ended & OutputSizes & {
      readonly kind: 'exited';
      /** Null when a signal ended it. Never guessed. */
      readonly exitCode: number | null;
      readonly signal: string | null;
      readonly output: OutputKind;
      /** For `invalid`: what is wrong with it. */
      readonly outputReason?: string;
    })
  | (Ended & {readonly kind: 'not_started'; readonly errno: string; readonly stage: string})
  | (Ended & OutputSizes & {readonly kind: 'lost'; readonly reason: string});

const nothingWritten: OutputSizes = {stdoutBytes: 0, stderrBytes: 0};

/** Synonyms that Node does not use when it names the signal that ended a process. */
const synonyms = new Set(['SIGIOT', 'SIGPOLL', 'SIGUNUSED']);
const signalNames = new Map(Object.entries(constants.signals).filter(([name]) => !synonyms.has(name)).map(([name, number]) => [number as number, name]));

/** The name of a signal; `SIG34` to `SIG64` of real-time ones, which have no other. */
export function signalName(signal: number): string {
  return signalNames.get(signal) ?? `SIG${signal}`;
}

/** What there is of its output. */
export function writtenOf(ending: Ending): OutputSizes {
  return ending.kind === 'not_started' ? nothingWritten : ending;
}

/**
 * The outcome of an ending. Facts beat intentions: a function that answers SIGTERM with exit 0 and a
 * whole JSON value is `ok`. An empty stdout is no such proof, so a stopped call needs a value.
 */
export function outcomeOf(ending: Ending, cause: StopCause | null): Outcome {
  if (ending.kind === 'lost') return 'lost';
  if (ending.kind === 'not_started') return cause ?? 'start_failed';
  if (ending.exitCode === 0 && (ending.output === 'json' || (ending.output === 'empty' && cause === null))) return 'ok';
  if (cause !== null) return cause;
  if (ending.output === 'too_large') return 'output_too_large';
  if (ending.signal !== null) return 'signaled';
  if (ending.exitCode !== 0) return 'failed';
  return 'invalid_output';
}

/** Whether stdout is the result: the value of an `ok` call, or what a failed one wrote if it is JSON. */
export function hasResult(outcome: Outcome, ending: Ending): boolean {
  return (outcome === 'ok' || outcome === 'failed') && ending.kind === 'exited' && ending.output === 'json';
}

/** The states in which a call can be seen from outside (DESIGN.md section 3). */
export const visibleStates = ['starting', 'running', 'stopping', 'ended'] as const;

export type VisibleState = (typeof visibleStates)[number];
