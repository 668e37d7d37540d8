/** The run directory: made, checked and locked before anything else in it is touched (DESIGN.md section 5). */
import {spawnSync} from 'node:child_process';
import {closeSync, constants, existsSync, fstatSync, ftruncateSync, lstatSync, mkdirSync, openSync, readFileSync, realpathSync, statfsSync, writeSync} from 'node:fs';
import {stat} from 'node:fs/promises';
import {basename, dirname, join} from 'node:path';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import {unsafePath} from './safe-path';

/** Why the run directory cannot be had: `locked` by another noded, or `unusable`. */
export class RunDirError extends Error {
  override readonly name = 'RunDirError';
  constructor(
    readonly kind: 'locked' | 'unusable',
    message: string,
  ) {
    super(message);
  }
}

function withoutLinks(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return path; // what is wrong with it is said when it is made
  }
}

/**
 * The path that the run directory is used by: without links, for systemd-tmpfiles(8) looks for a socket in
 * /proc/net/unix by the path that it has come to it; with them if it fits only so. Null if a socket in it would have
 * too long a path.
 */
export function runDirPath(given: string): string | null {
  return [withoutLinks(given), given].find((path) => Buffer.byteLength(path) <= limits.maxRunDirBytes) ?? null;
}

function checkDirectory(path: string): void {
  const stats = lstatSync(path);
  if (!stats.isDirectory()) throw new RunDirError('unusable', `${path} is not a directory`);
  if (stats.uid !== process.getuid?.()) throw new RunDirError('unusable', `${path} belongs to uid ${stats.uid}, not to noded's user`);
  if ((stats.mode & 0o077) !== 0) throw new RunDirError('unusable', `${path} has mode ${(stats.mode & 0o7777).toString(8)}; it must be 700`);
  const unsafe = unsafePath(path);
  if (unsafe !== null) throw new RunDirError('unusable', unsafe);
}

/** Types of filesystems as statfs(2) has them that live in memory: tmpfs and ramfs. */
const memoryTypes: readonly number[] = [0x01021994, 0x858458f6];

/** Whether a directory is gone with the power. */
export const isInMemory = (path: string): boolean => memoryTypes.includes(statfsSync(path).type);

/** Makes a directory that only noded's user may look into, or checks that it is one. */
export function makePrivateDirectory(path: string): void {
  try {
    // Not recursive: below /proc that spins for ever on Node 20, and a directory above may be missing by mistake.
    if (!existsSync(path)) mkdirSync(path, {mode: 0o700});
    checkDirectory(path);
  } catch (error) {
    throw error instanceof RunDirError ? error : new RunDirError('unusable', messageOf(error));
  }
}

/**
 * Locks a file for as long as the descriptor is open; the kernel lets go of it when noded dies, however it dies.
 * Node has no flock(2), so flock(1) locks an inherited descriptor: the lock belongs to the open file, which noded
 * keeps. False if another process has the lock.
 */
export function lockDescriptor(fd: number, path: string): boolean {
  const {status, error} = spawnSync('flock', ['-xn', '3'], {stdio: ['ignore', 'ignore', 'ignore', fd]});
  if (status === 0 || status === 1) return status === 0;
  throw new RunDirError('unusable', `flock(1) of util-linux could not lock ${path}: ${error === undefined ? `exit ${status}` : errnoOf(error)}`);
}

/** The file that tells of a lock, locked too: an earlier version looks at nothing else. */
interface LockFile {
  readonly fd: number;
  readonly ino: number;
}

/** Null if another process has it. */
function lockFile(path: string): LockFile | null {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    throw new RunDirError('unusable', messageOf(error));
  }
  if (!lockDescriptor(fd, path)) {
    closeSync(fd);
    return null;
  }
  ftruncateSync(fd);
  writeSync(fd, `${process.pid}\n`, 0);
  return {fd, ino: fstatSync(fd).ino};
}

function holderOf(path: string): string {
  try {
    const pid = readFileSync(path, 'latin1').trim();
    return pid === '' ? '' : `, pid ${pid}`;
  } catch {
    return ''; // somebody has removed it
  }
}

/**
 * Keeps a second noded out of a run directory for as long as this process lives. The lock that counts is on the directory
 * itself: a cleaner or an administrator may remove files and leaves that, and tmpfiles.d(5) spares what is locked and all
 * that is in it.
 */
export class RunDirLock {
  private readonly path: string;
  private directory: number;
  private file: LockFile;

  /** Throws a RunDirError if another noded has it. */
  constructor(private readonly runDir: string) {
    this.path = join(runDir, 'lock');
    [this.directory, this.file] = this.take();
  }

  private take(): [directory: number, file: LockFile] {
    const directory = openSync(this.runDir, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    const file = lockDescriptor(directory, this.runDir) ? lockFile(this.path) : null;
    if (file !== null) return [directory, file];
    closeSync(directory);
    throw new RunDirError('locked', `${this.runDir} is in use by another noded${holderOf(this.path)}`);
  }

  release(): void {
    closeSync(this.file.fd);
    closeSync(this.directory);
  }

  /** What has become of it: null if it is as it was made. What somebody has removed is locked again, once it is there again. */
  async look(): Promise<string | null> {
    const inodeOf = (path: string): Promise<number | null> => stat(path).then(({ino}) => ino, () => null);
    const [directory, file] = [await inodeOf(this.runDir), await inodeOf(this.path)];
    const isSame = directory === fstatSync(this.directory).ino;
    if (isSame && file === this.file.ino) return null;
    const problem = isSame ? `somebody has removed ${this.path}: nothing may clean the run directory of a noded` : `somebody has removed ${this.runDir}, and with it all calls; the local socket is there again after a restart`;
    try {
      if (isSame) this.lockFileAgain();
      else this.lockAgain();
      return problem;
    } catch (error) {
      return `${problem}; it cannot be locked again: ${messageOf(error)}`;
    }
  }

  private lockFileAgain(): void {
    const file = lockFile(this.path);
    if (file === null) throw new Error('another noded has one there now');
    closeSync(this.file.fd);
    this.file = file;
  }

  private lockAgain(): void {
    const before = [this.directory, this.file.fd];
    [this.directory, this.file] = this.take();
    for (const fd of before) closeSync(fd);
  }
}
