/** What is seen of nodectl while it waits: on a terminal a line per node, redrawn in place; else only what is wrong. */
import type {WriteStream} from 'node:tty';
import {monotonicMs} from '../base/duration';
import type {HealthReport} from '../rpc/client-health';
import type {Answer} from '../rpc/protocol-answer';
import {cut, oneLine, seconds} from './nodectl-output';

export interface Watcher {
  /** Whether it wants to be told of stderr as it is written. */
  readonly followsStderr: boolean;
  progress(node: string, answer: Answer): void;
  health(node: string, report: HealthReport): void;
  /** This node needs no line any more. */
  ended(node: string): void;
  /** Clears its lines, so that something else can be printed there; they are drawn again below it. */
  clear(): void;
  /** Leaves the terminal as it was. */
  stop(): void;
}

const meanings: Readonly<Record<HealthReport['health'], string>> = {
  late: 'lives, but its answer is late',
  silent: 'takes connections and does not answer',
  down: 'cannot be reached',
  restarted: 'was restarted',
};

/**
 * Says once what is wrong with a node, and not again until something else is. The first report says nothing yet:
 * either it was a hiccup, or it ends the command, whose error says it all.
 */
export function plainWatcher(stream: NodeJS.WritableStream): Watcher {
  const reports = new Map<string, {readonly health: HealthReport['health']; readonly times: number}>();
  return {
    followsStderr: false,
    progress: (node) => void reports.delete(node),
    health: (node, {health}) => {
      const before = reports.get(node);
      const times = before?.health === health ? before.times + 1 : 1;
      reports.set(node, {health, times});
      if (times === 2 || health === 'restarted') stream.write(`nodectl: ${node} ${meanings[health]}\n`);
    },
    ended: () => undefined,
    clear: () => undefined,
    stop: () => undefined,
  };
}

interface Shown {
  readonly sinceMs: number;
  state: string;
  lastLine: string;
}

/** The elapsed time moves even while no answer comes: it is nodectl that is seen to live, and `state` the node. */
const redrawMs = 200;

export class TerminalWatcher implements Watcher {
  readonly followsStderr = true;
  readonly #stream: WriteStream;
  readonly #shown = new Map<string, Shown>();
  readonly #timer: NodeJS.Timeout;
  #drawn = 0;

  constructor(stream: WriteStream, nodes: readonly string[]) {
    this.#stream = stream;
    for (const node of nodes) this.#shown.set(node, {sinceMs: monotonicMs(), state: 'asked', lastLine: ''});
    this.#timer = setInterval(() => this.#draw(), redrawMs);
  }

  progress(node: string, {call}: Answer): void {
    const shown = this.#shown.get(node);
    if (shown === undefined) return;
    shown.state = call.state;
    shown.lastLine = call.stderr?.text.trimEnd().split('\n').at(-1) || shown.lastLine;
  }

  health(node: string, {health}: HealthReport): void {
    const shown = this.#shown.get(node);
    if (shown !== undefined) shown.state = meanings[health];
  }

  ended(node: string): void {
    this.#shown.delete(node);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.clear();
  }

  clear(): void {
    if (this.#drawn > 0) this.#stream.write(`\x1b[${this.#drawn}A\r\x1b[J`);
    this.#drawn = 0;
  }

  #draw(): void {
    // Both are 0 on a terminal that was never told its size.
    const [columns, rows] = [this.#stream.columns || 80, this.#stream.rows || 24];
    const nodes = [...this.#shown];
    // A screenful: lines that have scrolled away cannot be redrawn.
    const room = Math.max(1, rows - 2);
    const lines = nodes.slice(0, room).map(([node, {sinceMs, state, lastLine}]) => {
      return cut(`${node}  ${seconds((monotonicMs() - sinceMs) / 1000)}  ${state}  ${oneLine(lastLine)}`, columns - 1);
    });
    if (nodes.length > room) lines.push(`and ${nodes.length - room} more`);
    this.clear();
    this.#stream.write(lines.map((line) => `${line}\n`).join(''));
    this.#drawn = lines.length;
  }
}
