/** The files of calls, in memory: their lines, what was buried, and the order in which it was asked for. */
import type {OutputSizes} from '../../lib/base/outcome';
import type {CallFiles} from '../../lib/call/journal';

export class FakeFiles implements CallFiles {
  readonly journals = new Map<string, readonly string[]>();
  readonly buried: {readonly key: string; readonly line: string}[] = [];
  /** Arguments on file; null of a call whose arguments went along with its start. */
  readonly args = new Map<string, Uint8Array | null>();
  /** What was known of the output of those that were removed. */
  readonly removed = new Map<string, OutputSizes | null>();
  /** `create KEY`, `append KEY`, `remove KEY`, `bury`. */
  readonly steps: string[] = [];
  /** Thrown by `create`, as if there were no room; urgent calls meet it too. */
  failure: Error | null = null;

  create(key: string, line: string | null, args: Uint8Array | null, _urgent: boolean): void {
    if (this.failure !== null) throw this.failure;
    this.steps.push(`create ${key}`);
    if (line !== null) this.journals.set(key, [line]);
    this.args.set(key, args);
  }

  onDisk(): Promise<void> {
    return Promise.resolve();
  }

  putOnFile(key: string, line: string): void {
    this.steps.push(`put on file ${key}`);
    this.journals.set(key, [...(this.journals.get(key) ?? []), line]);
  }

  append(key: string, line: string): void {
    if (line.startsWith('{"event":"buried"')) {
      this.steps.push('bury');
      this.buried.push({key, line});
      return;
    }
    this.steps.push(`append ${key}`);
    this.journals.set(key, [...(this.journals.get(key) ?? []), line]);
  }

  flushLines(): void {}

  remove(key: string, sizes: OutputSizes | null): void {
    this.steps.push(`remove ${key}`);
    this.removed.set(key, sizes);
    this.journals.delete(key);
  }

  /** The events on file for a call, in order. */
  eventsOf(key: string): string[] {
    return (this.journals.get(key) ?? []).map((line) => (JSON.parse(line) as {event: string}).event);
  }
}
