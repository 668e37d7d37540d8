/** ganeti-noded(8): the daemon in the place of Ganeti's own, with its command line, its words and its exit codes. */
import {spawnSync} from 'node:child_process';
import {statSync, writeFileSync, writeSync} from 'node:fs';
import {errnoOf, messageOf} from '../base/errors';
import {createLog, journalPrefix} from '../base/log';
import {ganetiForkerEnvironment} from '../proc/fork-server';
import {closeInherited, detach, isDetached, redirectOutput, tellParent} from './detach';
import {ganetiConfig, tlsFiles} from './ganeti-config';
import {GanetiSink} from './ganeti-log';
import {LineAnswered, readLine, usage} from './ganeti-options';
import type {GanetiLine} from './ganeti-options';
import {ganetiPaths} from './ganeti-paths';
import type {GanetiPaths} from './ganeti-paths';
import {GanetiTrust} from './ganeti-trust';
import {claimPidFile} from './pid-file';
import {Program} from './program';
import {noTls} from './trust';
import type {Config} from './config';

const programName = 'ganeti-noded';

/** Exit codes of ganeti-noded(8). */
export const exitCodes = {ok: 0, failure: 1, usage: 2} as const;

/** Where the distribution puts Ganeti's own daemon, which stays there however /usr/sbin is diverted. */
const original = '/usr/share/ganeti/default/ganeti-noded';

/** Why the daemon does not start; said without more words. */
class StartError extends Error {
  override readonly name = 'StartError';
}

const write = (fd: 1 | 2, text: string): void => {
  try {
    writeSync(fd, text);
  } catch {
    // Nobody reads it: the exit code says enough.
  }
};

const complain = (message: string): void => write(2, `${journalPrefix()}${message}\n`);

/** The version of the Ganeti that is installed, which nobody knows but itself. */
function printVersion(): number {
  const {status, stdout, error} = spawnSync(original, ['--version'], {encoding: 'utf8'});
  if (status !== 0) complain(`${programName}: Ganeti does not tell its version: ${error === undefined ? `exit ${status}` : errnoOf(error)}`);
  else write(1, stdout);
  return status === 0 ? exitCodes.ok : exitCodes.failure;
}

function isFile(path: string): boolean {
  return statSync(path, {throwIfNoEntry: false})?.isFile() ?? false;
}

function configured(line: GanetiLine): {readonly paths: GanetiPaths; readonly config: Config} {
  try {
    const paths = ganetiPaths(process.env);
    return {paths, config: ganetiConfig(line, paths)};
  } catch (error) {
    throw new StartError(messageOf(error));
  }
}

/** What Ganeti's own daemon looks at before it does anything, in its order. */
function check(line: GanetiLine, paths: GanetiPaths): void {
  if (line.ssl) {
    const {cert, key} = tlsFiles(line, paths);
    for (const [what, path] of [['certificate', cert], ['key', key]] as const) {
      if (!isFile(path)) throw new StartError(`SSL ${what} file '${path}' was not found`);
    }
  }
  const uid = process.getuid?.() ?? 0;
  if (uid !== 0) throw new StartError(`${programName} started using wrong user ID (${uid}), expected 0`);
  if (line.words.length > 0) throw new StartError(`Usage: ${usage}`);
  if (!/^\d+$/.test(line.maxClients) || Number(line.maxClients) < 1) throw new StartError(`${programName} --max-clients argument must be >= 1`);
}

/** daemon-util finds the daemon by the name that the kernel has of it, and Node's is `node`. */
function takeName(): void {
  writeFileSync('/proc/self/comm', programName);
}

function fail(error: unknown): number {
  complain(error instanceof StartError ? error.message : `Error when starting daemon process: ${messageOf(error)}`);
  return exitCodes.failure;
}

function claim(pidFile: string): void {
  try {
    claimPidFile(pidFile);
  } catch (error) {
    throw new StartError(`Error while locking PID file:\n${messageOf(error)}`);
  }
}

function programOf(line: GanetiLine, paths: GanetiPaths, config: Config, detached: boolean): Program {
  const {logFile} = paths;
  const {debug, syslog, mlock} = line;
  const sink = new GanetiSink({file: logFile, syslog, foreground: !detached, debug});
  const log = createLog(sink, {debug});
  const reopen = (): void => {
    sink.reopen();
    if (detached) redirectOutput(logFile);
  };
  return new Program({
    config,
    log,
    sink: {reopen, settle: () => sink.settle(), flush: () => sink.flush()},
    traits: {trust: config.tls === null ? noTls : new GanetiTrust(config.tls, paths.candidates, log), forkerEnv: ganetiForkerEnvironment({mlock, debug, syslog})},
    readConfig: () => ganetiConfig(line, paths),
    // Whoever stops this daemon does not stop what it has started: a virtual machine, or its installation.
    secondSignal: 'leave',
    claim: () => claim(paths.pidFile),
    ready: () => {
      if (!detached) return;
      redirectOutput(logFile);
      tellParent();
    },
    failed: fail,
    crashCode: exitCodes.failure,
  });
}

async function start(argv: readonly string[], line: GanetiLine): Promise<number | undefined> {
  const detached = isDetached();
  const {paths, config} = configured(line);
  check(line, paths);
  if (line.debug && !detached) complain(`ALERT: ${programName} was started in debug mode, and WILL log private and secret parameters!`);
  if (!line.foreground && !detached) {
    detach(argv, {code: exitCodes.failure, complain});
    return undefined;
  }
  takeName();
  closeInherited(detached);
  process.umask(0o077);
  const program = programOf(line, paths, config, detached);
  process.chdir('/');
  await program.run();
  return undefined;
}

/** Runs ganeti-noded. Resolves with an exit code if it ends before it is ready; a running daemon ends the process itself. */
export async function main(argv: readonly string[]): Promise<number | undefined> {
  try {
    const line = readLine(argv);
    return line.version ? printVersion() : await start(argv, line);
  } catch (error) {
    return error instanceof LineAnswered ? error.code : fail(error);
  }
}
