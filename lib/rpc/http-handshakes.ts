/** Strangers cost a handshake each: only so many at a time, and they do not fill the log. */
import type {Server} from 'node:http';
import type {Socket} from 'node:net';
import {monotonicMs} from '../base/duration';
import {errnoOf} from '../base/errors';
import {limits} from '../base/limits';

/** How often failed handshakes are logged: a port scanner makes thousands of them in a second. */
const logEveryMs = 10_000;

/** Each connection ends its own handshake in exactly one of two events. */
export function limitHandshakes(server: Server, log: {debug(fields: object, message: string): void; info(fields: object, message: string): void}): void {
  let underWay = 0;
  let failed = 0;
  let loggedAt = -Infinity;
  server.on('connection', (socket: Socket) => {
    underWay += 1;
    if (underWay > limits.maxHandshakes) socket.destroy();
  });
  server.on('secureConnection', () => (underWay -= 1));
  server.on('tlsClientError', (error: Error) => {
    underWay -= 1;
    // Somebody only looked whether the port is open, as Ganeti does before it asks for anything.
    if (errnoOf(error) === 'ECONNRESET') return log.debug({}, `a TLS handshake was broken off: ${error.message}`);
    failed += 1;
    if (monotonicMs() - loggedAt < logEveryMs) return;
    log.info({failed}, `a TLS handshake failed: ${error.message}`);
    loggedAt = monotonicMs();
    failed = 0;
  });
}
