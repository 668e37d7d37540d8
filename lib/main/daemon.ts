/** The composition of the daemon: every part is made here and told of the others, and nowhere else. */
import {chmodSync, unlinkSync} from 'node:fs';
import {join} from 'node:path';
import type {Server as HttpsServer} from 'node:https';
import type {Server} from 'node:net';
import {settledWithin} from '../base/alarm';
import {bootId} from '../base/boot-clock';
import {monotonicMs, wallMs} from '../base/duration';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Log} from '../base/log';
import {CallTable} from '../call/call-table';
import {withBuiltIns} from '../proc/built-ins';
import {Catalog, scanFunctions} from '../proc/catalog';
import type {Scan} from '../proc/catalog';
import {readHardNoFile} from '../proc/child-spawner';
import {ProcessTrees} from '../proc/process-tree';
import {isInMemory} from '../proc/run-dir';
import {Spool} from '../proc/spool';
import {ganetiBinding} from '../rpc/ganeti';
import {HttpBinding} from '../rpc/http';
import {JsonScanner} from '../rpc/json-scan';
import {createLuxiServer} from '../rpc/luxi';
import {operations} from '../rpc/operations';
import type {OperationContext} from '../rpc/operations';
import {protocolVersion} from '../rpc/protocol';
import {queries} from '../rpc/queries';
import type {NodeFacts} from '../rpc/queries';
import type {Config} from './config';
import {ConfigError} from './config-error';
import {BindError, listenOn, tryPort} from './listen';
import {Metrics} from './metrics';
import {chooseSpawner} from './spawner-choice';
import type {ChosenSpawner, SpawnerParts} from './spawner-choice';
import {takeOver} from './take-over';
import type {Trust} from './trust';
import {version} from './version';

/** What the programs that are made of this composition have of their own. */
export interface DaemonTraits {
  readonly trust: Trust;
  /** Environment of the fork server. */
  readonly forkerEnv?: Readonly<Record<string, string>>;
}

const newScanner = (): JsonScanner => new JsonScanner({maxDepth: limits.maxDepth});

export class Daemon {
  readonly table: CallTable;
  readonly trees: ProcessTrees;
  readonly http: HttpBinding;
  readonly metrics: Metrics;
  private readonly catalog = new Catalog();
  private readonly luxi: Server;
  private readonly instance = `${bootId}:${process.pid}:${wallMs()}`;
  private readonly begin = monotonicMs();
  private readonly trust: Trust;
  private readonly maxConnections: number;

  private constructor(
    private readonly config: Config,
    private readonly log: Log,
    private readonly parts: SpawnerParts & {readonly chosen: ChosenSpawner; readonly trust: Trust},
  ) {
    const {spool, trees, chosen, trust} = parts;
    this.trust = trust;
    this.maxConnections = this.affordableConnections();
    this.trees = trees;
    this.metrics = new Metrics(log);
    this.table = new CallTable(config.limits, chosen.spawner, spool, this.metrics);
    const context: OperationContext = {table: this.table, functions: this.catalog, files: spool, maxWaitMs: config.limits.maxWaitMs};
    const looks = queries(this.facts());
    const shared = {context, log, maxRequestBytes: config.limits.maxRequestBytes, arrived: () => this.metrics.loop.awake(), refused: this.metrics.refused.bind(this.metrics)};
    this.http = new HttpBinding({
      ...shared,
      operations,
      queries: looks,
      tls: trust.options && {server: trust.options, authorities: () => trust.presentAuthorities, refused: this.metrics.handshakeRefused.bind(this.metrics)},
      authorize: (peer) => trust.authorize(peer),
      ...(config.spawner === 'ganeti' ? {guest: ganetiBinding({...shared, isProcedure: (name) => chosen.builtIns.has(name)})} : {}),
      maxConnections: this.maxConnections,
      instance: this.instance,
    });
    if (trust.options !== null) trust.attach(this.http.server as HttpsServer);
    this.luxi = createLuxiServer({...shared, operations: new Map([...operations, ...looks])});
  }

  /** The run directory is locked, and nothing listens yet. Throws what is wrong with the port, the spool or the spawner. */
  static async create(config: Config, log: Log, {trust, forkerEnv}: DaemonTraits): Promise<Daemon> {
    // Before the calls of another one could be taken for those of a dead one.
    await tryPort(config);
    const trees = new ProcessTrees({log});
    const {runDir, durable, limits: {minFreeBytes}} = config;
    const isOnDisk = !isInMemory(runDir);
    if (durable && !isOnDisk) throw new ConfigError(`durable = true, but run_dir = "${runDir}" is in memory: nothing there outlives a power cut`);
    const spool = new Spool({runDir, minFreeBytes, durable, log});
    const parts = {spool, trees, newScanner, log, isOnDisk, forkerEnv};
    return new Daemon(config, log, {...parts, trust, chosen: await chooseSpawner(config, parts)});
  }

  /** Takes over what an earlier noded left. */
  async takeOver(): Promise<void> {
    this.use(this.scan(this.config));
    const {parts, catalog, table} = this;
    await takeOver({...parts, catalog, table, maxOutputBytes: this.config.limits.maxOutputBytes});
    if (parts.isOnDisk) parts.spool.useThread();
  }

  /** Opens the port and the local socket. Resolves with the port. */
  async start(): Promise<number> {
    const port = await this.listen();
    await this.listenLocally();
    // Not before the port is open: neither is needed for an answer, and each takes as long as the rest of a start.
    setImmediate(() => this.metrics.instruments);
    this.log.info({port, address: this.config.address, tls: this.trust.options !== null, functions: this.catalog.list().length, version}, 'noded is ready');
    return port;
  }

  /** SIGHUP: certificates, CA, roles and functions, all of them or none. Waits go on; a bad new file keeps the old state. */
  reload(config: Config): void {
    const takeOverTrust = this.trust.reload(config);
    const scan = this.scan(config);
    const unseen = scan.leftOut.find(({passes}) => passes === true);
    if (unseen !== undefined) throw new Error(`${unseen.path}: ${unseen.reason}`);
    takeOverTrust();
    this.use(scan);
  }

  /** Resolves once all is on file, or the disk takes too long for that. */
  async close(): Promise<void> {
    this.luxi.close();
    await settledWithin(limits.closeGraceMs, this.parts.spool.flush());
  }

  endSpawner(leavesRunning: boolean): Promise<void> {
    return this.parts.chosen.end(leavesRunning);
  }

  /** Connections must not take the descriptors that their calls need. */
  private affordableConnections(): number {
    const {maxConnections} = this.config.limits;
    const affordable = Math.floor((readHardNoFile() * limits.connectionPercent) / 100);
    if (affordable < maxConnections) this.log.warn({max: affordable}, `max_connections is ${affordable}, not ${maxConnections}: the limit of open files is too low`);
    return Math.min(maxConnections, affordable);
  }

  private scan({functionDirectories, optionalDirectories, functionConfig, limits: {maxOutputBytes}}: Config): Scan {
    return withBuiltIns(scanFunctions({directories: functionDirectories, optional: optionalDirectories, functionConfig, maxOutputBytes}), this.parts.chosen.builtIns, maxOutputBytes);
  }

  private use(scan: Scan): void {
    for (const {path, reason} of scan.leftOut) this.log.warn({path}, `not a function: ${reason}`);
    this.catalog.replace(scan);
    // A schema that is wrong must be known now, not at the first call; but ajv is slow to load, so after the start.
    setImmediate(() => this.compileSchemas());
  }

  private compileSchemas(): void {
    for (const {spec, args} of this.catalog.list()) {
      try {
        args?.compile();
      } catch (error) {
        this.log.warn({fn_name: spec.name}, `not a function: its args schema is wrong: ${messageOf(error)}`);
        this.catalog.leaveOut(spec.name);
      }
    }
  }

  private async listen(): Promise<number> {
    const {server} = this.http;
    const port = await listenOn(server, this.config);
    // After the start, an error of accept(2) (EMFILE) must not end the daemon: the connection is lost, the next one comes.
    server.on('error', (error) => this.log.error({errno: errnoOf(error)}, `accept: ${messageOf(error)}`));
    return port;
  }

  /** The lock is held, so a socket that is there is a dead noded's. */
  private listenLocally(): Promise<void> {
    const path = join(this.config.runDir, 'noded.sock');
    return new Promise((resolve, reject) => {
      try {
        unlinkSync(path);
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') return reject(new BindError(messageOf(error)));
      }
      this.luxi.once('error', (error) => reject(new BindError(`cannot listen on ${path}: ${errnoOf(error)}`)));
      this.luxi.listen(path, () => {
        chmodSync(path, 0o600);
        resolve();
      });
    });
  }

  private facts(): NodeFacts {
    const gauges = (): Parameters<Metrics['text']>[0] => ({
      counts: this.table.counts,
      spoolBytes: this.spoolBytes,
      certificateNotAfter: this.notAfter(),
    });
    return {status: () => this.status(), metrics: () => this.metrics.text(gauges())};
  }

  /** Bytes that the files of ended calls and the log occupy. */
  private get spoolBytes(): number {
    return this.table.spoolBytes + this.parts.spool.log.bytes;
  }

  /** Seconds since the epoch. */
  private notAfter(): number | null {
    const {notAfterMs} = this.trust;
    return notAfterMs === null ? null : notAfterMs / 1000;
  }

  private status(): object {
    const {maxCalls, maxUrgentCalls, maxWaiters, maxRequestBytes, maxOutputBytes, maxWaitMs, keepResultMs, maxResults, maxSpoolBytes, minFreeBytes} = this.config.limits;
    return {
      instance: this.instance,
      version,
      protocol: protocolVersion,
      uptime: Math.round(monotonicMs() - this.begin) / 1000,
      draining: this.table.draining,
      spawner: this.parts.chosen.spawner.name,
      functions: this.catalog.list().length,
      counts: this.table.counts,
      spool_bytes: this.spoolBytes,
      loop_lag: this.metrics.loop.lag(),
      certificate_not_after: this.notAfter(),
      limits: {
        max_calls: maxCalls,
        max_urgent_calls: maxUrgentCalls,
        max_waiters: maxWaiters,
        max_connections: this.maxConnections,
        max_request: maxRequestBytes,
        max_output: maxOutputBytes,
        max_wait: maxWaitMs / 1000,
        keep_result: keepResultMs / 1000,
        max_results: maxResults,
        max_spool: maxSpoolBytes,
        min_free: minFreeBytes,
      },
    };
  }
}
