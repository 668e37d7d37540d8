/**
 * The classic protocol of Ganeti's node daemon: `POST /<procedure>` with a JSON array, answered once the function
 * has ended, however long that takes (DESIGN.md section 11). A classic call is a call like any other, started and
 * waited for in one request; afterwards nobody can name it, so it is forgotten.
 */
import type {IncomingMessage, ServerResponse} from 'node:http';
import {NodedError} from '../base/errors';
import {limits} from '../base/limits';
import {callIdOf} from '../call/call-record';
import type {Call} from '../call/call-record';
import type {HttpGuest, Task} from './http';
import {checkBodyHeaders, checkMethod, readBytes} from './http-request';
import type {RefusalWriter} from './http-reply';
import {start, wait} from './operations';
import type {Caller, OperationContext} from './operations';
import {callError, resultGone, stdoutPiece} from './reply';
import type {Piece, Reply} from './reply';

export interface GanetiOptions {
  readonly context: OperationContext;
  /** The functions of Ganeti's own backend: only their results are what the classic protocol answers. */
  readonly isProcedure: (name: string) => boolean;
  readonly maxRequestBytes: number;
  readonly log: {info(fields: object, message: string): void};
}

/** What Ganeti's own daemon says of a function that it could not run to its end. */
const failure = (message: string): Piece => Buffer.from(`${JSON.stringify([false, `Error while executing backend function: ${message}`])}\n`);

/** A refusal is no answer of the function: it has a status of its own, and its text is what the user of a command is shown. */
const writeRefusal: RefusalWriter = ({message}) => ({contentType: 'text/plain; charset=utf-8', body: Buffer.from(message)});

/** The pair `[ok, payload]` as the function wrote it, byte for byte; or why there is none. */
function pairOf(call: Call, context: OperationContext): Piece {
  if (call.state === 'gone') throw resultGone(call);
  if (call.ending === null) context.table.naming(call);
  if (call.ending === null) return failure(`this node daemon ends before ${call.accepted.fnName} does, which goes on as call ${callIdOf(call)}`);
  const error = callError(call, context.files);
  // A pair that is no JSON is one all the same: Ganeti's serializer writes NaN and Infinity, and its clients read them.
  // It is whole, because noded-ganeti exits with 0 only after it has written all of it.
  if (error !== null && error.code !== 'invalid_output') return failure(error.message);
  if (call.ending.kind !== 'exited' || call.ending.stdoutBytes === 0) return failure('the function ended without a result');
  return stdoutPiece(call, call.ending, context.files, limits.maxInlineResultBytes);
}

/** Its caller has the answer, or has gone: nobody else can name the call, but for those who look at the node. */
function abandon({table}: OperationContext, call: Call): void {
  if (call.state === 'ended') table.forget(call);
  else table.retention.abandon(call);
}

async function callClassic(context: OperationContext, caller: Caller, fnName: string, fnArgs: Uint8Array): Promise<Reply> {
  const {call} = start(context, caller, {fnName, fnArgs, timeoutMs: Infinity, requestId: null, abortAfterMs: null, stderrFrom: null, reason: null});
  const forget = (): void => abandon(context, call);
  caller.onGone(forget);
  if (call.state !== 'ended') await wait({...context, maxWaitMs: Infinity}, caller, {calls: [call], until: 'ended', timeoutMs: Infinity});
  return {contentType: 'application/json', pieces: [pairOf(call, context)], over: forget};
}

/** One request of the classic protocol. */
class ClassicRequest implements HttpGuest {
  readonly writeRefusal = writeRefusal;
  private readonly from: string;

  constructor(
    private readonly request: IncomingMessage,
    private readonly options: GanetiOptions,
  ) {
    // Known now: a connection that has broken off has no address any more.
    const {remoteAddress, remotePort} = request.socket;
    this.from = `${remoteAddress}:${remotePort}`;
  }

  /** Ganeti's clients make one request on a connection and leave it to the daemon to close: so it stays open only for those who ask. */
  get headers(): Readonly<Record<string, string>> {
    const stays = /^keep-alive$/i.test(this.request.headers.connection ?? '');
    return {Server: 'noded', Connection: stays ? 'keep-alive' : 'close'};
  }

  async read(response: ServerResponse, proceed: () => void): Promise<Task> {
    const {context, isProcedure, maxRequestBytes} = this.options;
    const {url = ''} = this.request;
    // The whole target but its slash: `//version` and `/version?x` are nothing, as they were.
    const name = url.slice(1);
    if (!url.startsWith('/') || !isProcedure(name)) throw new NodedError('unknown_function', {message: `this node has no procedure ${name}`});
    checkMethod(this.request, response, 'POST', 'PUT');
    checkBodyHeaders(this.request, maxRequestBytes);
    proceed();
    // What is no JSON is refused by the function, in Ganeti's words.
    const args = await readBytes(this.request, maxRequestBytes);
    return (caller) => {
      caller.onGone(() => this.note('the caller has gone'));
      return callClassic(context, caller, name, args);
    };
  }

  answered(status: number, refusal: NodedError | null): void {
    this.note(`${status}${refusal === null ? '' : ` (${refusal.message})`}`);
  }

  private note(what: string): void {
    const {method, url, httpVersion} = this.request;
    this.options.log.info({}, `${this.from} ${method} ${url} HTTP/${httpVersion} ${what}`);
  }
}

/** For HttpOptions: the classic protocol on the port of the operations. */
export function ganetiBinding(options: GanetiOptions): (request: IncomingMessage) => HttpGuest {
  return (request) => new ClassicRequest(request, options);
}
