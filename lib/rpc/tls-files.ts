/** Certificates, keys and CAs as they lie on disk: read, and checked to fit together. */
import {X509Certificate, createPrivateKey} from 'node:crypto';
import type {KeyObject} from 'node:crypto';
import {closeSync, constants, fstatSync, openSync, readFileSync} from 'node:fs';
import {messageOf} from '../base/errors';
import {wallMs} from '../base/duration';
import {limits} from '../base/limits';

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** What a connection is made from: PEM texts that have been checked to fit together. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
  /** The certificate's own fingerprint, as Ganeti spells it: `AB:CD:…`. */
  readonly sha1: string;
  /** The certificate's validity, ms since the epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Reads a PEM file whose mode has none of `forbiddenMode`. */
function readPem(path: string, what: string, forbiddenMode: number): Buffer {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    const {mode, size} = fstatSync(fd);
    if ((mode & forbiddenMode) !== 0) throw new Error(`may be read by others (mode ${(mode & 0o777).toString(8)}); chmod 600 it`);
    if (size > limits.maxConfigBytes) throw new Error('is too large to be one');
    return readFileSync(fd);
  } catch (error) {
    throw new Error(`${what} ${path}: ${messageOf(error)}`);
  } finally {
    closeSync(fd);
  }
}

/** What openssl(1) makes PEM from, by how the DER of it begins after its length; null for what is no DER. */
function commandFor(bytes: Buffer): string | null {
  if (bytes[0] !== 0x30) return null;
  const lengthBytes = bytes[1]! < 0x80 ? 0 : bytes[1]! & 0x7f;
  const begin = bytes.toString('hex', 2 + lengthBytes, 5 + lengthBytes);
  if (begin === '020103') return 'PKCS #12, and not PEM: openssl pkcs12 -nodes';
  return begin.startsWith('02') ? 'DER, and not PEM: openssl pkey -inform DER' : 'DER, and not PEM: openssl x509 -inform DER';
}

/** Throws for a text in which nothing of the kind is: it says what the file is, and what makes PEM of it. */
function nothingIn(pem: Buffer, what: string): never {
  const command = commandFor(pem);
  throw new Error(command === null ? `there is no PEM ${what} in it` : `it is ${command} -in FILE -out FILE.pem makes PEM of it`);
}

/** The certificates of a PEM text, all of them: OpenSSL would take those before a damaged one and not say a word. */
export function readCertificates(pem: Buffer): readonly [X509Certificate, ...X509Certificate[]] {
  const text = pem.toString('latin1');
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length !== text.split(/-----BEGIN [A-Z ]*CERTIFICATE-----/).length - 1) throw new Error('a certificate in it is cut short');
  const [first, ...others] = blocks.map(readCertificate);
  return first === undefined ? nothingIn(pem, 'certificate') : [first, ...others];
}

function readCertificate(block: string): X509Certificate {
  try {
    return new X509Certificate(block);
  } catch {
    throw new Error('a certificate in it is damaged');
  }
}

/** What OpenSSL says of a key it cannot read helps nobody. */
function readKey(pem: Buffer): KeyObject {
  const text = pem.toString('latin1');
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text)) throw new Error('the key has a passphrase, which nobody is there to type: openssl pkey -in FILE -out FILE.open makes one without');
  if (!/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/.test(text)) nothingIn(pem, 'private key');
  try {
    return createPrivateKey(pem);
  } catch {
    throw new Error('the private key in it is cut short or damaged');
  }
}

const ofOthers = 0o077;
/** Ganeti gives its keys mode 440: others, and a group's pen, are too many. */
export const ganetiForbiddenKeyMode = 0o027;

/** Reads and checks certificate, key and CA, whatever their dates. Throws an Error that names the file and what is wrong with it. */
export function readTls(files: TlsFiles, forbiddenKeyMode: number = ofOthers): TlsMaterial {
  const cert = readPem(files.cert, 'certificate', 0);
  const key = readPem(files.key, 'key', forbiddenKeyMode);
  const ca = readPem(files.ca, 'CA', 0);
  const wrap = <T>(path: string, read: () => T): T => {
    try {
      return read();
    } catch (error) {
      throw new Error(`${path}: ${messageOf(error)}`);
    }
  };
  const [certificate] = wrap(files.cert, () => readCertificates(cert));
  wrap(files.ca, () => readCertificates(ca));
  const privateKey = wrap(files.key, () => readKey(key));
  if (!certificate.checkPrivateKey(privateKey)) throw new Error(`${files.key} is not the key of ${files.cert}`);
  return {cert, key, ca, sha1: certificate.fingerprint, notBeforeMs: Date.parse(certificate.validFrom), notAfterMs: Date.parse(certificate.validTo)};
}

/** Why a certificate is of no use now, with the clock that says so, or null. */
export function outOfDate({cert}: TlsFiles, {notBeforeMs, notAfterMs}: TlsMaterial): string | null {
  const now = wallMs();
  if (now >= notBeforeMs && now <= notAfterMs) return null;
  const why = now > notAfterMs ? `expired at ${new Date(notAfterMs).toISOString()}` : `is not valid before ${new Date(notBeforeMs).toISOString()}`;
  return `${cert} ${why}; this machine's clock says ${new Date(now).toISOString()}`;
}

/** Certificate, key and CA that have not expired. Throws an Error that names the file and what is wrong with it. */
export function loadTls(files: TlsFiles): TlsMaterial {
  const material = readTls(files);
  // One that is not valid yet may well be so by the clock of the other side.
  const unfit = outOfDate(files, material);
  if (unfit !== null && wallMs() >= material.notBeforeMs) throw new Error(unfit);
  return material;
}
