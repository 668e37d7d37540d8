/** A measuring process: plain JavaScript, so that it is as small as what it measures, and asked over an IPC channel. */
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {join} from 'node:path';
import type {Handlers} from './peers/serve';
import type {Scratch} from './scratch';

interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** Asks a process with an IPC channel; `H` are the handlers it serves. */
export class Peer<H extends Handlers> {
  private readonly pending = new Map<number, Pending>();
  private asked = 0;

  constructor(
    readonly child: ChildProcess,
    private readonly name: string,
  ) {
    child.on('message', (reply: Reply) => this.settle(reply));
    child.once('exit', (code, signal) => this.fail(`${name} has ended (${signal ?? code})`));
  }

  /** Runs one measurement there. Rejects with its error, at its end, or after `timeoutMs`. */
  ask<V extends keyof H & string>(verb: V, request: Parameters<H[V]>[0], timeoutMs = 120_000): Promise<Awaited<ReturnType<H[V]>>> {
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(id);
        reject(new Error(`${this.name}: no answer to ${verb} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.pending.set(id, {resolve: (value) => resolve(value as Awaited<ReturnType<H[V]>>), reject, timer});
      this.child.send({id, verb, request}, (error) => {
        if (error !== null) this.settle({id, error: error.message});
      });
    });
  }

  private settle({id, value, error}: Reply): void {
    const pending = this.pending.get(id);
    if (pending === undefined) return;
    this.pending.delete(id);
    clearTimeout(pending.timer);
    if (error === undefined) pending.resolve(value);
    else pending.reject(new Error(`${this.name}: ${error}`));
  }

  private fail(message: string): void {
    for (const id of [...this.pending.keys()]) this.settle({id, error: message});
  }
}

/** Starts `bench/peers/<name>` as it was translated into the scratch directory. */
export function startPeer<H extends Handlers>(scratch: Scratch, name: string): Peer<H> {
  const child = spawn(process.execPath, [join(scratch.directory, 'bench/peers', `${name}.js`)], {stdio: ['ignore', 'inherit', 'inherit', 'ipc']});
  scratch.own(child);
  return new Peer<H>(child, name);
}
