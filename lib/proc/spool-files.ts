/**
 * In `<run_dir>/calls/`: what calls are given and what they write, as far as that is too much for a line of the log.
 */
import {closeSync, constants, fstatSync, openSync, readSync, readdirSync, statSync} from 'node:fs';
import {errnoOf, messageOf} from '../base/errors';
import type {OutputSizes} from '../base/outcome';
import {isKey} from '../call/call-id';
import {closeFile, openFile, unlinkFile, withFile, writeOnce} from './disk-work';
import type {DiskWork, Work} from './disk-work';
import {makePrivateDirectory} from './run-dir';
import {syncDirectory, syncFile} from './sync-files';

const {O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY} = constants;
// O_APPEND: a function that reopens /dev/stdout must not overwrite what it wrote.
const asNew = O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW;
const forReading = O_RDONLY | O_NOFOLLOW;

export const fileKinds = ['args', 'out', 'err'] as const;
export type FileKind = (typeof fileKinds)[number];

/** Of which outputs there is a file. */
export const hasBytes = (kind: FileKind, {stdoutBytes, stderrBytes}: OutputSizes): boolean => (kind === 'out' && stdoutBytes > 0) || (kind === 'err' && stderrBytes > 0);

/** Standard streams of a function process. The caller closes them once the process has them. */
export interface CallStreams {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

export interface CallFileOptions {
  readonly disk: DiskWork;
  readonly log: {warn(fields: object, message: string): void};
}

export class SpoolFiles {
  constructor(
    readonly directory: string,
    private readonly options: CallFileOptions,
  ) {
    makePrivateDirectory(directory);
  }

  /** Makes a file with all of this in it, or none: what comes next may need the room. */
  write(key: string, kind: FileKind, bytes: Uint8Array): Work<void> {
    const path = this.path(key, kind);
    return withFile(path, asNew, function* (fd) {
      try {
        for (let at = 0; at < bytes.byteLength; ) at += yield* writeOnce(fd, bytes.subarray(at));
      } catch (error) {
        yield* unlinkFile(path);
        throw error;
      }
    });
  }

  /** Opens what becomes fd 0, 1 and 2 of the function process. Throws the system's error; nothing stays open then. */
  *openStreams(key: string): Work<CallStreams> {
    const opened: number[] = [];
    try {
      opened.push(yield* openFile(this.path(key, 'args'), forReading));
      for (const kind of ['out', 'err'] as const) opened.push(yield* openFile(this.path(key, kind), asNew));
      return {stdin: opened[0]!, stdout: opened[1]!, stderr: opened[2]!};
    } catch (error) {
      for (const fd of opened) yield* closeFile(fd);
      throw error;
    }
  }

  /** Opens one that is there, to read it. */
  open(key: string, kind: FileKind): number {
    return openSync(this.path(key, kind), forReading);
  }

  /** Up to `length` bytes from `from` on; none of a file that is not there. */
  read(key: string, kind: FileKind, from: number, length: number): Buffer {
    let fd: number;
    try {
      fd = this.open(key, kind);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return Buffer.alloc(0); // fewer bytes than there were, for whoever counts
      throw error;
    }
    try {
      const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, fstatSync(fd).size - from)));
      return bytes.length === 0 ? bytes : bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, from));
    } finally {
      closeSync(fd);
    }
  }

  /** Its size at this moment; null if it is not there. */
  size(key: string, kind: FileKind): number | null {
    return statSync(this.path(key, kind), {throwIfNoEntry: false})?.size ?? null;
  }

  /** Removes files of a call; those that are not there do not matter. */
  remove(key: string, kinds: readonly FileKind[] = fileKinds): void {
    for (const kind of kinds) {
      this.options.disk.do(() => unlinkFile(this.path(key, kind)), (error) => {
        if (error !== null && errnoOf(error) !== 'ENOENT') this.options.log.warn({key, errno: errnoOf(error)}, `cannot remove a file of a call: ${messageOf(error)}`);
      });
    }
  }

  /** Removes the files of calls that are not on file. */
  sweep(isKnown: (key: string) => boolean): void {
    for (const name of readdirSync(this.directory)) {
      const [key = '', kind] = name.split('.');
      if (isKey(key) && !isKnown(key) && fileKinds.some((known) => known === kind)) this.remove(key, [kind as FileKind]);
    }
  }

  /** Resolves once so much output of a call that has ended is on disk, with its names. */
  async outputOnDisk(key: string, sizes: OutputSizes): Promise<void> {
    const kept = fileKinds.filter((kind) => hasBytes(kind, sizes));
    await Promise.all(kept.map((kind) => syncFile(this.path(key, kind))));
    if (kept.length > 0) await syncDirectory(this.directory);
  }

  private path(key: string, kind: FileKind): string {
    return `${this.directory}/${key}.${kind}`;
  }
}
