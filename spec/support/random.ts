/** Random numbers that can be had again: every spec that uses them prints its seed. */

/** The seed of this run: `NODED_SPEC_SEED`, or a new one. */
export function chooseSeed(): number {
  return Number(process.env.NODED_SPEC_SEED ?? Math.floor(Math.random() * 2 ** 31));
}

/** mulberry32: numbers from 0 to 1, the same for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
