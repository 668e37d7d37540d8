/** Certificates as openssl(1) makes them: of an authority, with any dates, and of nobody. */
import {X509Certificate} from 'node:crypto';
import {execFileSync} from 'node:child_process';
import {mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {once} from 'node:events';
import type {AddressInfo} from 'node:net';
import * as tls from 'node:tls';
import type {TlsPaths} from './daemon';

export interface IssueOptions {
  /** As openssl(1) reads them: `/O=Site/CN=master`. */
  readonly subject: string;
  /** From a day ago to a day from now. */
  readonly from?: Date;
  readonly to?: Date;
  readonly usage?: 'clientAuth' | 'serverAuth';
}

const dayMs = 86_400_000;

const configuration = `
[ca]
default_ca = site
[site]
new_certs_dir = .
database = index
serial = serial
default_md = sha256
default_days = 1
policy = any
unique_subject = no
string_mask = utf8only
[any]
commonName = optional
organizationName = optional
[clientAuth]
basicConstraints = critical,CA:FALSE
extendedKeyUsage = clientAuth
[serverAuth]
basicConstraints = critical,CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
`;

/** openssl(1)'s spelling of an instant. */
function stamp(instant: Date): string {
  return `${instant.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;
}

function openssl(directory: string, ...args: readonly string[]): void {
  execFileSync('openssl', args, {cwd: directory, stdio: ['ignore', 'ignore', 'pipe']});
}

/** A private key and something that says whose it is, in one go. */
const newKey = (key: string): string[] => ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key];

const isAuthority = ['-addext', 'basicConstraints=critical,CA:TRUE'];

/** A directory of keys and certificates that goes away with `dispose`. */
export class CertificateShop {
  /** Made with the first of them: a block whose specs are all left out is never asked to clean up. */
  private root: string | null = null;
  private made = 0;

  newDirectory(): string {
    this.root ??= mkdtempSync(join(tmpdir(), 'noded-certificates-'));
    const directory = join(this.root, String(++this.made));
    mkdirSync(directory);
    return directory;
  }

  authority(name: string): Authority {
    return new Authority(this.newDirectory(), name);
  }

  /** A certificate that nobody but its owner has signed. `ca` is whom its owner trusts. */
  selfSigned(subject: string, ca: string): TlsPaths {
    const directory = this.newDirectory();
    openssl(directory, ...newKey('own.key'), '-x509', '-days', '1', '-subj', subject, '-out', 'own.crt');
    return {cert: join(directory, 'own.crt'), key: join(directory, 'own.key'), ca};
  }

  dispose(): void {
    if (this.root !== null) rmSync(this.root, {recursive: true, force: true});
    this.root = null;
  }
}

export class Authority {
  readonly certificate: string;
  private issued = 0;

  constructor(
    private readonly directory: string,
    private readonly name: string,
    signer?: Authority,
  ) {
    this.certificate = join(directory, 'ca.crt');
    writeFileSync(join(directory, 'openssl.cnf'), configuration);
    writeFileSync(join(directory, 'index'), '');
    writeFileSync(join(directory, 'serial'), '1000\n');
    const request = [...newKey('ca.key'), '-subj', `/CN=${name}`, ...isAuthority];
    if (signer === undefined) {
      openssl(directory, ...request, '-x509', '-days', '2', '-out', 'ca.crt');
      return;
    }
    openssl(directory, ...request, '-out', 'ca.csr');
    openssl(directory, 'x509', '-req', '-in', 'ca.csr', '-CA', signer.certificate, '-CAkey', join(signer.directory, 'ca.key'), '-set_serial', '1', '-days', '2', '-copy_extensions', 'copy', '-out', 'ca.crt');
  }

  /** An authority whose certificate this one has signed. */
  subordinate(name: string): Authority {
    const directory = join(this.directory, name);
    mkdirSync(directory);
    return new Authority(directory, name, this);
  }

  /** The same authority, with the same key and another certificate. It issues nothing. */
  renewed(): {readonly certificate: string} {
    openssl(this.directory, 'req', '-x509', '-key', 'ca.key', '-days', '3', '-subj', `/CN=${this.name}`, ...isAuthority, '-out', 'renewed.crt');
    return {certificate: join(this.directory, 'renewed.crt')};
  }

  /** `trusts`: the authority that the owner trusts, this one unless said otherwise. */
  issue({subject, from = new Date(Date.now() - dayMs), to = new Date(Date.now() + dayMs), usage = 'clientAuth'}: IssueOptions, trusts: Authority = this): TlsPaths {
    const name = `issued-${++this.issued}`;
    openssl(this.directory, ...newKey(`${name}.key`), '-subj', subject, '-utf8', '-out', `${name}.csr`);
    const dates = ['-startdate', stamp(from), '-enddate', stamp(to)];
    openssl(this.directory, 'ca', '-batch', '-notext', '-preserveDN', '-config', 'openssl.cnf', '-cert', 'ca.crt', '-keyfile', 'ca.key', '-extensions', usage, ...dates, '-in', `${name}.csr`, '-out', `${name}.crt`);
    return {cert: join(this.directory, `${name}.crt`), key: join(this.directory, `${name}.key`), ca: trusts.certificate};
  }
}

/** Whether this Node tells a server what a client has shown beside its certificate: 24.21 and 26.8 do not (nodejs/node#65579). */
export async function tellsChains(site: Authority, client: TlsPaths, ca: string): Promise<boolean> {
  const own = site.issue({subject: '/CN=node', usage: 'serverAuth'});
  const server = tls.createServer({cert: readFileSync(own.cert), key: readFileSync(own.key), ca: readFileSync(ca), requestCert: true}).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const asking = tls.connect({host: '127.0.0.1', port: (server.address() as AddressInfo).port, cert: readFileSync(client.cert), key: readFileSync(client.key), rejectUnauthorized: false});
  try {
    const [socket] = (await once(server, 'secureConnection')) as [tls.TLSSocket];
    return (socket.getPeerCertificate(true) as Partial<tls.DetailedPeerCertificate>).issuerCertificate !== undefined;
  } finally {
    asking.destroy();
    server.close();
  }
}

/** SHA-1, as Ganeti writes it: `AB:CD:…`. */
export function sha1Of({cert}: TlsPaths): string {
  return new X509Certificate(readFileSync(cert)).fingerprint;
}

/** SHA-256, as 64 hexadecimal digits. */
export function fingerprintOf({cert}: Pick<TlsPaths, 'cert'>): string {
  return new X509Certificate(readFileSync(cert)).fingerprint256.replaceAll(':', '').toLowerCase();
}

/** `[roles.NAME]` of noded.conf(5). */
export function roleText(name: string, certificates: readonly string[], functions: readonly string[] = ['*']): string {
  return `[roles.${name}]\ncertificates = ${JSON.stringify(certificates)}\nfunctions = ${JSON.stringify(functions)}\n`;
}
