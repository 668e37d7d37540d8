/** A CA, a node and a master for one run, made with the openssl command. */
import {execFileSync} from 'node:child_process';
import {writeFileSync} from 'node:fs';
import {join} from 'node:path';

export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

export interface Certificates {
  readonly ca: string;
  readonly node: CertificateFiles;
  readonly master: CertificateFiles;
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-sha256'];

function openssl(...args: string[]): void {
  execFileSync('openssl', args, {stdio: ['ignore', 'ignore', 'pipe']});
}

function leaf(directory: string, name: string, extensions: string): CertificateFiles {
  const at = (end: string): string => join(directory, `${name}.${end}`);
  writeFileSync(at('ext'), extensions);
  openssl('req', '-new', ...newKey, '-subj', `/CN=${name}`, '-keyout', at('key'), '-out', at('csr'));
  openssl('x509', '-req', '-sha256', '-days', '2', '-in', at('csr'), '-CA', join(directory, 'ca.crt'), '-CAkey', join(directory, 'ca.key'), '-CAcreateserial', '-extfile', at('ext'), '-out', at('crt'));
  return {cert: at('crt'), key: at('key')};
}

export function makeCertificates(directory: string): Certificates {
  const ca = join(directory, 'ca.crt');
  openssl('req', '-x509', ...newKey, '-days', '2', '-subj', '/CN=bench CA', '-keyout', join(directory, 'ca.key'), '-out', ca);
  return {
    ca,
    node: leaf(directory, 'node', 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n'),
    master: leaf(directory, 'master', 'extendedKeyUsage=clientAuth\n'),
  };
}

/** Lines of noded.conf that make a node of it, and the master a role. */
export function tlsConfig({ca, node}: Certificates): string {
  return `cert = ${JSON.stringify(node.cert)}\nkey = ${JSON.stringify(node.key)}\nca = ${JSON.stringify(ca)}\n[roles.master]\ncertificates = ["CN=master"]\nfunctions = ["*"]\n`;
}
