/** What is to be synced for all lines of the log to be on disk: the newest segment, and those that a fork server may have appended to since. */
import {close, fdatasync} from 'node:fs';
import {dirname} from 'node:path';
import {promisify} from 'node:util';
import {GroupSync} from './group-sync';
import {syncDirectory} from './sync-files';

/** What the log says when a sync begins. */
export interface Newest {
  readonly fd: number;
  /** The fork server appends to no older one any more. */
  readonly inUseFrom: number;
}

export class SegmentSync {
  private former: {readonly number: number; readonly fd: number}[] = [];
  /** A segment was made since the directory was synced. */
  private hasNewName = true;
  private readonly group: GroupSync;

  /** `newest` is asked when all lines that are waiting are to be written, and answers when they are. */
  constructor(
    private readonly directory: string,
    newest: () => Promise<Newest>,
  ) {
    this.group = new GroupSync(async () => this.sync(await newest()));
  }

  /** Resolves once all lines that were appended until now are on disk. Rejects with the system's error. */
  done(): Promise<void> {
    return this.group.done();
  }

  /** Another segment is the newest from now on. Its descriptor is closed here, once nobody appends to it. */
  retire(number: number, fd: number): void {
    this.former.push({number, fd});
    this.hasNewName = true;
  }

  private async sync({fd, inUseFrom}: Newest): Promise<void> {
    const {former, hasNewName} = this;
    const done = former.filter(({number}) => number < inUseFrom);
    this.hasNewName = false;
    try {
      await Promise.all([...former, {fd}].map((one) => promisify(fdatasync)(one.fd)));
      if (hasNewName) await Promise.all([this.directory, dirname(this.directory)].map(syncDirectory));
    } catch (error) {
      this.hasNewName ||= hasNewName;
      throw error;
    }
    this.former = this.former.filter((one) => !done.includes(one));
    await Promise.all(done.map((one) => promisify(close)(one.fd)));
  }
}
