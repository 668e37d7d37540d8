/** Masters by the thousand: connections that are idle, or wait for one call. */
import {readFileSync} from 'node:fs';
import {connect} from 'node:net';
import type {Socket} from 'node:net';
import * as tls from 'node:tls';
import {readAnswers, requestText} from './raw-http';
import {serve} from './serve';

/** noded takes 256 handshakes at a time. */
const connectingAtOnce = 64;

interface Member {
  readonly socket: Socket;
  /** Whoever waits for this connection's next answer. */
  onAnswer: ((body: string) => void) | null;
  onFailure: ((error: Error) => void) | null;
}

const members: Member[] = [];

export interface CrowdRequest {
  readonly port: number;
  readonly connections: number;
  /** File names; null for plain TCP. */
  readonly tls: {readonly ca: string; readonly cert: string; readonly key: string} | null;
}

function secureContext({ca, cert, key}: NonNullable<CrowdRequest['tls']>): tls.SecureContext {
  return tls.createSecureContext({ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key)});
}

function join(port: number, context: tls.SecureContext | null): Promise<Member> {
  return new Promise((resolve, reject) => {
    const options = {port, host: '127.0.0.1'};
    const ready = (): void => resolve(member);
    const socket = context === null ? connect(options, ready) : tls.connect({...options, secureContext: context}, ready);
    const member: Member = {socket, onAnswer: null, onFailure: reject};
    socket.on('error', (error) => member.onFailure?.(error));
    socket.on('close', () => member.onFailure?.(new Error('noded has closed a connection')));
    readAnswers(socket, ({status, body}) => {
      if (status === 200) member.onAnswer?.(body);
      else member.onFailure?.(new Error(`answered with ${status}: ${body}`));
    });
  });
}

function send(member: Member, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    if (member.socket.destroyed) return reject(new Error('noded has closed an idle connection'));
    member.onAnswer = resolve;
    member.onFailure = reject;
    member.socket.write(request);
  });
}

let waits: Promise<string[]> = Promise.resolve([]);

const handlers = {
  /** Opens the connections; each asks /status once, so that all it costs has been paid. */
  gather: async ({port, connections, tls: files}: CrowdRequest): Promise<number> => {
    const context = files === null ? null : secureContext(files);
    const status = requestText('GET', '/status', null);
    let wanted = connections;
    const lane = async (): Promise<void> => {
      while (wanted-- > 0) {
        const member = await join(port, context);
        members.push(member);
        await send(member, status);
      }
    };
    await Promise.all(Array.from({length: connectingAtOnce}, lane));
    return members.length;
  },
  /** Every connection sends the same request; its answer is awaited by `answers`. */
  sendAll: ({request}: {readonly request: string}): number => {
    waits = Promise.all(members.map((member) => send(member, request)));
    waits.catch(() => {}); // told to whoever asks for the answers
    return members.length;
  },
  /** How many of the answers have `expect` in their body; waits for all of them. */
  answers: async ({expect}: {readonly expect: string}): Promise<number> => (await waits).filter((body) => body.includes(expect)).length,
  leave: (_request: object): void => {
    for (const member of members.splice(0)) {
      member.onFailure = null;
      member.socket.destroy();
    }
  },
};

export type CrowdHandlers = typeof handlers;

serve(handlers);
