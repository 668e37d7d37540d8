/** Whom the daemon trusts and what it shows of itself, as it is at this moment. */
import type {Server} from 'node:https';
import type {SecureContextOptions, TlsOptions} from 'node:tls';
import {messageOf} from '../base/errors';
import type {Log} from '../base/log';
import {Authorities, localRole, roleOf, serverOptions} from '../rpc/tls';
import type {Peer, Role} from '../rpc/tls';
import {outOfDate, readTls} from '../rpc/tls-files';
import type {TlsFiles, TlsMaterial} from '../rpc/tls-files';
import type {Config} from './config';
import {ConfigError} from './config-error';

export interface Trust {
  /** End of this node's certificate, ms since the epoch; null without TLS. */
  readonly notAfterMs: number | null;
  /** What a server begins with; null without TLS. */
  readonly options: (TlsOptions & SecureContextOptions) | null;
  /** The CAs that a handshake which begins now is checked against. */
  readonly presentAuthorities: unknown;
  /** Asked on every request. Throws a NodedError for a peer that may do nothing. */
  authorize(peer: Peer | null): Role;
  /** The server that was made with `options`; without TLS it is none. */
  attach(server: Server): void;
  /** SIGHUP: reads and checks everything, and gives what takes it over. Throws if anything is wrong; then all stays as it was. */
  reload(config: Config): () => void;
}

/** At the start, a certificate that cannot be used is a mistake in the configuration. */
export function orConfigError<T>(load: () => T): T {
  try {
    return load();
  } catch (error) {
    throw new ConfigError(messageOf(error));
  }
}

/** Without TLS noded listens on loopback only, and everybody there may do everything. */
export const noTls: Trust = {
  notAfterMs: null,
  options: null,
  presentAuthorities: null,
  authorize: () => localRole,
  attach: () => {},
  reload: (config) => {
    if (config.tls !== null) throw new Error('ssl cannot be changed by a reload');
    return () => {};
  },
};

/** The certificates and roles of noded.conf(5). */
class ConfiguredTrust implements Trust {
  private material: TlsMaterial;
  private readonly authorities: Authorities;
  private server: Server | undefined;

  constructor(
    private config: Config,
    private files: TlsFiles,
    log: Log,
  ) {
    this.material = orConfigError(() => readTls(files));
    this.authorities = new Authorities(this.material.ca);
    // No reason to stay away: a machine that has just booted may not know the time yet, and a reload brings a new certificate.
    const unfit = outOfDate(files, this.material);
    if (unfit !== null) log.warn({}, `${unfit}; until that changes masters will refuse this node`);
  }

  get notAfterMs(): number {
    return this.material.notAfterMs;
  }

  get options(): TlsOptions & SecureContextOptions {
    return serverOptions(this.material, this.config.tlsMinVersion);
  }

  get presentAuthorities(): unknown {
    return this.authorities.present;
  }

  authorize(peer: Peer | null): Role {
    this.authorities.check(peer);
    return roleOf(peer, this.config.roles);
  }

  attach(server: Server): void {
    this.server = server;
  }

  reload(config: Config): () => void {
    if (config.tls === null) throw new Error('ssl cannot be changed by a reload');
    const files = config.tls;
    const material = readTls(files);
    const unfit = outOfDate(files, material);
    // What is there is better than what is of no use now, unless it is of none either.
    if (unfit !== null && outOfDate(this.files, this.material) === null) throw new Error(unfit);
    return () => {
      this.server?.setSecureContext(serverOptions(material, config.tlsMinVersion));
      this.authorities.replace(material.ca);
      this.config = config;
      this.files = files;
      this.material = material;
    };
  }
}

/** As the configuration says. Throws a ConfigError. */
export function configuredTrust(config: Config, log: Log): Trust {
  return config.tls === null ? noTls : new ConfiguredTrust(config, config.tls, log);
}
