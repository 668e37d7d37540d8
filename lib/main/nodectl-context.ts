/** What every command of nodectl is given: where it reads and writes, and what says that it should stop. */
import type {ReadStream, WriteStream} from 'node:tty';
import {atNodes} from './nodectl-nodes';
import {Interrupted, exitCodes, exitOfError, worstExit} from './nodectl-exit';
import type {ExitCode} from './nodectl-exit';
import {openNodes} from './nodectl-options';
import type {ConnectionOptions, OpenNode} from './nodectl-options';
import {errorLine, valueJson} from './nodectl-output';
import type {NodeReport} from './nodectl-output';
import type {Stdout} from './nodectl-stdout';

export interface Context {
  readonly stdin: ReadStream | NodeJS.ReadableStream;
  readonly stdout: Stdout;
  readonly stderr: WriteStream;
  /** Aborted by Ctrl-C and when nobody reads stdout any more, with an Interrupted as its reason. */
  readonly interrupted: AbortSignal;
}

/** Whether people read stdout; else programs do. */
export function isForPeople({stdout}: Context, {json}: ConnectionOptions): boolean {
  return stdout.isTerminal && json !== true;
}

export function sayError({stderr}: Context, node: string, error: unknown): void {
  if (!(error instanceof Interrupted)) stderr.write(`nodectl: ${node}: ${errorLine(error)}\n`);
}

export interface Look<T> {
  /** The member of a program's line that holds the value. */
  readonly what: string;
  readonly ask: (node: OpenNode) => Promise<T>;
  /** What people see of those nodes that answered. */
  readonly show: (reports: readonly {readonly node: string; readonly value: T}[]) => string;
}

/** A command that asks every node one thing. */
export async function lookAtNodes<T>(context: Context, options: ConnectionOptions, {what, ask, show}: Look<T>): Promise<ExitCode> {
  const forPeople = isForPeople(context, options);
  const onReport = (report: NodeReport<T>): void => {
    if (report.value === null) sayError(context, report.node, report.error);
    if (!forPeople) context.stdout.write(`${valueJson(report, what)}\n`);
  };
  const reports = await atNodes(openNodes(options, {patienceMs: 0}), {action: ask, onReport, signal: context.interrupted});
  if (forPeople) context.stdout.write(show(reports.flatMap(({node, value}) => (value === null ? [] : [{node, value}]))));
  return worstExit(reports.map(({value, error}) => (value === null ? exitOfError(error, false) : exitCodes.ok)));
}
