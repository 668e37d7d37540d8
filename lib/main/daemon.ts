/** The composition of the daemon: every part is made here and told of the others, and nowhere else. */
import {chmodSync, unlinkSync} from 'node:fs';
import {join} from 'node:path';
import type {AddressInfo, Server} from 'node:net';
import {monotonicMs, wallMs} from '../base/duration';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Log} from '../base/log';
import {CallTable} from '../call/call-table';
import {Catalog, scanFunctions} from '../proc/catalog';
import type {Scan} from '../proc/catalog';
import {ProcessTrees, readBootId} from '../proc/process-tree';
import {Spool} from '../proc/spool';
import {HttpBinding} from '../rpc/http';
import {JsonScanner} from '../rpc/json-scan';
import {createLuxiServer} from '../rpc/luxi';
import {operations} from '../rpc/operations';
import type {OperationContext} from '../rpc/operations';
import {protocolVersion} from '../rpc/protocol';
import {queries} from '../rpc/queries';
import type {NodeFacts} from '../rpc/queries';
import {loadTls, serverOptions} from '../rpc/tls';
import type {Role, TlsFiles, TlsMaterial} from '../rpc/tls';
import {ConfigError} from './config';
import type {Config} from './config';
import {Metrics} from './metrics';
import {chooseSpawner} from './spawner-choice';
import type {ChosenSpawner, SpawnerParts} from './spawner-choice';
import {takeOver} from './take-over';
import {version} from './version';

/** The port cannot be had: exit 71. */
export class BindError extends Error {
  override readonly name = 'BindError';
}

/** At the start, a certificate that cannot be used is a mistake in the configuration. */
function loadCertificates(files: TlsFiles): TlsMaterial {
  try {
    return loadTls(files);
  } catch (error) {
    throw new ConfigError(messageOf(error));
  }
}

const newScanner = (): JsonScanner => new JsonScanner({maxDepth: limits.maxDepth});

export class Daemon {
  readonly table: CallTable;
  readonly trees: ProcessTrees;
  readonly http: HttpBinding;
  readonly metrics: Metrics;
  private readonly catalog = new Catalog();
  private readonly luxi: Server;
  private readonly instance = `${readBootId()}:${process.pid}:${wallMs()}`;
  private readonly begin = monotonicMs();
  private tls: TlsMaterial | null;
  private roles: readonly Role[];

  private constructor(
    private readonly config: Config,
    private readonly log: Log,
    tls: TlsMaterial | null,
    private readonly parts: SpawnerParts & {readonly chosen: ChosenSpawner},
  ) {
    const {spool, trees, chosen} = parts;
    this.tls = tls;
    this.roles = config.roles;
    this.trees = trees;
    this.metrics = new Metrics(log);
    this.table = new CallTable(config.limits, chosen.spawner, spool, this.metrics);
    const context: OperationContext = {table: this.table, functions: this.catalog, files: spool, maxWaitMs: config.limits.maxWaitMs};
    const looks = queries(this.facts());
    const shared = {context, log, maxRequestBytes: config.limits.maxRequestBytes, refused: this.metrics.refused.bind(this.metrics)};
    this.http = new HttpBinding({
      ...shared,
      operations,
      queries: looks,
      tls: this.tls === null ? null : serverOptions(this.tls, config.tlsMinVersion),
      roles: () => this.roles,
      maxConnections: config.limits.maxConnections,
      instance: this.instance,
    });
    this.luxi = createLuxiServer({...shared, operations: new Map([...operations, ...looks])});
  }

  /** The run directory is locked, and nothing listens yet. Throws what is wrong with the certificates, the spool or the spawner. */
  static async create(config: Config, log: Log): Promise<Daemon> {
    const tls = config.tls === null ? null : loadCertificates(config.tls);
    const trees = new ProcessTrees({log});
    const spool = new Spool({runDir: config.runDir, minFreeBytes: config.limits.minFreeBytes, log});
    const parts = {spool, trees, newScanner, log};
    return new Daemon(config, log, tls, {...parts, chosen: await chooseSpawner(config, parts)});
  }

  /** Takes over what an earlier noded left, then listens. Resolves with the port. */
  async start(): Promise<number> {
    this.use(this.scan(this.config));
    const {parts, catalog, table} = this;
    await takeOver({...parts, catalog, table, maxOutputBytes: this.config.limits.maxOutputBytes});
    const port = await this.listen();
    await this.listenLocally();
    // Not before the port is open: neither is needed for an answer, and each takes as long as the rest of a start.
    setImmediate(() => this.metrics.instruments);
    this.log.info({port, address: this.config.address, tls: this.tls !== null, functions: this.catalog.list().length, version}, 'noded is ready');
    return port;
  }

  /** SIGHUP: certificates, CA, roles and functions, all of them or none. Waits go on; a bad new file keeps the old state. */
  reload(config: Config): void {
    const tls = config.tls === null ? null : loadTls(config.tls);
    if ((tls === null) !== (this.tls === null)) throw new Error('ssl cannot be changed by a reload');
    const scan = this.scan(config);
    if (tls !== null) this.setTls(tls, config);
    this.roles = config.roles;
    this.use(scan);
  }

  close(): void {
    this.luxi.close();
    this.parts.spool.flush();
  }

  endSpawner(leavesRunning: boolean): Promise<void> {
    return this.parts.chosen.end(leavesRunning);
  }

  private setTls(tls: TlsMaterial, config: Config): void {
    const options = serverOptions(tls, config.tlsMinVersion);
    (this.http.server as import('node:https').Server).setSecureContext(options);
    this.tls = tls;
  }

  private scan({functionDirectories, functionConfig, limits: {maxOutputBytes}}: Config): Scan {
    return scanFunctions({directories: functionDirectories, functionConfig, maxOutputBytes});
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

  private listen(): Promise<number> {
    const {server} = this.http;
    const {port, address} = this.config;
    return new Promise((resolve, reject) => {
      server.once('error', (error) => reject(new BindError(`cannot listen on ${address} port ${port}: ${errnoOf(error)}`)));
      server.listen({port, host: address, backlog: 1024}, () => {
        server.removeAllListeners('error');
        // After the start, an error of accept(2) (EMFILE) must not end the daemon: the connection is lost, the next one comes.
        server.on('error', (error) => this.log.error({errno: errnoOf(error)}, `accept: ${messageOf(error)}`));
        resolve((server.address() as AddressInfo).port);
      });
    });
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
      spoolBytes: this.table.spoolBytes,
      certificateNotAfter: this.tls === null ? null : this.tls.notAfterMs / 1000,
    });
    return {status: () => this.status(), metrics: () => this.metrics.text(gauges())};
  }

  private status(): object {
    const {maxCalls, maxUrgentCalls, maxWaiters, maxConnections, maxRequestBytes, maxOutputBytes, maxWaitMs, keepResultMs, maxResults, maxSpoolBytes, minFreeBytes} = this.config.limits;
    return {
      instance: this.instance,
      version,
      protocol: protocolVersion,
      uptime: Math.round(monotonicMs() - this.begin) / 1000,
      draining: this.table.draining,
      spawner: this.parts.chosen.spawner.name,
      functions: this.catalog.list().length,
      counts: this.table.counts,
      spool_bytes: this.table.spoolBytes,
      loop_lag: this.metrics.loopLag(),
      certificate_not_after: this.tls === null ? null : this.tls.notAfterMs / 1000,
      limits: {
        max_calls: maxCalls,
        max_urgent_calls: maxUrgentCalls,
        max_waiters: maxWaiters,
        max_connections: maxConnections,
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
