/** A node that answers as a spec tells it to: the faults of networks and daemons, one after the other. */
import * as http from 'node:http';
import type {AddressInfo, Socket} from 'node:net';
import {once} from 'node:events';

export interface Asked {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly text: string;
  /** Which connection it came over: the first, the second, … */
  readonly connection: number;
}

export type Step = (response: http.ServerResponse, asked: Asked) => void;

/** The members of an answer's `call` that specs look at, in the words of the wire. */
export function answerText(facts: {finished: boolean; result?: string; id?: string; outcome?: string; stderr?: {from: number; next: number; text: string}}): string {
  const {finished, result = 'null', id = '10:20:1764670000.123:00000000deadbeef', stderr = {from: 0, next: 0, text: ''}} = facts;
  const outcome = finished ? (facts.outcome ?? 'ok') : null;
  const call = {id, fn_name: 'echo', request_id: null, role: 'local', state: finished ? 'ended' : 'running', outcome, elapsed: 1, duplicate: false, stderr: {dropped: 0, ...stderr}};
  return `{"fnc_id":${finished ? 'null' : JSON.stringify(id)},"finished":${finished},"result":${result},"call":${JSON.stringify(call)},"waited":0,"error":null}`;
}

export const answers =
  (text: string): Step =>
  (response) =>
    void response.writeHead(200, {'content-type': 'application/json'}).end(text);

export const refuses =
  (status: number, problem: object): Step =>
  (response) =>
    void response.writeHead(status, {'content-type': 'application/problem+json'}).end(JSON.stringify({status, ...problem}));

/** The request arrives, its answer does not. */
export const resets: Step = (response) => void response.socket?.destroy();

export const saysNothing: Step = () => undefined;

/** An answer that begins and breaks off. */
export const cutsOff: Step = (response) =>
  void response.writeHead(200, {'content-type': 'application/json', 'content-length': 1000}).write('{"fnc_id":', () => response.socket?.destroy());

/** One that goes on for ever, a byte at a time. */
export const trickles: Step = (response) => {
  response.writeHead(200, {'content-type': 'application/json'});
  const timer = setInterval(() => void response.write(' '), 10);
  response.on('close', () => clearInterval(timer));
};

export class ScriptedNode {
  /** `Noded-Instance`. */
  instance = 'boot:1:1';
  readonly asked: Asked[] = [];
  port = 0;
  readonly #steps = new Map<string, Step[]>();
  readonly #connections = new Map<Socket, number>();
  readonly #server: http.Server;

  constructor() {
    this.#server = http.createServer((request, response) => void this.#answer(request, response));
    this.#server.on('connection', (socket) => this.#connections.set(socket, this.#connections.size + 1));
    this.on('/status', answers('{}'));
  }

  /** The steps for a path, one per request; the last one is for all that follow. */
  on(path: string, ...steps: Step[]): void {
    this.#steps.set(path, steps);
  }

  /** What was asked of one path. */
  of(path: string): readonly Asked[] {
    return this.asked.filter((one) => one.path === path);
  }

  async listen(port = 0): Promise<void> {
    this.#server.listen(port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = (this.#server.address() as AddressInfo).port;
  }

  /** As when the daemon dies: no listener, and every connection closed. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const [path = ''] = (request.url ?? '').split('?');
    const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
    const asked = {path, body, text, connection: this.#connections.get(request.socket) ?? 0};
    this.asked.push(asked);
    response.setHeader('noded-instance', this.instance);
    const steps = this.#steps.get(path) ?? [];
    const step = steps.length > 1 ? steps.shift() : steps[0];
    if (step === undefined) refuses(404, {code: 'unknown_operation', started: 'no'})(response, asked);
    else step(response, asked);
  }
}
