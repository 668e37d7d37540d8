/** noded(8): the command line, the signals and the exit codes of the daemon. */
import {writeSync} from 'node:fs';
import {isatty} from 'node:tty';
import {messageOf} from '../base/errors';
import {LogSink, createLog, forJournal, forTerminal, journalPrefix} from '../base/log';
import {scanFunctions} from '../proc/catalog';
import {RunDirError} from '../proc/run-dir';
import {outOfDate, readTls} from '../rpc/tls-files';
import {absolutePaths, readConfig} from './config';
import type {CommandLine, Config} from './config';
import {AddressError, ConfigError, UsageError} from './config-error';
import {closeInherited, detach, isDetached, tellParent} from './detach';
import {BindError} from './listen';
import {writePidFile} from './pid-file';
import {Program} from './program';
import {findForkServerProgram, forkerMissing} from './spawner-choice';
import {configuredTrust} from './trust';
import {version} from './version';

/** Exit codes of noded(8), after sysexits.h. */
export const exitCodes = {ok: 0, usage: 64, internal: 70, bind: 71, runDir: 73, locked: 75, config: 78} as const;

/** The words of SYNOPSIS; a spec compares them with the man page. */
export const usage =
  'noded [-f] [-d] [-c CONFIG] [-p PORT] [-b ADDRESS | -i INTERFACE] [-C CERT] [-K KEY] [--ca FILE] [--no-ssl] [--run-dir DIR] [--functions DIR]... [--daemonize] [--pid-file FILE] [--check]';

interface Arguments extends CommandLine {
  readonly check?: boolean;
}

/** Null if the command line has been answered (--help, --version), a number if it was wrong. */
function parseArguments(argv: readonly string[]): Arguments | number {
  const {Command, CommanderError} = require('commander') as typeof import('commander');
  const command = new Command('noded')
    .usage(usage.slice('noded '.length))
    .version(version, '-V, --version')
    .option('-f, --foreground', 'stay in the foreground (the default)')
    .option('-d, --debug', 'log more')
    .option('-c, --config <file>', 'configuration, instead of /etc/noded/noded.conf')
    .option('-p, --port <port>', 'TCP port, instead of 1811')
    .option('-b, --bind <address>', 'address to listen on')
    .option('-i, --interface <name>', 'network interface to listen on')
    .option('-C, --cert <file>', 'certificate of this node')
    .option('-K, --key <file>', 'its key')
    .option('--ca <file>', 'CA that masters\' certificates must come from')
    .option('--no-ssl', 'plain HTTP, on loopback only')
    .option('--run-dir <dir>', 'run directory, instead of /run/noded')
    .option('--functions <dir>', 'functions directory; may be given several times', (dir: string, dirs: string[] = []) => [...dirs, dir])
    .option('--daemonize', 'detach once the port is open')
    .option('--pid-file <file>', 'write the process ID here')
    .option('--check', 'say what is wrong with the configuration, and start nothing')
    .exitOverride()
    .allowExcessArguments(false);
  try {
    return command.parse(argv, {from: 'user'}).opts<Arguments>();
  } catch (error) {
    return error instanceof CommanderError && error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
}

const complain = (message: string): void => {
  try {
    writeSync(2, `${journalPrefix()}noded: ${message}\n`);
  } catch {
    // Nobody reads standard error: the exit code says enough.
  }
};

function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof AddressError) return exitCodes.bind;
  if (error instanceof ConfigError) return exitCodes.config;
  if (error instanceof RunDirError) return error.kind === 'locked' ? exitCodes.locked : exitCodes.runDir;
  if (error instanceof BindError) return exitCodes.bind;
  return exitCodes.internal;
}

/** Says why noded cannot be started, and gives the exit code. */
function fail(error: unknown): number {
  complain(messageOf(error));
  return exitCodeOf(error);
}

/** What --check looks at beyond the configuration's syntax. */
function check(config: Config): number {
  const complaints: string[] = [];
  try {
    const unfit = config.tls === null ? null : outOfDate(config.tls, readTls(config.tls));
    if (unfit !== null) complaints.push(unfit);
  } catch (error) {
    complaints.push(messageOf(error));
  }
  if (config.spawner === 'forker' && findForkServerProgram('noded-forker') === undefined) complaints.push(forkerMissing);
  const {entries, leftOut} = scanFunctions({directories: config.functionDirectories, optional: config.optionalDirectories, functionConfig: config.functionConfig, maxOutputBytes: config.limits.maxOutputBytes});
  for (const {path, reason} of leftOut) complaints.push(`${path}: ${reason}`);
  for (const {spec, args} of entries.values()) {
    try {
      args?.compile();
    } catch (error) {
      complaints.push(`${spec.program}.toml: args: ${messageOf(error)}`);
    }
  }
  if (config.tls !== null && config.roles.every(({certificates}) => certificates.length === 0)) complaints.push('no role has a certificate: every request would be refused');
  for (const complaint of complaints) complain(complaint);
  return complaints.length === 0 ? exitCodes.ok : exitCodes.config;
}

function openLog(config: Config): LogSink {
  try {
    return config.logFile === null ? new LogSink(null, isatty(2) ? forTerminal : (line) => forJournal(line)) : new LogSink(config.logFile);
  } catch (error) {
    throw new ConfigError(`log_file: ${messageOf(error)}`);
  }
}

function programOf(line: CommandLine, config: Config, detached: boolean): Program {
  const sink = openLog(config);
  const log = createLog(sink, {debug: config.debug});
  return new Program({
    config,
    log,
    sink,
    traits: {trust: configuredTrust(config, log)},
    readConfig: () => readConfig(line),
    secondSignal: 'kill',
    ready: () => {
      if (config.pidFile !== null) writePidFile(config.pidFile);
      if (detached) tellParent();
    },
    failed: fail,
    crashCode: exitCodes.internal,
  });
}

/** Runs noded. Resolves with an exit code if it ends before it is ready; a running daemon ends the process itself. */
export async function main(argv: readonly string[]): Promise<number | undefined> {
  const line = parseArguments(argv);
  if (typeof line === 'number') return line;
  const detached = isDetached();
  try {
    const config = readConfig(line);
    if (line.check === true) return check(config);
    if (config.daemonize && !detached) {
      detach(argv, {code: exitCodes.internal, complain});
      return undefined;
    }
    closeInherited(detached);
    // What function processes inherit; noded's own files all have explicit modes.
    process.umask(0o022);
    const program = programOf(absolutePaths(line), config, detached);
    // A daemon must not keep a filesystem from being unmounted.
    if (detached) process.chdir('/');
    await program.run();
    return undefined;
  } catch (error) {
    return fail(error);
  }
}
