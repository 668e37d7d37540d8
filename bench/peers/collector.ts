/** A master that starts very many calls and then waits for all of them on a few connections, with WaitForFunctions. */
import {connect} from 'node:net';
import type {Socket} from 'node:net';
import {readAnswers, requestText} from './raw-http';
import {serve} from './serve';

interface Connection {
  readonly socket: Socket;
  /** The calls that this connection waits for. */
  callIds: string[];
  onAnswer: (body: string) => void;
  onFailure: (error: Error) => void;
}

const connections: Connection[] = [];

function open(port: number): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const socket = connect({port, host: '127.0.0.1'}, () => resolve(connection));
    const connection: Connection = {socket, callIds: [], onAnswer: () => {}, onFailure: reject};
    socket.on('error', (error) => connection.onFailure(error));
    socket.on('close', () => connection.onFailure(new Error('noded has closed a connection')));
    readAnswers(socket, ({status, body}) => (status === 200 ? connection.onAnswer(body) : connection.onFailure(new Error(`answered with ${status}: ${body.slice(0, 500)}`))));
  });
}

function ask(connection: Connection, path: string, body: object): Promise<string> {
  return new Promise((resolve, reject) => {
    connection.onAnswer = resolve;
    connection.onFailure = reject;
    connection.socket.write(requestText('PUT', path, body));
  });
}

interface Gathered {
  readonly finished: readonly {readonly call: {readonly id: string; readonly outcome: string}}[];
  readonly unfinished: readonly string[];
  readonly unknown: readonly unknown[];
}

/** Waits again and again for what has not ended, until everything has. */
async function collectAll(connection: Connection): Promise<number> {
  let collected = 0;
  while (connection.callIds.length > 0) {
    const {finished, unfinished, unknown} = JSON.parse(await ask(connection, '/WaitForFunctions', {fnc_ids: connection.callIds, timeout: 60})) as Gathered;
    if (finished.length === 0 || unknown.length > 0) throw new Error(`${finished.length} ended and ${unknown.length} unknown calls`);
    collected += finished.filter(({call}) => call.outcome === 'ok').length;
    connection.callIds = [...unfinished];
  }
  return collected;
}

let collecting: Promise<number[]> = Promise.resolve([]);

const handlers = {
  /** Starts calls of one function, the same number by each connection; resolves once all of them run. */
  start: async ({port, count, wanted, fnName, fnArgs}: {readonly port: number; readonly count: number; readonly wanted: number; readonly fnName: string; readonly fnArgs: string}): Promise<number> => {
    for (let at = 0; at < wanted; at++) connections.push(await open(port));
    const startOn = async (connection: Connection): Promise<void> => {
      for (let at = 0; at < count / wanted; at++) {
        const {fnc_id: callId} = JSON.parse(await ask(connection, '/StartFunction', {fn_name: fnName, fn_args: fnArgs, timeout: 0})) as {fnc_id: string};
        connection.callIds.push(callId);
      }
    };
    await Promise.all(connections.map(startOn));
    return connections.reduce((sum, {callIds}) => sum + callIds.length, 0);
  },
  /** Sends the waits; what they bring is told by `collected`. */
  wait: (_request: object): void => {
    collecting = Promise.all(connections.map(collectAll));
    collecting.catch(() => {}); // told to whoever asks for it
  },
  /** How many calls have ended well; resolves once all have ended and every answer is there. */
  collected: async (_request: object): Promise<number> => (await collecting).reduce((sum, count) => sum + count, 0),
};

export type CollectorHandlers = typeof handlers;

serve(handlers);
