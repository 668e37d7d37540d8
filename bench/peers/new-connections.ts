/** A master who makes a new connection for each request, one after the other. */
import {readFileSync} from 'node:fs';
import https from 'node:https';
import {serve} from './serve';

export interface NewConnections {
  readonly port: number;
  readonly count: number;
  readonly tls: {readonly ca: string; readonly cert: string; readonly key: string};
}

function askOnce(options: https.RequestOptions): Promise<number> {
  const begin = performance.now();
  return new Promise((resolve, reject) => {
    https
      .request(options, (response) => {
        if (response.statusCode !== 200) reject(new Error(`answered with ${response.statusCode}`));
        response.resume();
        response.once('end', () => resolve(performance.now() - begin));
      })
      .once('error', reject)
      .end();
  });
}

const handlers = {
  /** Ms from the connection to the end of the answer, of each request. Fails if one is refused. */
  ask: async ({port, count, tls: {ca, cert, key}}: NewConnections): Promise<number[]> => {
    const options = {host: '127.0.0.1', port, path: '/status', agent: false as const, timeout: 30_000, ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key)};
    const tookMs: number[] = [];
    for (let at = 0; at < count; at++) tookMs.push(await askOnce(options));
    return tookMs;
  },
};

export type NewConnectionsHandlers = typeof handlers;

serve(handlers);
