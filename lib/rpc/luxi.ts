/**
 * The LUXI binding, `<run_dir>/noded.sock`, for root and local tools (DESIGN.md section 8): JSON messages
 * `{"method", "args", "version"}` ended by ETX, answered by `{"success", "result"}`. ETX cannot stand in
 * JSON, so a message is cut without reading it. Whoever can open the socket is `local`.
 */
import {createServer} from 'node:net';
import type {Server, Socket} from 'node:net';
import {NodedError, messageOf} from '../base/errors';
import type {ErrorCode} from '../base/errors';
import {limits} from '../base/limits';
import {cutMembers} from './json-members';
import {scanJson} from './json-scan';
import type {Caller, Operation, OperationContext} from './operations';
import {parse, protocolVersion} from './protocol';
import {writeProblem} from './protocol-answer';
import type {Members} from './protocol';
import {bytesOf} from './reply';
import type {Reply} from './reply';
import {localRole} from './tls';

export interface LuxiOptions {
  readonly context: OperationContext;
  /** All operations, those of GET too, by name. */
  readonly operations: ReadonlyMap<string, Operation>;
  readonly maxRequestBytes: number;
  readonly log: {error(fields: object, message: string): void};
  /** Told of each message before anything is done for it. */
  readonly arrived: () => void;
  readonly refused: (code: ErrorCode) => void;
}

const etx = 0x03;

interface Message {
  readonly operation: Operation;
  readonly members: Members;
}

function readMessage(text: Buffer, operations: LuxiOptions['operations']): Message {
  const members = cutMembers(text, scanJson(text, {maxDepth: limits.maxDepth, members: true}));
  for (const name of members.keys()) {
    if (name !== 'method' && name !== 'args' && name !== 'version') throw new NodedError('unknown_field', {field: name});
  }
  const method = members.get('method');
  const operation = method === undefined ? undefined : operations.get(String(parse(method)));
  if (operation === undefined) throw new NodedError('unknown_operation');
  const version = members.get('version');
  if (version !== undefined && parse(version) !== protocolVersion) throw new NodedError('bad_field', {field: 'version', message: `version must be ${protocolVersion}`});
  const args = members.get('args');
  const none = args === undefined || ['null', '[]'].includes(Buffer.from(args).toString());
  return {operation, members: none ? new Map() : cutMembers(args, scanJson(args, {maxDepth: limits.maxDepth, members: true}))};
}

/** Messages of one connection, one after the other. */
class LuxiConnection {
  private chunks: Buffer[] = [];
  private size = 0;
  private busy = false;
  /** After a message that is too long, nothing can be told from its rest. */
  private refused = false;
  private gone: (() => void) | null = null;

  constructor(
    private readonly socket: Socket,
    private readonly options: LuxiOptions,
  ) {
    socket.on('data', (chunk) => this.take(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.gone?.());
  }

  private take(chunk: Buffer): void {
    if (this.refused) return; // read all the same: to close with unread bytes would take the refusal back
    this.chunks.push(chunk);
    this.size += chunk.length;
    // What comes while one message is served waits here, up to the limit of one, and then in the kernel.
    if (this.busy) {
      if (this.size > this.options.maxRequestBytes) this.socket.pause();
    } else if (chunk.includes(etx)) {
      void this.serve();
    } else if (this.size > this.options.maxRequestBytes) {
      this.refuse(new NodedError('request_too_large'));
      this.refused = true;
      this.chunks = [];
      this.socket.end();
    }
  }

  private async serve(): Promise<void> {
    this.busy = true;
    for (let message = this.next(); message !== null && !this.socket.destroyed; message = this.next()) await this.answer(message);
    this.busy = false;
    this.socket.resume();
  }

  private next(): Buffer | null {
    const text = this.chunks.length === 1 ? this.chunks[0]! : Buffer.concat(this.chunks);
    const end = text.indexOf(etx);
    this.size = text.length - end - 1;
    // An empty rest would keep the whole message in memory.
    this.chunks = this.size === 0 ? [] : [text.subarray(end + 1)];
    return end === -1 ? null : text.subarray(0, end);
  }

  private async answer(text: Buffer): Promise<void> {
    this.options.arrived();
    let reply: Reply;
    try {
      const {operation, members} = readMessage(text, this.options.operations);
      const caller: Caller = {role: localRole, traceparent: null, onGone: (callback) => (this.gone = callback)};
      reply = await operation(this.options.context, caller, members);
    } catch (error) {
      const refusal = error instanceof NodedError ? error : new NodedError('internal');
      if (refusal !== error) this.options.log.error({err: error}, `a local request failed: ${messageOf(error)}`);
      this.refuse(refusal);
      return;
    } finally {
      this.gone = null;
    }
    await this.send(reply);
  }

  private refuse(refusal: NodedError): void {
    this.options.refused(refusal.code);
    this.socket.write(`{"success":false,"result":${JSON.stringify(writeProblem(refusal))}}\x03`);
  }

  private async send({contentType, pieces, sent}: Reply): Promise<void> {
    // A reader that takes nothing for a minute is cut off, as over HTTP.
    this.socket.setTimeout(limits.stalledReaderMs, () => this.socket.destroy());
    try {
      this.socket.write('{"success":true,"result":');
      for (const piece of pieces) {
        if (contentType !== 'application/json' && Buffer.isBuffer(piece)) this.socket.write(JSON.stringify(piece.toString()));
        else for await (const chunk of bytesOf(piece)) await this.write(chunk);
      }
      await this.write('}\x03');
      sent?.();
    } catch {
      // Half of an answer is out, or the reader is gone: anything more would be taken for the rest of it.
      this.socket.destroy();
    }
    this.socket.setTimeout(0);
    this.socket.removeAllListeners('timeout');
  }

  private write(chunk: Buffer | string): Promise<void> {
    return new Promise((resolve, reject) => this.socket.write(chunk, (error) => (error ? reject(error) : resolve())));
  }
}

/** Makes the server; the caller lets it listen on a socket that only root can open. */
export function createLuxiServer(options: LuxiOptions): Server {
  return createServer((socket) => void new LuxiConnection(socket, options));
}
