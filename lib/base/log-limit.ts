/** Lines of the log that a stranger can cause: few of them in a time, and a count of the others. */
import {monotonicMs} from './duration';
import {limits} from './limits';

export class LogLimit {
  private begin = -Infinity;
  private readonly said = new Set<string>();
  private unsaid = 0;

  /**
   * Each subject may have one line in a time. Null if this one is to be left out; else the line's fields that say how many
   * were left out before it.
   */
  take(subject: string): {readonly unsaid?: number} | null {
    const now = monotonicMs();
    if (now - this.begin >= limits.strangerLogMs) {
      this.begin = now;
      this.said.clear();
    }
    if (this.said.has(subject) || this.said.size >= limits.strangerLogLines) {
      this.unsaid += 1;
      return null;
    }
    this.said.add(subject);
    const {unsaid} = this;
    this.unsaid = 0;
    return unsaid === 0 ? {} : {unsaid};
  }
}
