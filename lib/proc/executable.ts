/** Whether the kernel would run a file. execvp(3) would hand it to /bin/sh otherwise, as root: so it must never get there. */
import {accessSync, closeSync, constants, fstatSync, openSync, readSync} from 'node:fs';
import {basename, join} from 'node:path';
import {errnoOf} from '../base/errors';
import {functionPath} from './environment';

const elfMagic = '7f454c46';
/** As much as the kernel looks at (BINPRM_BUF_SIZE). */
const headerBytes = 256;

function readStart(path: string, length: number): Buffer {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const start = Buffer.alloc(length);
    return start.subarray(0, readSync(fd, start, 0, length, 0));
  } finally {
    closeSync(fd);
  }
}

/** Class, byte order and machine of an ELF file: bytes 4, 5, 18 and 19 of its header. */
const elfKind = (header: Buffer): string => `${header[4]}.${header[5]}.${header[18]}.${header[19]}`;
let ownElfKind: string | undefined;

/** Why the kernel would not run it, or null. Throws if it cannot be looked at. */
export function notExecutable(path: string): string | null {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) return 'is not a regular file';
    if ((stats.mode & 0o111) === 0) return 'is not executable';
  } finally {
    closeSync(fd);
  }
  const header = readStart(path, headerBytes);
  if (header.toString('latin1', 0, 2) === '#!') return missingInterpreter(header.toString());
  if (header.toString('hex', 0, 4) !== elfMagic || header.length < 20) return 'is neither ELF nor does it begin with #!';
  ownElfKind ??= elfKind(readStart(process.execPath, 20));
  return elfKind(header) === ownElfKind ? null : 'is an ELF file for another machine';
}

function missingInterpreter(header: string): string | null {
  // All that stands behind the interpreter is one word for it, spaces included.
  const [, interpreter, argument = ''] = /^#![ \t]*([^ \t\n]+)(?:[ \t]+([^\n]*?))?[ \t]*(?:\n|$)/.exec(header) ?? [];
  if (interpreter === undefined) return 'names no interpreter after #!';
  try {
    closeSync(openSync(interpreter, constants.O_RDONLY));
  } catch (error) {
    return `has the interpreter ${interpreter}, which gives ${errnoOf(error)}`;
  }
  return basename(interpreter) === 'env' ? missingCommand(argument) : null;
}

/** What env(1) is to look for. Null where it is told more than a name: then it is not for noded to judge. */
function missingCommand(argument: string): string | null {
  const name = /^-S[ \t]*([^ \t=-][^ \t=]*)(?=[ \t]|$)/.exec(argument)?.[1] ?? (/^[^-=]/.test(argument) && !argument.includes('=') ? argument : null);
  if (name === null || name.includes('/') || isInPath(name)) return null;
  return /\s/.test(name) ? `has the interpreter ${JSON.stringify(name)}, all of it one name for env(1): with arguments it takes env -S` : `has the interpreter ${name}, which is not in ${functionPath}`;
}

function isInPath(name: string): boolean {
  return functionPath.split(':').some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
