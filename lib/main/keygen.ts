/** nodectl keygen: a CA and the certificates of a node and of a master, made with the openssl command. */
import {execFile} from 'node:child_process';
import {X509Certificate} from 'node:crypto';
import * as fs from 'node:fs';
import {isIP} from 'node:net';
import {hostname} from 'node:os';
import * as path from 'node:path';
import {promisify} from 'node:util';
import {errnoOf, messageOf} from '../base/errors';
import {peerOf} from '../rpc/tls';
import {absolutePath} from './absolute-path';
import {UsageError, exitCodes} from './nodectl-exit';
import type {ExitCode} from './nodectl-exit';
import type {Stdout} from './nodectl-stdout';

export interface KeygenOptions {
  /** More names and addresses of the node. */
  readonly name: readonly string[];
}

const caDays = 3_650;
const leafDays = 730;
const dayMs = 86_400_000;
/** So far behind, a time zone included, may the clock of a node or a master be. */
const leewayMs = dayMs;

/** Of `openssl ca`: `openssl x509` has no way to date a certificate back before OpenSSL 3.4. */
const issuing = `
[ca]
default_ca = noded
[noded]
new_certs_dir = .
database = index
rand_serial = yes
default_md = sha256
policy = names
[names]
commonName = supplied
`;

interface Certificate {
  /** The files are `<file>.crt` and `<file>.key`. */
  readonly file: 'ca' | 'node' | 'master';
  readonly subject: string;
  readonly days: number;
  /** Lines of an openssl extension section. */
  readonly extensions: readonly string[];
}

const run = promisify(execFile);

async function openssl(directory: string, ...args: string[]): Promise<void> {
  try {
    await run('openssl', args, {cwd: directory, encoding: 'utf8'});
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw new UsageError('keygen needs the openssl command, and it is not installed');
    const said = String((error as {stderr?: unknown}).stderr ?? '').trim().split('\n').at(-1);
    throw new UsageError(`openssl ${args[0]} failed: ${said || messageOf(error)}`);
  }
}

const isName = (name: string): boolean => isIP(name) !== 0 || /^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?$/.test(name);

function subjectAltName(names: readonly string[]): string {
  const all = new Set(['localhost', '127.0.0.1', '::1', ...[hostname().toLowerCase()].filter(isName), ...names]);
  return [...all].map((name) => `${isIP(name) === 0 ? 'DNS' : 'IP'}:${name}`).join(',');
}

function certificates(names: readonly string[]): readonly Certificate[] {
  const leaf = (purpose: string): string[] => [
    'basicConstraints=critical,CA:FALSE',
    'keyUsage=critical,digitalSignature',
    `extendedKeyUsage=${purpose}`,
    'subjectKeyIdentifier=hash',
    'authorityKeyIdentifier=keyid',
  ];
  const ca = ['basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign,cRLSign', 'subjectKeyIdentifier=hash'];
  return [
    {file: 'ca', subject: '/CN=noded CA', days: caDays, extensions: ca},
    {file: 'node', subject: '/CN=node', days: leafDays, extensions: [...leaf('serverAuth'), `subjectAltName=${subjectAltName(names)}`]},
    {file: 'master', subject: '/CN=master', days: leafDays, extensions: leaf('clientAuth')},
  ];
}

/** An instant as openssl(1) reads it. */
const stamp = (ms: number): string => new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '');

async function makeCertificate(directory: string, {file, subject, days, extensions}: Certificate): Promise<void> {
  const [key, request, section] = [`${file}.key`, `${file}.csr`, `${file}.ext`];
  await openssl(directory, 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', key);
  fs.writeFileSync(path.join(directory, section), `${extensions.join('\n')}\n`);
  await openssl(directory, 'req', '-new', '-sha256', '-key', key, '-subj', subject, '-out', request);
  const signer = file === 'ca' ? ['-selfsign'] : ['-cert', 'ca.crt'];
  const from = Date.now() - leewayMs;
  const dates = ['-startdate', stamp(from), '-enddate', stamp(from + days * dayMs)];
  await openssl(directory, 'ca', '-batch', '-notext', '-config', 'issuing', '-keyfile', 'ca.key', ...signer, ...dates, '-extfile', section, '-in', request, '-out', `${file}.crt`);
}

/** The lines of noded.conf(5) that make these files work. */
function configuration(directory: string, master: X509Certificate): string {
  const at = (name: string): string => JSON.stringify(path.join(directory, name));
  return [
    `cert = ${at('node.crt')}`,
    `key = ${at('node.key')}`,
    `ca = ${at('ca.crt')}`,
    '',
    '[roles.master]',
    `certificates = ["sha256:${peerOf(master).fingerprint}"]`,
    'functions = ["*"]',
    '',
  ].join('\n');
}

const results = ['ca.crt', 'ca.key', 'node.crt', 'node.key', 'master.crt', 'master.key', 'noded.conf'] as const;

function refuseToOverwrite(directory: string): void {
  const there = results.filter((name) => fs.existsSync(path.join(directory, name)));
  if (there.length > 0) throw new UsageError(`${directory} already has ${there.join(', ')}; nothing was made`);
}

/** Makes all files in a directory of their own, and links them to their places only when every one is right. */
async function makeFiles(directory: string, names: readonly string[]): Promise<string> {
  // Not recursive: below a directory such as /proc that makes Node 20 try for ever.
  if (!fs.existsSync(directory)) fs.mkdirSync(directory, {mode: 0o700});
  refuseToOverwrite(directory);
  const workshop = fs.mkdtempSync(path.join(directory, '.keygen-'));
  try {
    fs.writeFileSync(path.join(workshop, 'issuing'), issuing);
    fs.writeFileSync(path.join(workshop, 'index'), '');
    for (const certificate of certificates(names)) await makeCertificate(workshop, certificate);
    const text = configuration(directory, new X509Certificate(fs.readFileSync(path.join(workshop, 'master.crt'))));
    fs.writeFileSync(path.join(workshop, 'noded.conf'), text);
    // A link, unlike a rename, never replaces a file that somebody made meanwhile.
    for (const name of results) fs.chmodSync(path.join(workshop, name), name.endsWith('.key') ? 0o600 : 0o644);
    for (const name of results) fs.linkSync(path.join(workshop, name), path.join(directory, name));
    return text;
  } finally {
    fs.rmSync(workshop, {recursive: true, force: true});
  }
}

/** Prints the configuration. Throws a UsageError if anything stands in the way: then nothing was made. */
export async function keygen(stdout: Stdout, directory: string, {name: names}: KeygenOptions): Promise<ExitCode> {
  const wrong = names.find((name) => !isName(name));
  if (wrong !== undefined) throw new UsageError(`--name ${wrong}: neither a host name nor an address`);
  try {
    stdout.write(await makeFiles(absolutePath(directory), names));
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError(messageOf(error));
  }
  return exitCodes.ok;
}
