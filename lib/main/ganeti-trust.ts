/**
 * Trust in a Ganeti cluster: server.pem is certificate, key and CA of every node alike, and Ganeti's map says which
 * of the certificates that it has signed are those of master candidates. Both files change under a running daemon.
 */
import type {Server} from 'node:https';
import type {SecureContextOptions, TlsOptions} from 'node:tls';
import {messageOf} from '../base/errors';
import type {Log} from '../base/log';
import {CandidateMap, fileVersion} from '../rpc/ganeti-candidates';
import {Authorities, serverOptions} from '../rpc/tls';
import type {Peer, Role} from '../rpc/tls';
import {ganetiForbiddenKeyMode, outOfDate, readTls} from '../rpc/tls-files';
import type {TlsFiles, TlsMaterial} from '../rpc/tls-files';
import {orConfigError} from './trust';
import type {Trust} from './trust';

/** What Ganeti's clients are told to offer, for those of them that have no TLS 1.3. */
const ciphers = 'HIGH:-DES:-3DES:-EXPORT:-DH';

const optionsOf = (material: TlsMaterial): TlsOptions & SecureContextOptions => ({...serverOptions(material, 'TLSv1.2'), ciphers});

export class GanetiTrust implements Trust {
  private readonly map: CandidateMap;
  private material: TlsMaterial;
  private readonly authorities: Authorities;
  private version: string;
  private server: Server | undefined;

  constructor(
    private readonly files: TlsFiles,
    candidates: string,
    private readonly log: Log,
  ) {
    this.map = new CandidateMap(candidates);
    this.version = this.lookAtFiles();
    this.material = orConfigError(() => this.read());
    this.authorities = new Authorities(this.material.ca);
  }

  get notAfterMs(): number {
    return this.material.notAfterMs;
  }

  get options(): TlsOptions & SecureContextOptions {
    return optionsOf(this.material);
  }

  get presentAuthorities(): unknown {
    return this.authorities.present;
  }

  authorize(peer: Peer | null): Role {
    this.authorities.check(peer);
    return this.map.authorize(peer, this.material.sha1);
  }

  /** Before the handshake of each connection: a new server.pem counts from the next one on, whoever put it there and however. */
  attach(server: Server): void {
    this.server = server;
    server.prependListener('connection', () => this.refresh());
  }

  reload(): () => void {
    const material = this.read();
    return () => {
      this.server?.setSecureContext(optionsOf(material));
      this.authorities.replace(material.ca);
      this.material = material;
    };
  }

  private refresh(): void {
    const version = this.lookAtFiles();
    if (version === this.version) return;
    // Once for each change, good or bad; and before they are read, so that what comes meanwhile is another one.
    this.version = version;
    try {
      this.reload()();
      this.log.info({sha1: this.material.sha1}, 'took over new certificates');
    } catch (error) {
      this.log.error({}, `new certificates: ${messageOf(error)}; the old ones stay`);
    }
  }

  private read(): TlsMaterial {
    const material = readTls(this.files, ganetiForbiddenKeyMode);
    // No reason to stay away: Ganeti replaces it only where the node daemon runs, and a clock may be wrong.
    const unfit = outOfDate(this.files, material);
    if (unfit !== null) this.log.warn({}, unfit);
    return material;
  }

  private lookAtFiles(): string {
    try {
      return [...new Set(Object.values(this.files) as string[])].map(fileVersion).join(' ');
    } catch (error) {
      return messageOf(error); // what else there is to say is said when they are read
    }
  }
}
