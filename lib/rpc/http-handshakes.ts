/** Who came to the door over TLS, and why he was not let in: told to the log and counted, because TLS itself cannot tell him. */
import {X509Certificate} from 'node:crypto';
import type {Server} from 'node:http';
import type {Socket} from 'node:net';
import type {PeerCertificate, TLSSocket} from 'node:tls';
import {errnoOf} from '../base/errors';
import type {Log} from '../base/log';
import {LogLimit} from '../base/log-limit';
import {HandshakeShares, shareOf} from './handshake-shares';
import type {Handshake} from './handshake-shares';
import {nameOf, notGoodNow, peerOf} from './tls';

/** Why a handshake came to nothing, as the metric has it. */
export type HandshakeRefusal = 'too_many' | 'timeout' | 'failed' | 'no_certificate' | 'certificate_expired' | 'certificate_not_yet_valid' | 'unknown_ca' | 'certificate_rejected';

/** What is asked and told of handshakes. */
export interface HandshakeWatch {
  readonly refused: (reason: HandshakeRefusal) => void;
  /** The CAs that a handshake which begins now is checked against. */
  readonly authorities: () => unknown;
}

interface DoorOptions extends HandshakeWatch {
  readonly log: Log;
  /** The handshake has proven who the peer is, against that. */
  readonly proven: (socket: TLSSocket, against: unknown) => void;
}

/** From the first byte of a connection on; Node names its TLS socket later. */
interface Arrival extends Handshake {
  readonly against: unknown;
  /** Thousands of connections need not remember how they began. */
  readonly forget: () => void;
}

/** What OpenSSL says of a chain; every other word of it is `certificate_rejected`. */
const verdicts: Readonly<Record<string, HandshakeRefusal>> = {
  CERT_HAS_EXPIRED: 'certificate_expired',
  CERT_NOT_YET_VALID: 'certificate_not_yet_valid',
  UNABLE_TO_GET_ISSUER_CERT: 'unknown_ca',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'unknown_ca',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'unknown_ca',
  CERT_SIGNATURE_FAILURE: 'unknown_ca',
  SELF_SIGNED_CERT_IN_CHAIN: 'unknown_ca',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'unknown_ca',
};

/** How a handshake fails without a certificate to look at; everything else is `failed`. */
const failures: Readonly<Record<string, HandshakeRefusal>> = {
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'no_certificate',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'timeout',
};

/** What a peer has shown, and from where. */
interface Shown {
  readonly raw: Buffer | undefined;
  readonly address: string | undefined;
}

const portOf = ({remoteAddress, remotePort}: Socket): string => `${remoteAddress} ${remotePort}`;

class Door {
  private readonly shares = new HandshakeShares();
  /** Those under way, by the port that they come from: all that the two sockets of a connection have in common. */
  private readonly arrivals = new Map<string, Arrival>();
  /** Of a peer who is refused there is nothing left to ask by the time Node says so. */
  private readonly shown = new WeakMap<TLSSocket, Shown>();
  /** Two, so that those who fail in any way leave room for the certificates that somebody looks for in the log. */
  private readonly certificateLines = new LogLimit();
  private readonly otherLines = new LogLimit();

  constructor(private readonly options: DoorOptions) {}

  watch(server: Server): void {
    server.on('connection', (socket: Socket) => this.enter(socket));
    // Only here does Node name the socket before it looks at the certificate. What OpenSSL says of its keys is let go.
    server.on('keylog', (_keys: Buffer, socket: TLSSocket) => this.look(socket));
    server.on('secureConnection', (socket: TLSSocket) => this.arrive(socket));
    server.on('tlsClientError', (error: Error, socket: TLSSocket) => this.fail(error, socket));
  }

  private enter(socket: Socket): void {
    const {remoteAddress: address} = socket;
    if (address === undefined) return; // it has gone already
    const name = portOf(socket);
    const gone = (): void => this.leave(name, arrival);
    const arrival: Arrival = {share: shareOf(address), silent: true, close: () => socket.destroy(), against: this.options.authorities(), forget: () => socket.off('close', gone)};
    const closed = this.shares.begin(arrival);
    for (const {share, close} of closed ?? []) {
      this.refuse('too_many', share, 'a connection is closed for a new one: too many TLS handshakes are under way');
      close();
    }
    if (closed === null) {
      this.refuse('too_many', address, 'a connection is refused: too many TLS handshakes are under way');
      socket.destroy();
      return;
    }
    this.arrivals.set(name, arrival);
    socket.once('close', gone);
  }

  private leave(name: string, arrival: Arrival): void {
    arrival.forget();
    this.shares.end(arrival);
    if (this.arrivals.get(name) === arrival) this.arrivals.delete(name);
  }

  private look(socket: TLSSocket): void {
    if (this.shown.has(socket)) return;
    const address = socket.remoteAddress;
    const arrival = this.arrivals.get(portOf(socket));
    if (arrival !== undefined) arrival.silent = false;
    this.shown.set(socket, {raw: undefined, address});
    socket.prependOnceListener('secure', () => this.shown.set(socket, {raw: (socket.getPeerCertificate() as Partial<PeerCertificate> | null)?.raw, address}));
  }

  private arrive(socket: TLSSocket): void {
    const name = portOf(socket);
    const arrival = this.arrivals.get(name);
    this.shown.delete(socket);
    if (arrival === undefined) return;
    this.leave(name, arrival);
    this.shares.acquaint(arrival.share);
    this.options.proven(socket, arrival.against);
  }

  private fail(error: Error, socket: TLSSocket): void {
    const {raw, address} = this.shown.get(socket) ?? {raw: undefined, address: socket.remoteAddress};
    const verdict = socket.authorizationError as unknown as string | null | undefined; // its type says Error, and it is a code of OpenSSL
    if (typeof verdict === 'string') return this.refuseCertificate(verdict, {raw, address});
    // Somebody only looked whether the port is open, as Ganeti does before it asks for anything; or was refused above.
    if (errnoOf(error) === 'ECONNRESET') return this.options.log.debug({}, `a TLS handshake was broken off: ${error.message}`);
    this.refuse(failures[errnoOf(error)] ?? 'failed', address, `a TLS handshake failed: ${error.message.trim()}`);
  }

  private refuseCertificate(verdict: string, {raw, address}: Shown): void {
    const reason = verdicts[verdict] ?? 'certificate_rejected';
    this.options.refused(reason);
    const peer = raw === undefined ? null : peerOf(new X509Certificate(raw));
    const unsaid = this.certificateLines.take(`${reason} ${peer?.fingerprint ?? address}`);
    if (unsaid === null) return;
    const dates = peer !== null && /^CERT_(HAS|NOT)_/.test(verdict) ? `; it is ${notGoodNow(peer)}` : '';
    this.options.log.warn({reason, ...nameOf(peer), address, ...unsaid}, `a client certificate is refused: ${verdict}${dates}`);
  }

  private refuse(reason: HandshakeRefusal, address: string | undefined, message: string): void {
    this.options.refused(reason);
    const unsaid = this.otherLines.take(reason);
    if (unsaid !== null) this.options.log.info({reason, address, ...unsaid}, message);
  }
}

/** Watches the handshakes of a TLS server. */
export function watchHandshakes(server: Server, options: DoorOptions): void {
  new Door(options).watch(server);
}
