/** The exit codes of nodectl, in one table; nodectl(1) EXIT STATUS says the same. */
import {NodedError} from '../base/errors';
import type {Outcome} from '../base/outcome';
import {TransportError} from '../rpc/client-transport';

/** A mistake on the command line or in a file that it names: one line, exit 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Somebody pressed Ctrl-C. What was begun goes on at the nodes. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor(readonly begun: boolean) {
    super(begun ? 'interrupted: the call goes on' : 'interrupted before it was asked');
  }
}

export const exitCodes = {
  ok: 0,
  /** A function ended with another outcome than ok. */
  notOk: 1,
  usage: 2,
  /** A call goes on; its ID was printed. */
  stillRunning: 3,
  /** The node could not be reached, or the function process not be started: nothing ran. */
  notStarted: 4,
  /** Nobody can tell whether a function ran or what became of it. */
  unknown: 5,
  /** The node refused, and nothing ran. */
  refused: 6,
  /** What was to be printed could not be written whole, whatever it was. */
  notPrinted: 7,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** From best to worst: of several nodes the worst wins. What nobody knows is worse than what is known to have failed. */
const severity: readonly ExitCode[] = [
  exitCodes.ok,
  exitCodes.stillRunning,
  exitCodes.notOk,
  exitCodes.refused,
  exitCodes.notStarted,
  exitCodes.unknown,
  exitCodes.usage,
];

export function worstExit(codes: readonly ExitCode[]): ExitCode {
  return severity[Math.max(0, ...codes.map((code) => severity.indexOf(code)))]!;
}

/** `null`: the call has not ended. */
export function exitOfOutcome(outcome: Outcome | null): ExitCode {
  if (outcome === null) return exitCodes.stillRunning;
  if (outcome === 'ok') return exitCodes.ok;
  if (outcome === 'start_failed') return exitCodes.notStarted;
  return outcome === 'lost' ? exitCodes.unknown : exitCodes.notOk;
}

/** `starts`: whether this was a command that starts functions; others leave everything unknown if nobody answers. */
export function exitOfError(error: unknown, starts: boolean): ExitCode {
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof Interrupted) return error.begun ? exitCodes.stillRunning : starts ? exitCodes.notStarted : exitCodes.unknown;
  if (error instanceof TransportError) return starts && error.started === 'no' ? exitCodes.notStarted : exitCodes.unknown;
  if (!(error instanceof NodedError)) return exitCodes.unknown;
  if (error.code === 'still_running') return exitCodes.stillRunning;
  const nobodyKnows = error.started === 'unknown' || error.code === 'call_expired' || error.code === 'unknown_request';
  return nobodyKnows ? exitCodes.unknown : exitCodes.refused;
}
