/** A TLS server that asks for a client certificate, answers every request with the same bytes, and starts nothing: what connections alone cost. */
import {readFileSync} from 'node:fs';
import type {AddressInfo} from 'node:net';
import * as tls from 'node:tls';
import {serve} from './serve';
import type {GanetiTarget} from './ganeti-load';

const handlers = {
  /** Resolves with the port. `tls` is what a master has: node and master have the same CA. */
  listen: ({tls: {ca, cert, key}, body}: Pick<GanetiTarget, 'tls'> & {readonly body: string}): Promise<number> => {
    const answer = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
    const server = tls.createServer({ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key), requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1']}, (socket) => {
      socket.setNoDelay(true);
      socket.on('error', () => {}); // the load generator notices
      socket.once('data', () => socket.end(answer));
    });
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
  },
};

export type TlsAnswerHandlers = typeof handlers;

serve(handlers);
