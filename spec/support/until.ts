/** Polling with a bound, for what no event tells of. */
import {setTimeout as pause} from 'node:timers/promises';

const pauseMs = 5;
const defaultBoundMs = 10_000;

/** Asks until the answer is not undefined or false, and gives it; after `boundMs` throws an Error that names `what`. */
export async function until<T>(what: string, ask: () => T | Promise<T>, boundMs = defaultBoundMs): Promise<Exclude<T, undefined | false>> {
  // Counted in rounds too: a machine that stood still for a while still gets its looks.
  const end = performance.now() + boundMs;
  for (let round = 0; round < 3 || performance.now() < end; round += 1) {
    const found = await ask();
    if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>;
    await pause(pauseMs);
  }
  throw new Error(`waited in vain: ${what}`);
}
