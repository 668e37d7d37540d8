/** How a daemon gets away from whoever started it, and who waits for that. */
import {spawn} from 'node:child_process';
import {closeSync, constants, openSync, readFileSync, readdirSync, writeSync} from 'node:fs';
import {messageOf} from '../base/errors';

/** Tells a detached daemon that its parent waits for a byte on this descriptor. */
const readyFdVariable = 'NODED_READY_FD';
const readyFd = 3;

/** Whether this process is the daemon that `detach` has started; says so once only, so that nothing inherits it. */
export function isDetached(): boolean {
  const detached = process.env[readyFdVariable] !== undefined;
  delete process.env[readyFdVariable];
  return detached;
}

/** Starts this program again, detached, and ends when that one is ready, or as it has ended. `failed`: the exit code of what cannot be told otherwise. */
export function detach(argv: readonly string[], failed: {readonly code: number; readonly complain: (message: string) => void}): void {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...argv], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    env: {...process.env, [readyFdVariable]: String(readyFd)},
  });
  child.stderr!.on('data', (chunk: Buffer) => process.stderr.write(chunk));
  child.stdio[readyFd]!.on('data', () => process.exit(0));
  child.on('error', (error) => {
    failed.complain(`cannot detach: ${messageOf(error)}`);
    process.exit(failed.code);
  });
  // Without the byte it was not ready, whatever it says.
  child.on('close', (code) => process.exit(code === null || code === 0 ? failed.code : code));
}

/** The detached daemon is ready: its parent may end. */
export function tellParent(): void {
  writeSync(readyFd, 'ready\n');
  closeSync(readyFd);
}

/** Functions must not inherit what the daemon's starter left open; Node's own descriptors are all close-on-exec. */
export function closeInherited(detached: boolean): void {
  const closeOnExec = 0o2000000;
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    if (fd <= 2 || (detached && fd === readyFd)) continue;
    try {
      const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '0';
      if ((Number.parseInt(flags, 8) & closeOnExec) === 0) closeSync(fd);
    } catch {
      // The descriptor of the listing itself, closed by now.
    }
  }
}

/**
 * Makes a file of stdout and stderr, for what Node itself has to say at a bad end. Node has no dup2(2), but open(2)
 * gives the lowest free number, and nothing else opens files while this runs.
 */
export function redirectOutput(path: string): void {
  for (const fd of [1, 2]) {
    const probe = openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOCTTY, 0o600);
    closeSync(fd);
    if (openSync(path, constants.O_WRONLY | constants.O_APPEND) !== fd) throw new Error(`descriptor ${fd} could not be replaced`);
    closeSync(probe);
  }
}
