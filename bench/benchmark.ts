/** What the benchmarks have in common: a run, what comes out of one, and requests to a daemon outside of any measurement. */
import {readFileSync} from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type {Certificates} from './certificates';
import type {Figure} from './figures';
import type {Scratch} from './scratch';

export interface Run {
  readonly scratch: Scratch;
  /** Few and small rounds: shows that the benchmarks work, and nothing else. */
  readonly quick: boolean;
  readonly rounds: number;
}

export interface Measured {
  readonly figures: readonly Figure[];
  /** Information that is no ratio; lines of Markdown. */
  readonly notes: readonly string[];
}

export type Benchmark = (run: Run) => Promise<Measured>;

export interface Target {
  readonly port: number;
  readonly certificates?: Certificates | null;
}

const requestMs = 60_000;

/** One request on a connection of its own; resolves with the answer's JSON. Rejects for everything but 200. */
export async function ask<T>(target: Target, method: 'GET' | 'PUT', path: string, body: object | null = null): Promise<T> {
  return JSON.parse(await askText(target, method, path, body)) as T;
}

/** The same, for what is not JSON. */
export function askText({port, certificates = null}: Target, method: 'GET' | 'PUT', path: string, body: object | null = null): Promise<string> {
  const options = {port, host: '127.0.0.1', method, path, agent: false as const, timeout: requestMs};
  return new Promise((resolve, reject) => {
    const onResponse = (response: http.IncomingMessage): void => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`));
      });
    };
    const request = certificates === null ? http.request(options, onResponse) : https.request({...options, ca: readFileSync(certificates.ca), cert: readFileSync(certificates.master.cert), key: readFileSync(certificates.master.key)}, onResponse);
    request.on('timeout', () => request.destroy(new Error(`${method} ${path}: no answer within ${requestMs} ms`)));
    request.on('error', reject);
    request.end(body === null ? undefined : JSON.stringify(body));
  });
}

export interface Status {
  readonly counts: {readonly starting: number; readonly running: number; readonly ended: number; readonly waiters: number};
  /** Seconds that the event loop came late at most, since /metrics was last asked for. */
  readonly loop_lag: {readonly max: number};
}

/** Looks again and again until `done`; rejects after `timeoutMs` with what it waited for. */
export async function until(what: string, done: () => Promise<boolean> | boolean, timeoutMs = 60_000): Promise<void> {
  for (const end = performance.now() + timeoutMs; !(await done()); ) {
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Resolves once so many calls run and so many waits are open. */
export function untilCounts(target: Target, running: number, waiters: number): Promise<void> {
  return until(`${running} running calls and ${waiters} waiters`, async () => {
    const {counts} = await ask<Status>(target, 'GET', '/status');
    return counts.starting === 0 && counts.running === running && counts.waiters === waiters;
  });
}

export const numbers = (from: number, count: number): number[] => Array.from({length: count}, (_, at) => from + at);
