/** What a random walk asks of chance; every answer follows from the seed. */
import {chooseSeed, randomFrom} from './random';

/** NODED_SEED, or a new seed for each run; say it in the message of whatever fails. */
export function seedOfRun(): number {
  const given = process.env.NODED_SEED;
  return given === undefined ? chooseSeed() : Number(given);
}

export class Chance {
  private readonly draw: () => number;

  constructor(seed: number) {
    this.draw = randomFrom(seed);
  }

  /** A whole number, 0 to `below` - 1. */
  below(below: number): number {
    return Math.floor(this.draw() * below);
  }

  percent(percent: number): boolean {
    return this.below(100) < percent;
  }

  /** Undefined of nothing. */
  pick<T>(from: readonly T[]): T | undefined {
    return from[this.below(from.length)];
  }

  /** One of the names, each as often as its weight says. */
  weighted<T extends string>(weights: Readonly<Record<T, number>>): T {
    const entries = Object.entries<number>(weights) as [T, number][];
    let left = this.below(entries.reduce((sum, [, weight]) => sum + weight, 0));
    return entries.find(([, weight]) => (left -= weight) < 0)![0];
  }
}
