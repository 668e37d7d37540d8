/** Loaded into a daemon before it starts: collects garbage on demand and tells what is left. */
import {residentKiB, serve} from './serve';

export interface MemoryUse {
  readonly residentKiB: number;
  readonly heapKiB: number;
  /** Memory of C++ objects that V8 knows of, ArrayBuffers included. */
  readonly externalKiB: number;
}

const handlers = {
  /** What is left after two collections: the first one frees what finalizers of the second one need. */
  use: async (_request: object): Promise<MemoryUse> => {
    for (let round = 0; round < 2; round++) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const {heapUsed, external} = process.memoryUsage();
    return {residentKiB: residentKiB('self'), heapKiB: heapUsed / 1024, externalKiB: external / 1024};
  },
};

export type MemoryHandlers = typeof handlers;

serve(handlers, () => process.kill(process.pid, 'SIGTERM'));
