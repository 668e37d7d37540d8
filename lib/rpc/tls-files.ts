/** Certificates, keys and CAs as they lie on disk: read, and checked to fit together. */
import {X509Certificate, createPrivateKey} from 'node:crypto';
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

/** The certificates of a PEM text, all of them: OpenSSL would take those before a damaged one and not say a word. */
export function readCertificates(pem: Buffer): readonly [X509Certificate, ...X509Certificate[]] {
  const text = pem.toString('latin1');
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length !== text.split(/-----BEGIN [A-Z ]*CERTIFICATE-----/).length - 1) throw new Error('a certificate in it is cut short');
  const [first, ...others] = blocks.map((block) => new X509Certificate(block));
  if (first === undefined) throw new Error('there is no PEM certificate in it');
  return [first, ...others];
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
  const privateKey = wrap(files.key, () => createPrivateKey(key));
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
