/**
 * TLS of both sides, and which certificate is which role (DESIGN.md section 9). The chain is proven by
 * the handshake; that says who somebody is, not what they may do. So every request is checked again,
 * against the roles as they are now: a certificate that was struck off loses its open connections' rights too.
 */
import {X509Certificate, constants as cryptoConstants} from 'node:crypto';
import type {DetailedPeerCertificate, PeerCertificate, SecureContextOptions, TLSSocket, TlsOptions} from 'node:tls';
import {NodedError} from '../base/errors';
import {wallMs} from '../base/duration';
import {limits} from '../base/limits';
import {readCertificates} from './tls-files';
import type {TlsMaterial} from './tls-files';

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

/** What a listening noded needs; also what `setSecureContext` takes on a reload. */
export function serverOptions({cert, key, ca}: TlsMaterial, minVersion: TlsVersion): TlsOptions & SecureContextOptions {
  return {
    cert,
    key,
    ca,
    minVersion,
    requestCert: true,
    rejectUnauthorized: true,
    // No tickets: with TLS 1.3 a resumed session can look authorized without any certificate (nodejs/node#35317).
    secureOptions: cryptoConstants.SSL_OP_NO_TICKET | cryptoConstants.SSL_OP_NO_RENEGOTIATION,
    handshakeTimeout: limits.handshakeTimeoutMs,
  };
}

/** What a master's connections need. */
export function clientOptions({cert, key, ca}: TlsMaterial): SecureContextOptions {
  return {cert, key, ca, minVersion: 'TLSv1.2'};
}

/** Who may call: a role of noded.conf(5). */
export interface Role {
  readonly name: string;
  /** SHA-256 fingerprints as 64 lower-case hexadecimal digits, or subjects as `CN=…,O=…`. */
  readonly certificates: readonly string[];
  /** Function names; `*` is every function. */
  readonly functions: readonly string[];
}

/** The role of everyone when there is no TLS, and of the local socket: it may do everything. */
export const localRole: Role = {name: 'local', certificates: [], functions: ['*']};

export function mayCall(role: Role, fnName: string): boolean {
  return role.functions.includes('*') || role.functions.includes(fnName);
}

/** A certificate's name in `certificates`: a fingerprint in one spelling, or the subject as it is. */
export function normalizeCertificate(text: string): string {
  const hex = text.replace(/^sha256:/i, '').replaceAll(':', '').toLowerCase();
  return /^[0-9a-f]{64}$/.test(hex) ? hex : text;
}

/** What is read once per connection from the peer's certificate. */
export interface Peer {
  readonly fingerprint: string;
  /** As Ganeti's map of master candidates has it: `AB:CD:…`. */
  readonly sha1: string;
  readonly subject: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** The CAs that the handshake has proven it against. */
  readonly against: unknown;
  /** The certificate and those above it, as far as the handshake has seen them and Node tells (24.21 and 26.8 do not: nodejs/node#65579). */
  readonly chain: () => readonly X509Certificate[];
}

export function peerOf(certificate: X509Certificate, against: unknown = null, chain = (): readonly X509Certificate[] => [certificate]): Peer {
  return {
    fingerprint: normalizeCertificate(certificate.fingerprint256),
    sha1: certificate.fingerprint,
    subject: certificate.subject.replaceAll('\n', ','),
    notBeforeMs: Date.parse(certificate.validFrom),
    notAfterMs: Date.parse(certificate.validTo),
    against,
    chain,
  };
}

/** The peer of a TLS connection that was checked against those CAs, or null if it showed no certificate (a resumed session may not have). */
export function peerOfSocket(socket: TLSSocket, against: unknown): Peer | null {
  // Not getPeerX509Certificate(): in a server Node 20 never frees what that gives, 4 kB for each connection.
  const raw = (socket.getPeerCertificate() as Partial<PeerCertificate> | null)?.raw;
  return raw === undefined || !socket.authorized ? null : peerOf(new X509Certificate(raw), against, () => chainOf(socket));
}

/** Asked of the socket again each time: thousands of connections need not remember it. */
function chainOf(socket: TLSSocket): readonly X509Certificate[] {
  const chain: X509Certificate[] = [];
  const seen = new Set<unknown>();
  let link = socket.getPeerCertificate(true) as Partial<DetailedPeerCertificate> | undefined;
  // The last one, which has signed itself, is its own issuer.
  while (link?.raw !== undefined && !seen.has(link)) {
    seen.add(link);
    chain.push(new X509Certificate(link.raw));
    link = link.issuerCertificate;
  }
  return chain;
}

/** Whether a certificate comes from one of the CAs, over those that were shown with it. */
function comesFrom(own: X509Certificate, cas: readonly X509Certificate[], shown: readonly X509Certificate[]): boolean {
  // Each is taken once: whoever shows them may have made dozens that have all signed one another.
  const left = new Set([...cas, ...shown.filter(({ca}) => ca)]);
  const queue = [own];
  for (let certificate = queue.pop(); certificate !== undefined; certificate = queue.pop()) {
    for (const issuer of left) {
      if (!certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey)) continue;
      if (cas.includes(issuer) && issuer.checkIssued(issuer)) return true;
      left.delete(issuer);
      queue.push(issuer);
    }
  }
  return false;
}

/** A peer whose certificate was good when its connection began. A new connection tells whether it still is. */
export class UntrustedError extends NodedError {
  constructor({fingerprint, subject}: Peer) {
    super('forbidden', {message: `the CA of the certificate sha256:${fingerprint} (${subject}) is not trusted any more`});
  }
}

const sameCertificates = (some: readonly X509Certificate[], others: readonly X509Certificate[]): boolean =>
  some.length === others.length && some.every((one) => others.some(({raw}) => raw.equals(one.raw)));

/** The CAs of a node. One that is struck off loses the rights of its certificates with their next request, on open connections too. */
export class Authorities {
  private cas: readonly X509Certificate[];
  /** Whether peers of before the last change come from one of these. */
  private trusted = new WeakMap<Peer, boolean>();

  constructor(ca: Buffer) {
    this.cas = readCertificates(ca);
  }

  /** What a handshake that begins now is checked against: another object after each change. */
  get present(): unknown {
    return this.cas;
  }

  replace(ca: Buffer): void {
    const cas = readCertificates(ca);
    if (sameCertificates(cas, this.cas)) return;
    this.cas = cas;
    this.trusted = new WeakMap();
  }

  /** Throws an UntrustedError for a peer whose CA is not trusted any more. */
  check(peer: Peer | null): void {
    if (peer === null || peer.against === this.cas) return;
    let isTrusted = this.trusted.get(peer);
    if (isTrusted === undefined) {
      const [own, ...others] = peer.chain();
      isTrusted = own !== undefined && comesFrom(own, this.cas, others);
      this.trusted.set(peer, isTrusted);
    }
    if (!isTrusted) throw new UntrustedError(peer);
  }
}

/** Who somebody is, for the log. */
export function nameOf(peer: Peer | null): {readonly subject?: string; readonly fingerprint?: string} {
  return peer === null ? {} : {subject: peer.subject, fingerprint: `sha256:${peer.fingerprint}`};
}

const inWords = (ms: number): string => new Date(ms).toISOString();

/** Between which dates a certificate is good. */
export function goodFor({notBeforeMs, notAfterMs}: Pick<Peer, 'notBeforeMs' | 'notAfterMs'>): string {
  return `good from ${inWords(notBeforeMs)} to ${inWords(notAfterMs)}`;
}

/** The same, and the clock of the node that refuses it for that. */
export function notGoodNow(peer: Peer): string {
  return `${goodFor(peer)}; this node's clock says ${inWords(wallMs())}`;
}

/** A peer whose certificate is good now. Throws no_certificate or certificate_expired. */
export function checkPeer(peer: Peer | null): Peer {
  if (peer === null) throw new NodedError('no_certificate');
  const now = wallMs();
  if (now < peer.notBeforeMs || now > peer.notAfterMs) throw new NodedError('certificate_expired', {message: `the client certificate is ${notGoodNow(peer)}`});
  return peer;
}

/** The role of a peer now. Throws no_certificate, certificate_expired or forbidden: default deny. */
export function roleOf(shown: Peer | null, roles: readonly Role[]): Role {
  const peer = checkPeer(shown);
  const role = roles.find(({certificates}) => certificates.includes(peer.fingerprint) || certificates.includes(peer.subject));
  if (role === undefined) throw new NodedError('forbidden', {message: `no role has the certificate sha256:${peer.fingerprint} (${peer.subject})`});
  return role;
}
