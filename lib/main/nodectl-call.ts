/** The commands of nodectl that are about calls: call, start, wait and abort. All end with an answer per node. */
import {isUtf8} from 'node:buffer';
import {randomUUID} from 'node:crypto';
import {messageOf} from '../base/errors';
import {checkArgs} from '../rpc/client-answers';
import {TransportError} from '../rpc/client-transport';
import type {FollowOptions} from '../rpc/client-requests';
import type {CallReference} from '../rpc/protocol';
import type {Answer} from '../rpc/protocol-answer';
import {isForPeople, sayError} from './nodectl-context';
import type {Context} from './nodectl-context';
import {Interrupted, UsageError, exitCodes, worstExit} from './nodectl-exit';
import type {ExitCode} from './nodectl-exit';
import {atNodes} from './nodectl-nodes';
import {openNodes, parseReference, parseRequestId, parseSeconds} from './nodectl-options';
import type {ConnectionOptions, OpenNode} from './nodectl-options';
import {answerJson, answerTable, exitOfAnswer, forTerminal} from './nodectl-output';
import type {NodeReport} from './nodectl-output';
import {TerminalWatcher, plainWatcher} from './nodectl-progress';
import type {Watcher} from './nodectl-progress';
import {StderrTail} from './nodectl-stderr';

export interface StartOptions extends ConnectionOptions {
  readonly timeout?: string;
  readonly abortAfter?: string;
  readonly requestId?: string;
  readonly reason?: string;
}

export interface WaitOptions extends ConnectionOptions {
  readonly timeout?: string;
  readonly requestId?: string;
}

export interface AbortOptions extends WaitOptions {
  readonly killAfter?: string;
}

/** How long `abort` waits for the end: SIGTERM, 10 s by default, SIGKILL, and a while. */
const abortWaitMs = 30_000;

/** What the waiting of one node is given. */
interface Waiting extends Required<Pick<FollowOptions, 'onProgress' | 'followStderr'>> {
  readonly signal: AbortSignal;
}

interface CallCommand {
  /** Whether it starts functions: then a node that was not reached has started nothing. */
  readonly starts: boolean;
  /** When it has done what it was told: with an ok call, with one that runs, or with one that has ended somehow. */
  readonly content: 'ok' | 'started' | 'ended';
  /** How to come back to a call that goes on, apart from the nodes. */
  readonly comeBack: string;
  readonly ask: (node: OpenNode, waiting: Waiting) => Promise<Answer>;
}

async function readArgs({stdin}: Context, given: string | undefined): Promise<string> {
  if (given === undefined) return 'null';
  const chunks: Buffer[] = [];
  if (given === '-') for await (const chunk of stdin) chunks.push(Buffer.from(chunk));
  else chunks.push(Buffer.from(given));
  const bytes = Buffer.concat(chunks);
  if (!isUtf8(bytes)) throw new UsageError('the arguments are not UTF-8');
  try {
    return checkArgs(bytes.toString());
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}

async function readStart(context: Context, options: StartOptions, fnName: string, args: string | undefined) {
  return {
    fnName,
    fnArgsJson: await readArgs(context, args),
    requestId: options.requestId === undefined ? randomUUID() : parseRequestId(options.requestId),
    ...(options.abortAfter === undefined ? {} : {abortAfterMs: parseSeconds(options.abortAfter, '--abort-after')}),
    ...(options.reason === undefined ? {} : {reason: options.reason}),
  };
}

const timeoutOf = ({timeout}: {readonly timeout?: string}): {readonly timeoutMs?: number} => (timeout === undefined ? {} : {timeoutMs: parseSeconds(timeout, '--timeout')});

export async function call(context: Context, options: StartOptions, fnName: string, args?: string): Promise<ExitCode> {
  const request = {...(await readStart(context, options, fnName, args)), ...timeoutOf(options)};
  const ask = ({client}: OpenNode, waiting: Waiting): Promise<Answer> => client.callFunction({...request, ...waiting});
  return runCalls(context, options, {starts: true, content: 'ok', comeBack: `--request-id ${request.requestId}`, ask});
}

export async function start(context: Context, options: StartOptions, fnName: string, args?: string): Promise<ExitCode> {
  const request = {timeoutMs: 0, ...(await readStart(context, options, fnName, args)), ...timeoutOf(options)};
  const ask = ({client}: OpenNode, waiting: Waiting): Promise<Answer> =>
    request.timeoutMs === 0 ? client.startFunction(request, waiting.signal) : client.callFunction({...request, ...waiting});
  return runCalls(context, options, {starts: true, content: 'started', comeBack: `--request-id ${request.requestId}`, ask});
}

const comeBackTo = (reference: CallReference): string => ('callId' in reference ? reference.callId : `--request-id ${reference.requestId}`);

export async function wait(context: Context, options: WaitOptions, callId?: string): Promise<ExitCode> {
  const reference = parseReference(callId, options.requestId);
  const timeout = timeoutOf(options);
  const ask = ({client}: OpenNode, waiting: Waiting): Promise<Answer> => client.followFunction(reference, {...timeout, ...waiting});
  return runCalls(context, options, {starts: false, content: 'ok', comeBack: comeBackTo(reference), ask});
}

export async function abort(context: Context, options: AbortOptions, callId?: string): Promise<ExitCode> {
  const reference = parseReference(callId, options.requestId);
  const {timeoutMs} = timeoutOf(options);
  const request = {
    call: reference,
    timeoutMs: timeoutMs ?? abortWaitMs,
    ...(timeoutMs === undefined ? {} : {giveUpAfterMs: timeoutMs}),
    ...(options.killAfter === undefined ? {} : {killAfterMs: parseSeconds(options.killAfter, '--kill-after')}),
  };
  const ask = ({client}: OpenNode, {signal}: Waiting): Promise<Answer> => client.abortFunction(request, signal);
  return runCalls(context, options, {starts: false, content: 'ended', comeBack: comeBackTo(reference), ask});
}

async function runCalls(context: Context, options: ConnectionOptions, command: CallCommand): Promise<ExitCode> {
  let watcher: Watcher = plainWatcher(context.stderr);
  const nodes = openNodes(options, {onHealth: (node, report) => watcher.health(node, report)});
  if (context.stderr.isTTY === true) watcher = new TerminalWatcher(context.stderr, nodes.map(({name}) => name));
  const lastAnswers = new Map<string, Answer>();
  const tails = new Map(nodes.map(({name}) => [name, new StderrTail()]));
  const action = async (node: OpenNode): Promise<Answer> => {
    const tail = tails.get(node.name)!;
    const onProgress = (answer: Answer): void => {
      lastAnswers.set(node.name, answer);
      tail.add(answer.call.stderr);
      watcher.progress(node.name, answer);
    };
    const answer = await command.ask(node, {onProgress, followStderr: watcher.followsStderr, signal: context.interrupted});
    tail.add(answer.call.stderr);
    return answer;
  };
  const forPeople = isForPeople(context, options);
  const printed = new Set<string>();
  const onReport = (report: NodeReport<Answer>): void => {
    watcher.ended(report.node);
    if (forPeople) return;
    watcher.clear();
    context.stdout.write(`${answerJson(report)}\n`, () => printed.add(report.node));
  };
  const reports = await atNodes(nodes, {action, onReport, signal: context.interrupted, lastKnown: (node) => lastAnswers.get(node)});
  watcher.stop();
  sayWhatWentWrong(context, reports.filter((report) => !isContent(report, command)), tails);
  if (forPeople) context.stdout.write(forReaders(reports, command, context.stdout.columns), () => nodes.forEach(({name}) => printed.add(name)));
  if (!(await context.stdout.close())) printed.clear();
  if (!context.stdout.readerLeft) sayHowToComeBack(context, reports.filter((report) => !isContent(report, command) || !printed.has(report.node)), printed, command, options);
  return worstExit(reports.map((report) => (isContent(report, command) ? exitCodes.ok : exitOfAnswer(report, command.starts))));
}

/** Whether the call at this node is as this command should leave it, though it is not ok. */
function isContent({value}: NodeReport<Answer>, {content}: CallCommand): boolean {
  return value !== null && ((content === 'started' && !value.finished) || (content === 'ended' && value.finished));
}

/** What a person reads: the bare result or the bare ID if there is one node and all went well, nothing but the error if it refused. */
function forReaders(reports: readonly NodeReport<Answer>[], command: CallCommand, width: number): string {
  const [only] = reports;
  if (reports.length > 1 || only === undefined) return answerTable(reports, width);
  if (only.value === null) return '';
  if (only.value.call.outcome === 'ok') return `${only.value.resultJson}\n`;
  return isContent(only, command) && !only.value.finished ? `${only.value.call.id}\n` : answerTable(reports, Infinity);
}

function sayWhatWentWrong(context: Context, reports: readonly NodeReport<Answer>[], tails: ReadonlyMap<string, StderrTail>): void {
  for (const {node, value, error} of reports) {
    if (value === null) sayError(context, node, error);
    else if (value.error !== null) {
      const text = tails.get(node)!.lines(reports.length > 1 ? `${node}: ` : '');
      context.stderr.write(context.stderr.isTTY === true ? forTerminal(text) : text);
      context.stderr.write(`nodectl: ${node}: ${value.error.code}: ${forTerminal(value.error.message)}\n`);
    }
  }
}

/** The words of a shell command that mean what these options mean. */
function sameNodes({nodes, port, cert, key, ca, ssl}: ConnectionOptions): string {
  const quote = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll('\'', '\'\\\'\'')}'`);
  const given = Object.entries({'-n': nodes, '-p': port, '-C': cert, '-K': key, '--ca': ca});
  const words = given.flatMap(([option, value]) => (value === undefined ? [] : [`${option} ${quote(value)} `]));
  return `${words.join('')}${ssl ? '' : '--no-ssl '}`;
}

/** What there is to come back for, with the call's ID if that is known; null if there is nothing. */
function leftBehind({value, error}: NodeReport<Answer>, {starts}: CallCommand, printed: boolean): string | null {
  if (error instanceof Interrupted) return error.begun ? 'still running' : null;
  if (value === null) return starts && error instanceof TransportError && error.started === 'unknown' ? 'perhaps started' : null;
  if (!value.finished) return `still running: ${value.call.id}`;
  return printed ? null : `its answer could not be printed: ${value.call.id}`;
}

function sayHowToComeBack(context: Context, reports: readonly NodeReport<Answer>[], printed: ReadonlySet<string>, command: CallCommand, options: ConnectionOptions): void {
  const left = reports.flatMap((report) => {
    const what = leftBehind(report, command, printed.has(report.node));
    return what === null ? [] : [{node: report.node, what}];
  });
  if (left.length === 0) return;
  for (const {node, what} of left) context.stderr.write(`nodectl: ${node}: ${what}\n`);
  context.stderr.write(`nodectl: to wait again: nodectl wait ${sameNodes({...options, nodes: left.map(({node}) => node).join(',')})}${command.comeBack}\n`);
}
