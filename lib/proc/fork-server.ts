/**
 * The fork server's process: found alive in the run directory, or started. It outlives the daemon, so
 * nothing of it is the daemon's child in any sense but the first.
 */
import {spawn} from 'node:child_process';
import {readFileSync, readdirSync} from 'node:fs';
import {connect} from 'node:net';
import type {Socket} from 'node:net';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {Alarm} from '../base/alarm';
import {monotonicMs} from '../base/duration';
import {errnoOf, isExhausted} from '../base/errors';
import {limits} from '../base/limits';
import {functionPath} from './environment';

/** Connects to the fork server that lives in the run directory. Null if there is none. */
function findForkServer(runDir: string): Promise<Socket | null> {
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

/** Null if there is no such file or no such process. Throws if it cannot be known. */
function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (isExhausted(error)) throw error;
    return null;
  }
}

/** Whether a fork server lives under this pid. What noded-ganeti has forked has a name of its own. */
const isForkServer = (pid: string): boolean => /^\d+ \(noded-(?:forker|ganeti)\) [^ZX]/.test(readOrNull(`/proc/${pid}/stat`) ?? '');

/** Its last word is the run directory. */
const serves = (pid: string, runDir: string): boolean => readOrNull(`/proc/${pid}/cmdline`)?.endsWith(`\0${runDir}\0`) === true;

/**
 * Whether it is certain that no fork server has the run directory: one that does not answer may stand still, with all its
 * calls. Its lock tells who has it; where somebody has removed that, all processes are looked through.
 */
export function isWithoutForkServer(runDir: string): boolean {
  try {
    const pid = readOrNull(join(runDir, 'forker.lock'))?.trim();
    if (pid !== undefined) return !isForkServer(pid);
    return !readdirSync('/proc').some((name) => /^\d+$/.test(name) && isForkServer(name) && serves(name, runDir));
  } catch {
    return false;
  }
}

/** What a fork server is started with. It gives nothing of its environment to functions unless it says so. */
export interface ForkServerProgram {
  readonly program: string;
  readonly runDir: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly log: {info(fields: object, message: string): void};
}

/** Of noded's own environment, what decides where Ganeti looks for its files: a cluster of several nodes on one machine; and where its modules are. */
const ganetiVariables = ['GANETI_ROOTDIR', 'GANETI_HOSTNAME', 'NODED_GANETI_SHARE'] as const;

export interface GanetiForkerOptions {
  /** Keep the fork server and what it has loaded in memory, however bad the disk is. */
  readonly mlock: boolean;
  /** Debug messages of Ganeti's functions in Ganeti's log. */
  readonly debug: boolean;
  readonly syslog: 'no' | 'yes' | 'only';
}

/** What noded-ganeti is started with; it gives the variables of Ganeti to its functions. */
export function ganetiForkerEnvironment({mlock, debug, syslog}: GanetiForkerOptions): Readonly<Record<string, string>> {
  const given = ganetiVariables.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]));
  return {PATH: functionPath, LANG: 'C.UTF-8', NODED_GANETI_MLOCK: mlock ? '1' : '0', NODED_GANETI_DEBUG: debug ? '1' : '0', NODED_GANETI_SYSLOG: syslog, ...Object.fromEntries(given)};
}

/** Starts a fork server and resolves once it listens. Rejects with what it said if it does not. */
function startForkServer({program, runDir, env = {}}: ForkServerProgram): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [runDir], {detached: true, cwd: '/', env, stdio: ['ignore', 'ignore', 'pipe', 'pipe']});
    let said = '';
    const alarm = new Alarm(monotonicMs() + limits.forkServerReadyMs, () => fail('it did not get ready'));
    const fail = (why: string): void => {
      alarm.clear();
      child.kill('SIGKILL');
      reject(new Error(`${program}: ${said.trim() || why}`));
    };
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code, signal) => fail(`it ended with ${signal ?? code}`));
    child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    // Without descriptors there are no pipes, and 'error' says so.
    child.stdio?.[3]?.once('data', () => {
      alarm.clear();
      // From now on it is on its own: this process may end, and neither pipe is written to any more.
      child.removeAllListeners('exit');
      child.stderr?.destroy();
      child.unref();
      resolve();
    });
  });
}

/** Resolves when it has closed the connection, with true; or does not do so in time. */
export function closes(socket: Socket): Promise<boolean> {
  // Not events.once(): that rejects if the connection breaks, which is an end too.
  const closed = new Promise<boolean>((resolve) => socket.once('close', () => resolve(true)));
  return Promise.race([closed, pause(limits.closeGraceMs, false, {ref: false})]);
}

/** Connects to the fork server of the run directory, and starts one if there is none. */
export async function reachForkServer(wanted: ForkServerProgram): Promise<Socket> {
  const found = await findForkServer(wanted.runDir);
  if (found !== null) wanted.log.info({}, 'found a fork server');
  if (found !== null) return found;
  await startForkServer(wanted);
  const socket = await findForkServer(wanted.runDir);
  if (socket === null) throw new Error(`${wanted.program}: it is ready and does not listen`);
  return socket;
}
