/** What a function wrote to stderr: the end of it, pieced together from answers, and the command that prints it. */
import {limits} from '../base/limits';
import type {Answer, StderrTail as Piece} from '../rpc/protocol-answer';
import {sayError} from './nodectl-context';
import type {Context} from './nodectl-context';
import {UsageError, exitCodes, exitOfError} from './nodectl-exit';
import type {ExitCode} from './nodectl-exit';
import {atNodes} from './nodectl-nodes';
import {openNodes, parseReference} from './nodectl-options';
import type {ConnectionOptions, OpenNode} from './nodectl-options';
import {forTerminal} from './nodectl-output';
import {plainWatcher} from './nodectl-progress';

/** The last 64 Ki characters, whether they came in one answer or in many. */
export class StderrTail {
  #text = '';
  #next = 0;

  add(piece: Piece | null): void {
    if (piece === null) return;
    this.#text = piece.from === this.#next ? this.#text + piece.text : piece.text;
    this.#text = this.#text.slice(-limits.maxStderrTailBytes);
    this.#next = piece.next;
  }

  /** Each line with `prefix` before it and a line break behind it. */
  lines(prefix: string): string {
    const text = this.#text.trimEnd();
    return text === '' ? '' : `${text.replace(/^/gm, prefix)}\n`;
  }
}

export interface LogsOptions extends ConnectionOptions {
  readonly follow?: boolean;
  readonly requestId?: string;
}

export async function logs(context: Context, options: LogsOptions, callId?: string): Promise<ExitCode> {
  const reference = parseReference(callId, options.requestId);
  const {stdout, stderr} = context;
  const signal = AbortSignal.any([context.interrupted, stdout.failed]);
  const watcher = plainWatcher(stderr);
  const nodes = openNodes(options, {onHealth: (node, report) => watcher.health(node, report)});
  if (nodes.length > 1) throw new UsageError('logs: name one node');
  const print = ({call}: Answer): void => {
    const {text = '', dropped = 0} = call.stderr ?? {};
    if (dropped > 0) stderr.write(`nodectl: ${dropped} bytes before this are not shown\n`);
    stdout.write(stdout.isTerminal ? forTerminal(text) : text);
  };
  const action = async ({name, client}: OpenNode): Promise<true> => {
    const onProgress = (answer: Answer): void => {
      watcher.progress(name, answer);
      print(answer);
    };
    const following = client.followFunction(reference, options.follow === true ? {followStderr: true, onProgress, signal} : {timeoutMs: 0, signal});
    print(await following);
    return true;
  };
  const [report] = await atNodes(nodes, {action, onReport: () => undefined, signal});
  if (report === undefined || report.value !== null) return exitCodes.ok;
  sayError(context, report.node, report.error);
  return exitOfError(report.error, false);
}
