/** noded(8): the command line, the signals and the exit codes of the daemon. */
import {spawn} from 'node:child_process';
import {readFileSync, readdirSync, closeSync, renameSync, unlinkSync, writeFileSync, writeSync} from 'node:fs';
import {isatty} from 'node:tty';
import {errnoOf, messageOf} from '../base/errors';
import {LogSink, createLog} from '../base/log';
import type {Log} from '../base/log';
import {scanFunctions} from '../proc/catalog';
import {RunDirError, lockRunDir, makePrivateDirectory} from '../proc/run-dir';
import {loadTls} from '../rpc/tls';
import {ConfigError, UsageError, absolutePaths, keysForRestart, readConfig} from './config';
import type {CommandLine, Config} from './config';
import {BindError, Daemon} from './daemon';
import {Notifier} from './notify';
import {findForker, forkerMissing} from './spawner-choice';
import {Stop} from './stop';
import {version} from './version';

/** Exit codes of noded(8), after sysexits.h. */
export const exitCodes = {ok: 0, usage: 64, internal: 70, bind: 71, runDir: 73, locked: 75, config: 78} as const;

/** The words of SYNOPSIS; a spec compares them with the man page. */
export const usage =
  'noded [-f] [-d] [-c CONFIG] [-p PORT] [-b ADDRESS | -i INTERFACE] [-C CERT] [-K KEY] [--ca FILE] [--no-ssl] [--run-dir DIR] [--functions DIR]... [--daemonize] [--pid-file FILE] [--check]';

/** Tells a daemonized child that its parent waits for a byte on this descriptor. */
const readyFdVariable = 'NODED_READY_FD';
const readyFd = 3;

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
    writeSync(2, `noded: ${message}\n`);
  } catch {
    // Nobody reads standard error: the exit code says enough.
  }
};

function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof ConfigError) return exitCodes.config;
  if (error instanceof RunDirError) return error.kind === 'locked' ? exitCodes.locked : exitCodes.runDir;
  if (error instanceof BindError) return exitCodes.bind;
  return exitCodes.internal;
}

/** What --check looks at beyond the configuration's syntax. */
function check(config: Config): number {
  const complaints: string[] = [];
  try {
    if (config.tls !== null) loadTls(config.tls);
  } catch (error) {
    complaints.push(messageOf(error));
  }
  if (config.spawner === 'forker' && findForker() === undefined) complaints.push(forkerMissing);
  const {entries, leftOut} = scanFunctions({directories: config.functionDirectories, functionConfig: config.functionConfig, maxOutputBytes: config.limits.maxOutputBytes});
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

/** Functions must not inherit what noded's starter left open; Node's own descriptors are all close-on-exec. */
function closeInherited(keep: number | null): void {
  const closeOnExec = 0o2000000;
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    if (fd <= 2 || fd === keep) continue;
    try {
      const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '0';
      if ((Number.parseInt(flags, 8) & closeOnExec) === 0) closeSync(fd);
    } catch {
      // The descriptor of the listing itself, closed by now.
    }
  }
}

/** Starts noded again, detached, and ends when that one is ready or has failed. */
function daemonize(argv: readonly string[]): void {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...argv], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    env: {...process.env, [readyFdVariable]: String(readyFd)},
  });
  child.stderr!.on('data', (chunk: Buffer) => process.stderr.write(chunk));
  child.stdio[readyFd]!.on('data', () => process.exit(exitCodes.ok));
  child.on('error', (error) => {
    complain(`cannot detach: ${messageOf(error)}`);
    process.exit(exitCodes.internal);
  });
  // Without the byte it was not ready, whatever it says.
  child.on('close', (code) => process.exit(code === null || code === exitCodes.ok ? exitCodes.internal : code));
}

/** Whole or not at all, also for whoever reads it at this moment. */
function writePidFile(path: string): void {
  try {
    writeFileSync(`${path}.new`, `${process.pid}\n`);
    renameSync(`${path}.new`, path);
  } catch (error) {
    throw new RunDirError('unusable', `pid file: ${messageOf(error)}`);
  }
}

function openLog(config: Config): LogSink {
  try {
    return new LogSink(config.logFile);
  } catch (error) {
    throw new ConfigError(`log_file: ${messageOf(error)}`);
  }
}

class Program {
  private readonly sink: LogSink;
  private readonly log: Log;
  private readonly notifier: Notifier;
  private daemon: Daemon | null = null;

  constructor(
    private readonly line: CommandLine,
    private readonly config: Config,
    private readonly detached: boolean,
  ) {
    this.sink = openLog(config);
    this.log = createLog(this.sink, {debug: config.debug, terminal: config.logFile === null && isatty(2)});
    this.notifier = new Notifier(this.log);
  }

  /** Runs the daemon. If it cannot be started the process ends here: the timers of calls that were taken over would keep it alive. */
  async run(): Promise<void> {
    process.on('uncaughtException', (error) => this.crash(error));
    try {
      await this.start();
    } catch (error) {
      this.daemon?.close();
      this.sink.flush();
      complain(messageOf(error));
      process.exit(exitCodeOf(error));
    }
  }

  private async start(): Promise<void> {
    const {config} = this;
    makePrivateDirectory(config.runDir);
    lockRunDir(config.runDir);
    const daemon = await Daemon.create(config, this.log);
    this.daemon = daemon;
    // Before the port is open: from then on there may be functions that a SIGTERM must not leave behind.
    this.handleSignals(daemon);
    const port = await daemon.start();
    if (config.pidFile !== null) writePidFile(config.pidFile);
    this.notifier.ready(`listening on ${config.address} port ${port}`);
    if (this.detached) {
      writeSync(readyFd, 'ready\n');
      closeSync(readyFd);
    }
  }

  private handleSignals(daemon: Daemon): void {
    const {onStop, stopKillAfterMs, drainTimeoutMs} = this.config;
    const {table, trees, http} = daemon;
    const stop = new Stop({table, trees, http, notifier: this.notifier, log: this.log, onStop, stopKillAfterMs, drainTimeoutMs, endSpawner: (leavesRunning) => daemon.endSpawner(leavesRunning), exit: (code) => this.exit(code)});
    process.on('SIGTERM', () => stop.terminate('SIGTERM'));
    process.on('SIGINT', () => stop.terminate('SIGINT'));
    process.on('SIGUSR2', () => stop.drain());
    process.on('SIGHUP', () => this.reload(daemon));
  }

  private reload(daemon: Daemon): void {
    this.notifier.reloading();
    try {
      this.sink.reopen();
      const config = readConfig(this.line);
      daemon.reload(config);
      daemon.metrics.reloaded('ok');
      this.log.info({}, 'reloaded certificates, roles and functions');
      const waiting = keysForRestart(this.config, config);
      if (waiting.length > 0) this.log.warn({keys: waiting}, 'these have changed too, and take a restart');
    } catch (error) {
      daemon.metrics.reloaded('failed');
      this.log.error({}, `reload: ${messageOf(error)}; everything stays as it was`);
    }
    this.notifier.ready('reloaded');
  }

  /** State unknown: the journals on file are the truth, and the next noded reads them. */
  private crash(error: unknown): void {
    this.log.error({err: error instanceof Error ? {message: error.message, stack: error.stack} : String(error)}, 'an error that nobody expected');
    this.sink.flush();
    process.exit(exitCodes.internal);
  }

  private exit(code: number): void {
    this.daemon?.close();
    try {
      if (this.config.pidFile !== null) unlinkSync(this.config.pidFile);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.log.warn({}, messageOf(error));
    }
    this.sink.flush();
    process.exit(code);
  }
}

/** Runs noded. Resolves with an exit code if it ends before it is ready; a running daemon ends the process itself. */
export async function main(argv: readonly string[]): Promise<number | undefined> {
  // First of all: Node's answer to SIGUSR1 is to open its inspector, in a daemon that runs as root.
  process.on('SIGUSR1', () => {});
  const line = parseArguments(argv);
  if (typeof line === 'number') return line;
  const detached = process.env[readyFdVariable] !== undefined;
  delete process.env[readyFdVariable];
  try {
    const config = readConfig(line);
    if (line.check === true) return check(config);
    if (config.daemonize && !detached) {
      daemonize(argv);
      return undefined;
    }
    closeInherited(detached ? readyFd : null);
    // What function processes inherit; noded's own files all have explicit modes.
    process.umask(0o022);
    const program = new Program(absolutePaths(line), config, detached);
    // A daemon must not keep a filesystem from being unmounted.
    if (detached) process.chdir('/');
    await program.run();
    return undefined;
  } catch (error) {
    complain(messageOf(error));
    return exitCodeOf(error);
  }
}
