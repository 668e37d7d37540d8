/** Strangers who connect to a port and say nothing, so many a second, from an address that is not a master's. */
import {connect} from 'node:net';
import type {Socket} from 'node:net';
import {serve} from './serve';

const tickMs = 20;
const open = new Set<Socket>();
let timer: NodeJS.Timeout | undefined;
let count = 0;

function come(port: number, localAddress: string): void {
  const socket = connect({host: '127.0.0.1', port, localAddress});
  open.add(socket);
  count += 1;
  socket.on('error', () => {}); // they are closed for others
  socket.on('close', () => open.delete(socket));
}

const handlers = {
  begin: ({port, perSecond, localAddress}: {readonly port: number; readonly perSecond: number; readonly localAddress: string}): void => {
    const began = performance.now();
    count = 0;
    timer = setInterval(() => {
      for (const due = ((performance.now() - began) * perSecond) / 1000; count < due; ) come(port, localAddress);
    }, tickMs);
  },
  /** Gives how many have come. */
  end: (_request: object): number => {
    clearInterval(timer);
    for (const socket of open) socket.destroy();
    return count;
  },
};

export type SilentStrangersHandlers = typeof handlers;

serve(handlers);
