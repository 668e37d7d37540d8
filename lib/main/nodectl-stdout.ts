/** What nodectl prints, and whether it arrives. Node's own stream of a file neither finishes a write that was cut short nor says so. */
import {closeSync, fstatSync, writeSync} from 'node:fs';
import {errnoOf} from '../base/errors';
import {Interrupted} from './nodectl-exit';

/** Whether a write waits until it is done, or has failed: a file or a device such as /dev/full. Pipes and sockets are Node's to wait for. */
function isFile({fd, isTTY}: typeof process.stdout): boolean {
  if (isTTY === true) return false;
  const stat = fstatSync(fd);
  return !stat.isFIFO() && !stat.isSocket();
}

export class Stdout {
  /** The first error; nothing is written after it. */
  #failure: Error | null = null;
  readonly #failed = new AbortController();
  readonly #isFile: boolean;
  #lastWrite = Promise.resolve();
  #closed = false;

  constructor(private readonly stream: typeof process.stdout) {
    this.#isFile = isFile(stream);
    stream.on('error', () => undefined); // each write is told by itself
  }

  get isTerminal(): boolean {
    return this.stream.isTTY === true;
  }

  /** Characters of a line. */
  get columns(): number {
    return this.stream.columns || 80;
  }

  get failure(): Error | null {
    return this.#failure;
  }

  /** Whoever read has had enough, head(1) say. */
  get readerLeft(): boolean {
    return this.#failure !== null && ['EPIPE', 'ECONNRESET'].includes(errnoOf(this.#failure));
  }

  /** Aborted by the first error, with an Interrupted as its reason. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /** `written` is called once all of it has arrived, and never if it does not. */
  write(text: string, written: () => void = () => undefined): void {
    if (this.#failure !== null) return;
    if (this.#isFile) {
      this.#attempt(() => writeWhole(this.stream.fd, Buffer.from(text)));
      if (this.#failure === null) written();
      return;
    }
    this.#lastWrite = new Promise((resolve) => {
      this.stream.write(text, (error) => {
        if (error) this.#fail(error);
        else written();
        resolve();
      });
    });
  }

  /** After the last write. False if what had been written has not arrived after all: a network's filesystem may say so only now. */
  async close(): Promise<boolean> {
    await this.#lastWrite;
    if (!this.#isFile || this.#failure !== null || this.#closed) return true;
    this.#closed = true;
    this.#attempt(() => closeSync(this.stream.fd));
    return this.#failure === null;
  }

  #attempt(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#failed.abort(new Interrupted(true));
  }
}

/** A disk that becomes full takes a part; the write after that says why. */
function writeWhole(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}
