/** One command at many nodes: some at once, each with its own end. What fails at a node is a value. */
import {Interrupted} from './nodectl-exit';
import type {OpenNode} from './nodectl-options';
import type {NodeReport} from './nodectl-output';

/** Connections open at once; past that the nodes take turns. */
const maxAtOnce = 30;

export interface AtNodes<T> {
  readonly action: (node: OpenNode) => Promise<T>;
  /** Told as each node is done, in that order. */
  readonly onReport: (report: NodeReport<T>) => void;
  /** Nodes that have not had their turn are not asked any more. */
  readonly signal: AbortSignal;
  /** What is known of a node when the signal comes; it counts as the node's value. */
  readonly lastKnown?: (node: string) => T | undefined;
}

/** Reports in the order of `nodes`. Closes their connections, and never throws. */
export async function atNodes<T>(nodes: readonly OpenNode[], at: AtNodes<T>): Promise<readonly NodeReport<T>[]> {
  const reports: NodeReport<T>[] = [];
  const queue = nodes.entries();
  const takeTurns = async (): Promise<void> => {
    for (const [position, node] of queue) {
      const report = await ask(node, at);
      reports[position] = report;
      at.onReport(report);
    }
  };
  await Promise.all(Array.from({length: Math.min(maxAtOnce, nodes.length)}, takeTurns));
  return reports;
}

async function ask<T>(node: OpenNode, {action, signal, lastKnown}: AtNodes<T>): Promise<NodeReport<T>> {
  const over = new AbortController();
  try {
    if (signal.aborted) throw new Interrupted(false);
    return {node: node.name, value: await Promise.race([action(node), whenAborted(signal, over.signal)]), error: null};
  } catch (error) {
    const value = error instanceof Interrupted ? lastKnown?.(node.name) : undefined;
    if (value !== undefined) return {node: node.name, value, error: null};
    return {node: node.name, value: null, error};
  } finally {
    over.abort();
    node.client.close();
  }
}

/** Rejects with the signal's reason; `over` takes its listener away. */
function whenAborted(signal: AbortSignal, over: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason), {signal: over}));
}
