/** A master with one connection per call: starts gated functions and notes when each answer arrives. */
import {connect} from 'node:net';
import type {Socket} from 'node:net';
import {readAnswers, requestText} from './raw-http';
import {serve, wallClockMs} from './serve';

const sockets: Socket[] = [];
const lateMs: number[] = [];
let failure: Error | null = null;

/** How long a wait may take; the run is over long before. */
const timeoutSeconds = 300;

function call(port: number, gate: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      failure = error;
      reject(error);
    };
    const socket = connect({port, host: '127.0.0.1'}, () => {
      socket.write(requestText('PUT', '/StartFunction', {fn_name: 'gated', fn_args: gate, timeout: timeoutSeconds}), () => resolve());
    });
    sockets.push(socket);
    socket.on('error', fail);
    readAnswers(socket, ({status, body}) => {
      const now = wallClockMs();
      const {result, call: info} = JSON.parse(body) as {result: unknown; call?: {outcome: string}};
      if (status !== 200 || info?.outcome !== 'ok') return fail(new Error(`answered with ${status}: ${body}`));
      lateMs.push(now - Number(result) / 1e6);
      socket.destroy();
    });
  });
}

const handlers = {
  /** Sends the starts, some at a time. noded runs them all once `/status` says so. */
  start: async ({port, gates}: {readonly port: number; readonly gates: readonly number[]}): Promise<number> => {
    for (let at = 0; at < gates.length; at += 16) await Promise.all(gates.slice(at, at + 16).map((gate) => call(port, gate)));
    return sockets.length;
  },
  /** From the last instruction of the function, as it wrote it, to the arrival of the answer; those since the last look. */
  takeLateMs: (_request: object): number[] => {
    if (failure !== null) throw failure;
    return lateMs.splice(0);
  },
  leave: (_request: object): void => {
    for (const socket of sockets.splice(0)) socket.destroy();
  },
};

export type MasterHandlers = typeof handlers;

serve(handlers);
