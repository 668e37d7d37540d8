/** A master of a Ganeti cluster, as far as its node daemons see one: each request on a TLS connection of its own. */
import {readFileSync} from 'node:fs';
import * as tls from 'node:tls';
import {readAnswers} from './raw-http';
import {serve} from './serve';
import type {LoadRequest, LoadResult} from './load-generator';

export interface GanetiTarget {
  readonly port: number;
  /** File names. */
  readonly tls: {readonly ca: string; readonly cert: string; readonly key: string};
}

const host = '127.0.0.1';

/** Certificates are read once and not for each connection, or it would be the reading that is measured. */
const contexts = new Map<string, tls.SecureContext>();

function contextOf({ca, cert, key}: GanetiTarget['tls']): tls.SecureContext {
  const known = contexts.get(cert);
  if (known !== undefined) return known;
  const context = tls.createSecureContext({ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key)});
  contexts.set(cert, context);
  return context;
}

/** With the headers that the RPC client of Ganeti's jobs sends. */
function requestOf(port: number, procedure: string, args: readonly unknown[]): string {
  const body = `${JSON.stringify(args)}\n`;
  return `POST /${procedure} HTTP/1.1\r\nHost: ${host}:${port}\r\nUser-Agent: Ganeti 3.0.2\r\nAccept: */*\r\nContent-type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** Makes one connection and one call; resolves with what that took in ms, once the whole answer is there. */
function call({port, tls: files}: GanetiTarget, procedure: string, args: readonly unknown[]): Promise<number> {
  const begin = performance.now();
  return new Promise((resolve, reject) => {
    // All nodes of a cluster have the same certificate, which names none of them.
    const socket = tls.connect({port, host, secureContext: contextOf(files), ALPNProtocols: ['http/1.1'], checkServerIdentity: () => undefined});
    socket.once('secureConnect', () => socket.write(requestOf(port, procedure, args)));
    socket.on('error', reject);
    socket.once('close', () => reject(new Error(`the connection was closed under a call of ${procedure}`)));
    readAnswers(socket, ({status, body}) => {
      resolve(performance.now() - begin);
      if (status !== 200 || !body.startsWith('[true, ')) reject(new Error(`${procedure} was answered with ${status}: ${body.slice(0, 500)}`));
      socket.end();
    });
  });
}

export interface GanetiLoadRequest extends GanetiTarget, Pick<LoadRequest, 'connections' | 'durationMs'> {}

/** Calls `version` again and again on so many connections at once, as long as `mayGoOn`; resolves with the times of the answers before `until`. */
async function loops(target: GanetiTarget, atOnce: number, mayGoOn: () => boolean, until = Infinity): Promise<number[]> {
  const tookMs: number[] = [];
  const loop = async (): Promise<void> => {
    while (mayGoOn()) {
      const took = await call(target, 'version', []);
      if (performance.now() < until) tookMs.push(took);
    }
  };
  await Promise.all(Array.from({length: atOnce}, loop));
  return tookMs.sort((a, b) => a - b);
}

let held: Promise<number[]> = Promise.resolve([]);

const handlers = {
  /** One call of `version`, and what it took in ms. */
  version: (target: GanetiTarget): Promise<number> => call(target, 'version', []),
  load: async ({connections, durationMs, ...target}: GanetiLoadRequest): Promise<LoadResult> => {
    const cpuBefore = process.cpuUsage();
    const until = performance.now() + durationMs;
    const tookMs = await loops(target, connections, () => performance.now() < until, until);
    const {user, system} = process.cpuUsage(cpuBefore);
    return {
      callsPerSecond: tookMs.length / (durationMs / 1000),
      medianMs: tookMs[tookMs.length >> 1] ?? Number.NaN,
      cpuShare: (user + system) / 1000 / durationMs,
    };
  },
  /** So many calls of `version` in all. */
  repeat: async ({connections, count, ...target}: GanetiTarget & {readonly connections: number; readonly count: number}): Promise<number> => {
    let left = count;
    return (await loops(target, connections, () => left-- > 0)).length;
  },
  /** Opens so many calls of `test_delay`, each on a connection of its own, and does not wait for them. */
  delay: ({count, seconds, ...target}: GanetiTarget & {readonly count: number; readonly seconds: number}): void => {
    held = Promise.all(Array.from({length: count}, () => call(target, 'test_delay', [seconds])));
    held.catch(() => {}); // told to whoever asks for the answers
  },
  /** Resolves when all of them have been answered well. */
  delayed: async (_request: object): Promise<number> => (await held).length,
};

export type GanetiLoadHandlers = typeof handlers;

serve(handlers);
