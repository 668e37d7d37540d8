/** A daemon from its configuration to its end: start, signals, reload, crash. noded and ganeti-noded are two of them. */
import type {Log} from '../base/log';
import {messageOf} from '../base/errors';
import {limits} from '../base/limits';
import {RunDirLock, makePrivateDirectory} from '../proc/run-dir';
import {keysForRestart} from './config';
import type {Config} from './config';
import {Daemon} from './daemon';
import type {DaemonTraits} from './daemon';
import {Notifier} from './notify';
import {Stop} from './stop';
import type {StopOptions} from './stop';

export interface ProgramOptions {
  readonly config: Config;
  readonly log: Log;
  /** Where the log goes. */
  readonly sink: {reopen(): void; settle(): Promise<void>; flush(): void};
  readonly traits: DaemonTraits;
  /** Reads the configuration again. */
  readonly readConfig: () => Config;
  readonly secondSignal: StopOptions['secondSignal'];
  /** Before anything of another daemon could be touched. */
  readonly claim?: () => void;
  /** The port is open. */
  readonly ready: () => void;
  /** Says why it could not be started, and gives the exit code. */
  readonly failed: (error: unknown) => number;
  /** The exit code of an error that nobody expected. */
  readonly crashCode: number;
}

export class Program {
  private readonly notifier: Notifier;
  private daemon: Daemon | null = null;
  /** It was told to end, perhaps before it was ready. */
  private stopping = false;
  private isReady = false;
  /** SIGHUP came before it was ready. */
  private reloadWanted = false;
  /** Null as long as nothing could be drained. */
  private drain: (() => void) | null = null;
  private drainWanted = false;

  constructor(private readonly options: ProgramOptions) {
    this.notifier = new Notifier(options.log);
  }

  /** Runs the daemon. If it cannot be started the process ends here: the timers of calls that were taken over would keep it alive. */
  async run(): Promise<void> {
    process.on('uncaughtException', (error) => this.crash(error));
    // Before anything is awaited: they may have come while the program was loaded, and are heard with the next turn of the loop.
    process.on('SIGHUP', () => this.reload());
    process.on('SIGUSR2', () => {
      this.drainWanted = true;
      this.drain?.();
    });
    try {
      await this.start();
    } catch (error) {
      await this.close();
      process.exit(this.options.failed(error));
    }
  }

  private async start(): Promise<void> {
    const {config, log, traits, claim, ready} = this.options;
    claim?.();
    makePrivateDirectory(config.runDir);
    const lock = new RunDirLock(config.runDir);
    setInterval(() => void this.lookAt(lock), limits.lockLookMs).unref();
    const daemon = await Daemon.create(config, log, traits);
    this.daemon = daemon;
    // Before anything is taken over: from then on there may be functions that a SIGTERM must not leave behind. But it
    // has to wait for that: who knows only some of the calls would end the fork server and the others with it.
    let takenOver = Promise.resolve();
    this.handleSignals(daemon, (action) => void takenOver.then(action, () => {}));
    takenOver = daemon.takeOver();
    if (this.drainWanted) this.drain?.();
    await takenOver;
    if (this.stopping) return;
    const port = await daemon.start();
    if (this.stopping) return;
    ready();
    this.notifier.ready(`listening on ${config.address} port ${port}`);
    this.isReady = true;
    if (this.reloadWanted) this.reload();
  }

  private async lookAt(lock: RunDirLock): Promise<void> {
    const problem = await lock.look();
    if (problem !== null) this.options.log.error({}, problem);
  }

  private handleSignals(daemon: Daemon, whenTakenOver: (action: () => void) => void): void {
    const {log, secondSignal, config: {onStop, stopKillAfterMs, drainTimeoutMs}} = this.options;
    const {table, trees, http} = daemon;
    const stop = new Stop({table, trees, http, notifier: this.notifier, log, onStop, secondSignal, stopKillAfterMs, drainTimeoutMs, endSpawner: (leavesRunning) => daemon.endSpawner(leavesRunning), exit: (code) => void this.exit(code)});
    const end = (action: () => void): void => {
      this.stopping = true;
      whenTakenOver(action);
    };
    process.on('SIGTERM', () => end(() => stop.terminate('SIGTERM')));
    process.on('SIGINT', () => end(() => stop.terminate('SIGINT')));
    this.drain = () => end(() => stop.drain());
  }

  private reload(): void {
    const {daemon, options: {log, sink}} = this;
    // The configuration that was read may be older: once more, whatever the number of signals.
    this.reloadWanted = true;
    if (!this.isReady || daemon === null) return;
    this.reloadWanted = false;
    this.notifier.reloading();
    try {
      sink.reopen();
      const config = this.options.readConfig();
      daemon.reload(config);
      daemon.metrics.reloaded('ok');
      log.info({}, 'reloaded certificates, roles and functions');
      const waiting = keysForRestart(this.options.config, config);
      if (waiting.length > 0) log.warn({keys: waiting}, 'these have changed too, and take a restart');
    } catch (error) {
      daemon.metrics.reloaded('failed');
      log.error({}, `reload: ${messageOf(error)}; everything stays as it was`);
    }
    this.notifier.ready('reloaded');
  }

  /** State unknown: the journals on file are the truth, and the next daemon reads them. */
  private crash(error: unknown): void {
    const {log, sink, crashCode} = this.options;
    log.error({err: error instanceof Error ? {message: error.message, stack: error.stack} : String(error)}, 'an error that nobody expected');
    sink.flush();
    process.exit(crashCode);
  }

  private async exit(code: number): Promise<void> {
    await this.close();
    process.exit(code);
  }

  private async close(): Promise<void> {
    const {sink} = this.options;
    await this.daemon?.close();
    await sink.settle();
    sink.flush();
  }
}
