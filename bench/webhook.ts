/** webhook(1), a Go program that runs a command for an HTTP request: the peer of calls. */
import {spawn} from 'node:child_process';
import {accessSync, constants, writeFileSync} from 'node:fs';
import {connect, createServer} from 'node:net';
import type {AddressInfo} from 'node:net';
import {join} from 'node:path';
import {until} from './benchmark';
import type {Run} from './benchmark';
import type {LoadRequest} from './peers/load-generator';
import {requestText} from './peers/raw-http';
import {functionPath} from './programs';

/** What the load generator needs to know of a server, and the process that answers. */
export interface Load extends Omit<LoadRequest, 'connections' | 'durationMs'> {
  readonly pid: number;
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const {port} = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function findProgram(name: string): string | null {
  for (const directory of (process.env.PATH ?? '').split(':')) {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return join(directory, name);
    } catch {
      // Not in this one.
    }
  }
  return null;
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({port, host: '127.0.0.1'}, () => resolve(true)).on('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

/** Runs `trivial` for the same request, its output in the answer. Null if webhook is not installed. */
export async function startWebhook({scratch}: Run, body: object): Promise<Load | null> {
  const program = findProgram('webhook');
  if (program === null) return null;
  const hooks = join(scratch.directory, 'hooks.json');
  const hook = {id: 'trivial', 'execute-command': functionPath(scratch.directory, 'trivial'), 'include-command-output-in-response': true};
  writeFileSync(hooks, JSON.stringify([hook]));
  const port = await freePort();
  const child = spawn(program, ['-hooks', hooks, '-ip', '127.0.0.1', '-port', String(port), '-http-methods', 'PUT'], {stdio: 'ignore'});
  child.on('error', () => {});
  scratch.own(child);
  await until('webhook', () => answers(port), 10_000);
  return {pid: child.pid ?? 0, port, request: requestText('PUT', '/hooks/trivial', body), expect: '1', tls: null};
}
