/**
 * A TCP proxy that loses answers. It cannot read TLS and need not: the servers here issue no session tickets, so what
 * a server sends after the client has sent its request, the second burst of a connection, is the first answer, and so on.
 */
import * as net from 'node:net';
import {once} from 'node:events';

/** What becomes of an answer: how many of its bytes pass, and how the connection ends then. */
export interface Cut {
  readonly bytes: number;
  readonly ending: 'fin' | 'rst' | 'silence';
}

interface Connection {
  speaker: 'client' | 'server';
  bursts: number;
  left: number;
  cut: Cut | null;
}

export class CuttingProxy {
  /** Used up one by one by the answers that come; when it is empty, answers pass. */
  cuts: Cut[] = [];
  /** So many requests get lost on their way instead, with the rest of the handshake that goes before them. */
  lostRequests = 0;
  /** So many connections are reset when the client has done its part of the handshake, whether its request is there by then or not. */
  brokenHandshakes = 0;
  /** Refuses connections, by ending them before a handshake. */
  closed = false;
  private readonly server: net.Server;
  private readonly sockets = new Set<net.Socket>();

  private constructor(private readonly port: number, private readonly target: string) {
    this.server = net.createServer((client) => this.accept(client));
  }

  /** Listens on `address`, and passes on to `target`, on the same port. */
  static async open(port: number, address: string, target: string): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(port, target);
    proxy.server.listen(port, address);
    await once(proxy.server, 'listening');
    return proxy;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }

  private accept(client: net.Socket): void {
    if (this.closed) return void client.destroy();
    const server = net.connect(this.port, this.target);
    const connection: Connection = {speaker: 'client', bursts: 0, left: 0, cut: null};
    for (const socket of [client, server]) {
      this.sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.sockets.delete(socket);
        if (connection.cut?.ending !== 'silence') for (const end of [client, server]) end.destroySoon();
      });
    }
    client.on('data', (chunk: Buffer) => {
      if (connection.speaker === 'server' && this.lostRequests > 0) {
        this.lostRequests -= 1;
        // The rest of it may come in pieces: only later does the client hear that it ends.
        client.removeAllListeners('data').resume();
        return void setTimeout(() => [client, server].forEach((end) => end.destroy()), 100);
      }
      if (connection.speaker === 'server' && this.brokenHandshakes > 0) {
        this.brokenHandshakes -= 1;
        return void client.resetAndDestroy();
      }
      connection.speaker = 'client';
      server.write(chunk);
    });
    server.on('data', (chunk: Buffer) => this.pass(connection, chunk, client));
  }

  private pass(connection: Connection, chunk: Buffer, client: net.Socket): void {
    if (connection.speaker === 'client') {
      connection.speaker = 'server';
      connection.bursts += 1;
      // After a cut there are only goodbyes of TLS.
      if (connection.bursts > 1 && connection.cut === null) {
        connection.cut = this.cuts.shift() ?? null;
        connection.left = connection.cut?.bytes ?? 0;
      }
    }
    const {cut} = connection;
    if (cut === null) return void client.write(chunk);
    const passed = chunk.subarray(0, connection.left);
    connection.left -= passed.length;
    if (passed.length > 0) client.write(passed);
    if (connection.left > 0 || cut.ending === 'silence') return;
    if (cut.ending === 'fin') client.end();
    else client.resetAndDestroy();
  }
}
