/**
 * The standard streams of an urgent call whose files could not be made: pipes, and the beginning of the
 * output in memory. A node whose disk is full must still power-cycle, and say so.
 */
import type {ChildProcess} from 'node:child_process';
import {settledWithin} from '../base/alarm';
import {limits} from '../base/limits';
import type {Output} from './recent-outputs';

export class UnspooledStreams {
  private readonly stdout: Buffer[] = [];
  private readonly stderr: Buffer[] = [];
  private readonly closed: Promise<void>;

  constructor(child: ChildProcess, args: Uint8Array) {
    this.closed = new Promise((resolve) => child.once('close', () => resolve()));
    this.keep(child.stdout, this.stdout);
    this.keep(child.stderr, this.stderr);
    // A function need not read its arguments: EPIPE is its business. On EMFILE there is no stream at all.
    child.stdin?.on('error', () => {});
    child.stdin?.end(args);
  }

  /** What was written until the function process ended. */
  async collect(): Promise<Output> {
    await settledWithin(limits.pipeDrainMs, this.closed);
    return {stdout: Buffer.concat(this.stdout), stderr: Buffer.concat(this.stderr)};
  }

  private keep(stream: NodeJS.ReadableStream | null, chunks: Buffer[]): void {
    let left: number = limits.maxUnspooledBytes + 1;
    stream?.on('data', (chunk: Buffer) => {
      const kept = chunk.subarray(0, left);
      left -= kept.length;
      if (kept.length > 0) chunks.push(kept);
    });
    stream?.on('error', () => {});
  }
}
