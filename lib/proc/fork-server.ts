/**
 * The fork server's process: found alive in the run directory, or started. It outlives the daemon, so
 * nothing of it is the daemon's child in any sense but the first.
 */
import {spawn} from 'node:child_process';
import {connect} from 'node:net';
import type {Socket} from 'node:net';
import {join} from 'node:path';
import {errnoOf} from '../base/errors';
import {limits} from '../base/limits';

/** Connects to the fork server that lives in the run directory. Null if there is none. */
export function findForkServer(runDir: string): Promise<Socket | null> {
  return new Promise((resolve, reject) => {
    const socket = connect(join(runDir, 'forker.sock'));
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error) => {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' || errno === 'ECONNREFUSED') resolve(null);
      else reject(error);
    });
  });
}

/** Starts a fork server and resolves once it listens. Rejects with what it said if it does not. */
export function startForkServer(program: string, runDir: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [runDir], {detached: true, cwd: '/', env: {}, stdio: ['ignore', 'ignore', 'pipe', 'pipe']});
    let said = '';
    const timer = setTimeout(() => fail('it did not get ready'), limits.forkServerStartMs);
    const fail = (why: string): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(new Error(`${program}: ${said.trim() || why}`));
    };
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code, signal) => fail(`it ended with ${signal ?? code}`));
    child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.stdio[3]?.once('data', () => {
      clearTimeout(timer);
      // From now on it is on its own: this process may end, and neither pipe is written to any more.
      child.removeAllListeners('exit');
      child.stderr?.destroy();
      child.unref();
      resolve();
    });
  });
}
