/** Who came to the door over TLS, and why he was not let in: told to the log and counted, because TLS itself cannot tell him. */
import {X509Certificate} from 'node:crypto';
import type {Server} from 'node:http';
import type {Socket} from 'node:net';
import type {PeerCertificate, TLSSocket} from 'node:tls';
import {errnoOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Log} from '../base/log';
import {LogLimit} from '../base/log-limit';
import {nameOf, notGoodNow, peerOf} from './tls';

/** Why a handshake came to nothing, as the metric has it. */
export type HandshakeRefusal = 'too_many' | 'timeout' | 'failed' | 'no_certificate' | 'certificate_expired' | 'certificate_not_yet_valid' | 'unknown_ca' | 'certificate_rejected';

export interface DoorOptions {
  readonly log: Log;
  readonly refused: (reason: HandshakeRefusal) => void;
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

class Door {
  private underWay = 0;
  /** Of a peer who is refused there is nothing left to ask by the time Node says so. */
  private readonly shown = new WeakMap<TLSSocket, Shown>();
  /** Two, so that those who fail in any way leave room for the certificates that somebody looks for in the log. */
  private readonly certificateLines = new LogLimit();
  private readonly otherLines = new LogLimit();

  constructor(private readonly options: DoorOptions) {}

  /** Each connection ends its own handshake in exactly one of the last two events. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => this.enter(socket));
    // Only here does Node name the socket before it looks at the certificate. What OpenSSL says of its keys is let go.
    server.on('keylog', (_keys: Buffer, socket: TLSSocket) => this.look(socket));
    server.on('secureConnection', (socket: TLSSocket) => this.arrive(socket));
    server.on('tlsClientError', (error: Error, socket: TLSSocket) => this.fail(error, socket));
  }

  private enter(socket: Socket): void {
    this.underWay += 1;
    if (this.underWay <= limits.maxHandshakes) return;
    this.refuse('too_many', socket.remoteAddress, 'a connection is refused: too many TLS handshakes are under way');
    socket.destroy();
  }

  private look(socket: TLSSocket): void {
    if (this.shown.has(socket)) return;
    const address = socket.remoteAddress;
    this.shown.set(socket, {raw: undefined, address});
    socket.prependOnceListener('secure', () => this.shown.set(socket, {raw: (socket.getPeerCertificate() as Partial<PeerCertificate> | null)?.raw, address}));
  }

  private arrive(socket: TLSSocket): void {
    this.underWay -= 1;
    this.shown.delete(socket);
  }

  private fail(error: Error, socket: TLSSocket): void {
    this.underWay -= 1;
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
