/** What nodectl prints at the end: one line of JSON per node for programs, a table or the bare result for people. */
import {NodedError, messageOf} from '../base/errors';
import type {ErrorDetail} from '../base/errors';
import {writeCall} from '../rpc/protocol-answer';
import type {Answer} from '../rpc/protocol-answer';
import {TransportError} from '../rpc/client-transport';
import {Interrupted, exitOfError, exitOfOutcome} from './nodectl-exit';
import type {ExitCode} from './nodectl-exit';

/** What became of one command at one node. */
export type NodeReport<T> = {readonly node: string} & ({readonly value: T; readonly error: null} | {readonly value: null; readonly error: unknown});

/** The characters that would move the cursor or change the colours of somebody's terminal. */
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** A function's text as it may be shown on a terminal; line breaks and tabs stay. */
export function forTerminal(text: string): string {
  return text.replace(controls, '\ufffd');
}

/** A text as it may stand in the middle of a line. */
export function oneLine(text: string): string {
  return forTerminal(text).replace(/\s+/g, ' ').trim();
}

/** At most `width` characters; where something is missing there is a `…`. */
export function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}

interface DescribedError {
  readonly code: string;
  readonly message: string;
  readonly started?: string;
  readonly health?: string;
  /** What became of a call whose result is gone. */
  readonly outcome?: string;
  readonly pointers?: ErrorDetail['pointers'];
}

/** An error in the words of the wire. */
export function describeError(error: unknown): DescribedError {
  if (error instanceof NodedError) {
    const {code, message, started, detail} = error;
    const {outcome, pointers} = detail;
    return {code, message, started, ...(outcome === undefined ? {} : {outcome}), ...(pointers === undefined ? {} : {pointers})};
  }
  if (error instanceof Interrupted) return {code: 'interrupted', message: error.message};
  if (!(error instanceof TransportError)) return {code: 'internal', message: messageOf(error)};
  return {code: error.code, message: error.message, started: error.started, ...(error.health === null ? {} : {health: error.health})};
}

/** One error as one sentence. */
export function errorLine(error: unknown): string {
  const {code, message, health, outcome} = describeError(error);
  return oneLine(`${health ?? code}: ${message}${outcome === undefined ? '' : ` (${outcome})`}`);
}

export function exitOfAnswer({value, error}: NodeReport<Answer>, starts: boolean): ExitCode {
  return value === null ? exitOfError(error, starts) : exitOfOutcome(value.call.outcome);
}

/** The result's bytes stay as they are, but for line breaks between tokens: in JSON they mean nothing, here they end a line. */
const onOneLine = (json: string): string => json.replace(/[\r\n]/g, ' ');

/** The line of a program's output for one call at one node. */
export function answerJson({node, value, error}: NodeReport<Answer>): string {
  const head = {node, outcome: value?.call.outcome ?? null};
  const tail = {call: value === null ? null : writeCall(value.call), error: value === null ? describeError(error) : value.error};
  return `${JSON.stringify(head).slice(0, -1)},"result":${onOneLine(value?.resultJson ?? 'null')},${JSON.stringify(tail).slice(1)}`;
}

/** The line of a program's output for anything else, under the name `what`. */
export function valueJson({node, value, error}: NodeReport<unknown>, what: string): string {
  return JSON.stringify({node, [what]: value, error: value === null ? describeError(error) : null});
}

/** Columns as wide as they must be; the last one is cut to what is left of `width`. */
export function table(header: readonly string[], rows: readonly (readonly string[])[], width: number): string {
  const all = [header, ...rows.map((row) => row.map((cell) => oneLine(cell)))];
  const widths = header.slice(0, -1).map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const left = Math.max(20, width - widths.reduce((sum, one) => sum + one + 2, 0));
  const line = (row: readonly string[]): string => [...widths.map((one, column) => row[column]!.padEnd(one)), cut(row.at(-1)!, left)].join('  ').trimEnd();
  return `${all.map(line).join('\n')}\n`;
}

export const seconds = (value: number): string => `${value.toFixed(value < 100 ? 1 : 0)}s`;

export function answerTable(reports: readonly NodeReport<Answer>[], width: number): string {
  const rows = reports.map(({node, value, error}) => {
    if (value === null) return [node, describeError(error).health ?? describeError(error).code, '-', '-', describeError(error).message];
    const {outcome, state, exitCode, signal, elapsed, id} = value.call;
    const result = outcome === null ? id : outcome === 'ok' || value.resultJson !== 'null' ? value.resultJson : (value.error?.message ?? '');
    return [node, outcome ?? state, signal ?? (exitCode === null ? '-' : String(exitCode)), seconds(elapsed), result];
  });
  return table(['NODE', 'OUTCOME', 'EXIT', 'ELAPSED', 'RESULT'], rows, width);
}
