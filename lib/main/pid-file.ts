/** The file that tells others which process the daemon is. */
import {closeSync, constants, fstatSync, ftruncateSync, openSync, readFileSync, renameSync, statSync, unlinkSync, writeFileSync, writeSync} from 'node:fs';
import {messageOf} from '../base/errors';
import {RunDirError, lockDescriptor} from '../proc/run-dir';

/** From now until the process ends, however it comes to call exit, the file is there. */
function removeAtExit(path: string): void {
  process.once('exit', () => {
    try {
      unlinkSync(path);
    } catch {
      // Somebody else has removed it, or its directory.
    }
  });
}

/** Whole or not at all, also for whoever reads it at this moment. */
export function writePidFile(path: string): void {
  try {
    writeFileSync(`${path}.new`, `${process.pid}\n`);
    renameSync(`${path}.new`, path);
  } catch (error) {
    throw new RunDirError('unusable', `pid file: ${messageOf(error)}`);
  }
  removeAtExit(path);
}

/** How often the file may be removed by the one before between opening and locking it. */
const tries = 3;

/**
 * As Ganeti's daemons have theirs: never replaced, and locked for as long as the process lives, so that whoever
 * can lock it knows that the process is gone. Throws if another one has it.
 */
export function claimPidFile(path: string): void {
  for (let left = tries; ; left -= 1) {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    if (!lockDescriptor(fd, path)) {
      const holder = /^\d+$/.exec(readFileSync(fd, 'latin1').trim())?.[0];
      closeSync(fd);
      throw new RunDirError('locked', `PID file '${path}' is already locked by another process${holder === undefined ? '' : `, PID read from file is ${holder}`}`);
    }
    if (statSync(path, {throwIfNoEntry: false})?.ino === fstatSync(fd).ino) {
      ftruncateSync(fd);
      writeSync(fd, `${process.pid}\n`, 0);
      return removeAtExit(path);
    }
    closeSync(fd);
    if (left === 1) throw new RunDirError('unusable', `${path} is removed again and again`);
  }
}
