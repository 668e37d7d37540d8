/** The TCP port: had, or not. */
import {createServer} from 'node:net';
import type {AddressInfo, Server} from 'node:net';
import {errnoOf} from '../base/errors';
import type {Config} from './config';

/** The port cannot be had: exit 71. */
export class BindError extends Error {
  override readonly name = 'BindError';
}

type ListenAddress = Pick<Config, 'port' | 'address'>;

/** Resolves with the port. Rejects with a BindError. */
export function listenOn(server: Server, {port, address}: ListenAddress): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(new BindError(`cannot listen on ${address} port ${port}: ${errnoOf(error)}`));
    server.once('error', fail);
    server.listen({port, host: address, backlog: 1024}, () => {
      server.removeListener('error', fail);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** Rejects with a BindError if the port cannot be had now. Whoever connects meanwhile is told that nobody is there yet. */
export async function tryPort(address: ListenAddress): Promise<void> {
  const server = createServer((socket) => socket.destroy());
  await listenOn(server, address);
  await new Promise((resolve) => server.close(resolve));
}
