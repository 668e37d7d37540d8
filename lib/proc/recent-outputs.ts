/**
 * Small outputs of calls that ended just now: most are answered with in the same turn of the loop, and need
 * not be read again.
 */

export interface Output {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

export class RecentOutputs {
  private recent = new Map<string, Partial<Output>>();
  private lessRecent: typeof this.recent = new Map();

  keep(key: string, output: Partial<Output>): void {
    if (this.recent.size + this.lessRecent.size === 0) setImmediate(() => this.age());
    this.recent.set(key, output);
  }

  get(key: string): Partial<Output> | undefined {
    return this.recent.get(key) ?? this.lessRecent.get(key);
  }

  delete(key: string): void {
    this.recent.delete(key);
    this.lessRecent.delete(key);
  }

  /** What came in the last turn of the loop stays for one more, until those who wait have been settled. */
  private age(): void {
    this.lessRecent = this.recent;
    this.recent = new Map();
    if (this.lessRecent.size > 0) setImmediate(() => this.age());
  }
}
