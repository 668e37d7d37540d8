/** The local socket of a node, as a tool of root speaks to it: JSON messages that end with ETX. */
import {once} from 'node:events';
import * as net from 'node:net';
import {until} from './until';

const etx = '\x03';

export interface LocalAnswer {
  readonly success: boolean;
  /** The members of all operations; which of them are there is what a spec looks at. */
  readonly result: Readonly<Record<string, unknown>>;
}

export class LocalConnection {
  private readonly chunks: Buffer[] = [];
  private taken = 0;

  constructor(readonly socket: net.Socket) {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => void this.chunks.push(chunk));
  }

  static async open(path: string): Promise<LocalConnection> {
    const socket = net.connect({path, allowHalfOpen: true});
    await once(socket, 'connect');
    return new LocalConnection(socket);
  }

  get closed(): boolean {
    return this.socket.destroyed || this.socket.readableEnded;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  write(text: string | Buffer): void {
    this.socket.write(text);
  }

  /** The text of the next answer that has not been taken yet. */
  async nextText(boundMs?: number): Promise<string> {
    const parts = await until('an answer over the local socket', () => {
      // Looking for the end in the last piece only: an answer of many MB comes in hundreds of them.
      if (this.chunks.length === 0 || (this.chunks.at(-1)!.indexOf(etx) === -1 && !this.closed)) return false;
      const all = this.bytes.toString().split(etx);
      return all.length > this.taken + 1 && all;
    }, boundMs);
    return parts[this.taken++]!;
  }

  async next(boundMs?: number): Promise<LocalAnswer> {
    return JSON.parse(await this.nextText(boundMs)) as LocalAnswer;
  }

  ask(method: string, args?: unknown): Promise<LocalAnswer> {
    this.write(`${JSON.stringify({method, args, version: 1})}${etx}`);
    return this.next();
  }

  destroy(): void {
    this.socket.destroy();
  }
}
