/** Bytes to a socket and what comes back: HTTP as only those write it who mean no good, or whose network fails them. */
import {once} from 'node:events';
import * as net from 'node:net';
import * as tls from 'node:tls';
import {until} from './until';

export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** All whole answers in what a node has sent. Throws if anything else is among them. */
export function parseAnswers(bytes: Buffer): RawAnswer[] {
  const answers: RawAnswer[] = [];
  for (let rest = bytes; rest.length > 0; ) {
    const end = rest.indexOf('\r\n\r\n');
    const [first = '', ...lines] = rest.toString('latin1', 0, Math.max(end, 0)).split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) \S/.exec(first)?.[1]);
    if (end === -1 || Number.isNaN(status)) throw new Error(`this is no answer: ${rest.toString('latin1', 0, 200)}`);
    const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]));
    const length = Number(headers['content-length'] ?? 0);
    const body = rest.subarray(end + 4, end + 4 + length);
    if (body.length < length) throw new Error(`an answer of ${length} bytes ends after ${body.length}`);
    answers.push({status, headers, body: body.toString()});
    rest = rest.subarray(end + 4 + length);
  }
  return answers;
}

/** One connection. Errors of the socket end it and are no failure: what has been received is what counts. */
export class RawConnection {
  private readonly chunks: Buffer[] = [];

  constructor(readonly socket: net.Socket) {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => void this.chunks.push(chunk));
  }

  /** Connects over TCP; with `options` over TLS. Every address of 127.0.0.0/8 is this machine's. */
  static async open(port: number, options?: tls.ConnectionOptions, localAddress?: string): Promise<RawConnection> {
    // Both must be able to end alone: otherwise Node would answer the end of one side with the end of the other.
    const plain = net.connect({port, host: '127.0.0.1', allowHalfOpen: true, ...(localAddress === undefined ? {} : {localAddress})});
    await once(plain, 'connect');
    if (options === undefined) return new RawConnection(plain);
    const secure = tls.connect({...options, socket: plain, checkServerIdentity: () => undefined});
    await once(secure, 'secureConnect');
    return new RawConnection(secure);
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  get closed(): boolean {
    return this.socket.destroyed || this.socket.readableEnded;
  }

  write(text: string | Buffer): void {
    this.socket.write(text);
  }

  /** Waits for as many whole answers. */
  answers(count: number, boundMs?: number): Promise<RawAnswer[]> {
    return until(`${count} answers`, () => {
      try {
        const answers = parseAnswers(this.bytes);
        return answers.length >= count && answers;
      } catch (error) {
        if (this.closed) throw error;
        return false;
      }
    }, boundMs);
  }

  /** Waits for the node to close the connection. */
  async end(boundMs?: number): Promise<void> {
    await until('the node closes the connection', () => this.closed, boundMs);
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** As when the machine at this end forgets the connection. */
  reset(): void {
    this.socket.resetAndDestroy();
  }
}

/** Sends the bytes, and gives all answers once the node has closed the connection. */
export async function exchange(port: number, text: string | Buffer): Promise<RawAnswer[]> {
  const connection = await RawConnection.open(port);
  try {
    connection.write(text);
    await connection.end();
    return parseAnswers(connection.bytes);
  } finally {
    connection.destroy();
  }
}

/** A PUT as a well-behaved master writes it. */
export function putText(operation: string, members: object, headers: Readonly<Record<string, string>> = {}): string {
  const body = JSON.stringify(members);
  const all = {Host: 'noded', 'Content-Type': 'application/json', 'Content-Length': String(Buffer.byteLength(body)), ...headers};
  return `PUT /${operation} HTTP/1.1\r\n${Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`;
}
