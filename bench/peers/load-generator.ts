/** The load: so many keep-alive connections, each with one request under way, for a time. */
import {readFileSync} from 'node:fs';
import {connect} from 'node:net';
import type {Socket} from 'node:net';
import * as tls from 'node:tls';
import {readAnswers} from './raw-http';
import {serve} from './serve';

export interface LoadRequest {
  readonly port: number;
  readonly connections: number;
  readonly durationMs: number;
  /** The bytes that are sent, again and again. */
  readonly request: string;
  /** File names; null for plain TCP. */
  readonly tls: {readonly ca: string; readonly cert: string; readonly key: string} | null;
  /** Every answer is 200 and has this in its body, or the round has failed. */
  readonly expect: string;
}

export interface LoadResult {
  readonly callsPerSecond: number;
  /** From the request to its answer, in the middle. */
  readonly medianMs: number;
  /** How much of one core the generator itself took: far from 1, or it was what was measured. */
  readonly cpuShare: number;
}

function open({port, tls: files}: Pick<LoadRequest, 'port' | 'tls'>): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const ready = (): void => {
      socket.off('error', reject);
      resolve(socket);
    };
    const options = {port, host: '127.0.0.1'};
    const socket = files === null ? connect(options, ready) : tls.connect({...options, ca: readFileSync(files.ca), cert: readFileSync(files.cert), key: readFileSync(files.key)}, ready);
    socket.once('error', reject);
  });
}

/** Sends on one connection as long as it may; resolves with the time that each answer took. */
function loop(socket: Socket, {request, expect}: Pick<LoadRequest, 'request' | 'expect'>, {until, mayGoOn}: {readonly until: number; readonly mayGoOn: () => boolean}): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const tookMs: number[] = [];
    let sentAt = 0;
    const send = (): void => {
      sentAt = performance.now();
      socket.write(request);
    };
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the connection was closed under a request')));
    readAnswers(socket, ({status, body}) => {
      const now = performance.now();
      if (status !== 200 || !body.includes(expect)) reject(new Error(`answered with ${status}: ${body.slice(0, 500)}`));
      else if (now >= until) resolve(tookMs); // an answer after the end does not count
      else {
        tookMs.push(now - sentAt);
        if (mayGoOn()) send();
        else resolve(tookMs);
      }
    });
    send();
  });
}

/** So many requests in all, in place of a time. */
export interface RepeatRequest extends Omit<LoadRequest, 'durationMs'> {
  readonly count: number;
}

const handlers = {
  /** Resolves with the time that the answer in the middle took. */
  repeat: async ({count, ...request}: RepeatRequest): Promise<number> => {
    let left = count - request.connections;
    const sockets = await Promise.all(Array.from({length: request.connections}, () => open(request)));
    try {
      const tookMs = (await Promise.all(sockets.map((socket) => loop(socket, request, {until: Infinity, mayGoOn: () => left-- > 0})))).flat().sort((a, b) => a - b);
      return tookMs[tookMs.length >> 1] ?? Number.NaN;
    } finally {
      for (const socket of sockets) socket.destroy();
    }
  },
  load: async (request: LoadRequest): Promise<LoadResult> => {
    const sockets = await Promise.all(Array.from({length: request.connections}, () => open(request)));
    const cpuBefore = process.cpuUsage();
    const until = performance.now() + request.durationMs;
    try {
      const tookMs = (await Promise.all(sockets.map((socket) => loop(socket, request, {until, mayGoOn: () => true})))).flat().sort((a, b) => a - b);
      const {user, system} = process.cpuUsage(cpuBefore);
      return {
        callsPerSecond: tookMs.length / (request.durationMs / 1000),
        medianMs: tookMs[tookMs.length >> 1] ?? Number.NaN,
        cpuShare: (user + system) / 1000 / request.durationMs,
      };
    } finally {
      for (const socket of sockets) socket.destroy();
    }
  },
};

export type LoadHandlers = typeof handlers;

serve(handlers);
