/** One sync for all that came meanwhile: what syncs cost is paid for by many calls at once. */
interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class GroupSync {
  private waiting: Waiting[] = [];
  private runs = false;

  /** `sync` is never called while it is at work, and not on the caller's own time. */
  constructor(private readonly sync: () => Promise<void>) {}

  /** Resolves once all that was written before is on disk. Rejects with the system's error if nobody knows. */
  done(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({resolve, reject});
      if (this.runs) return;
      this.runs = true;
      // All that is written in this turn of the loop goes with it.
      setImmediate(() => void this.run());
    });
  }

  private async run(): Promise<void> {
    while (this.waiting.length > 0) {
      // Who comes from now on may have written what this sync does not see.
      const those = this.waiting;
      this.waiting = [];
      try {
        await this.sync();
        for (const {resolve} of those) resolve();
      } catch (error) {
        for (const {reject} of those) reject(error as Error);
      }
    }
    this.runs = false;
  }
}
