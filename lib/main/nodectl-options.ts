/** The options that the commands of nodectl share, and what they become: clients of nodes. */
import {X509Certificate} from 'node:crypto';
import {isIPv6} from 'node:net';
import {messageOf} from '../base/errors';
import type {HealthReport} from '../rpc/client-health';
import {NodeClient} from '../rpc/client';
import type {CallReference} from '../rpc/protocol';
import {ganetiForbiddenKeyMode, loadTls, readTls} from '../rpc/tls-files';
import type {TlsMaterial} from '../rpc/tls-files';
import {ganetiPaths} from './ganeti-paths';
import {UsageError} from './nodectl-exit';

export const defaultPort = 1811;
const defaultFiles = {cert: '/etc/noded/master.crt', key: '/etc/noded/master.key', ca: '/etc/noded/ca.crt'} as const;

export interface ConnectionOptions {
  readonly nodes?: string;
  readonly port?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly ca?: string;
  /** False for --no-ssl. */
  readonly ssl: boolean;
  readonly ganeti?: boolean;
  readonly json?: boolean;
}

export interface NodeAddress {
  /** As it was given: the node's name in all output. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

function readPort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535) throw new UsageError(`${text}: not a port`);
  return port;
}

/** `a,b:1812,[::1]:1811`; an IPv6 address without a port needs no brackets. */
export function parseNodes(text: string, portText = String(defaultPort)): readonly NodeAddress[] {
  const port = readPort(portText);
  const names = new Set(text.split(',').map((name) => name.trim()).filter((name) => name !== ''));
  if (names.size === 0) throw new UsageError('no nodes are named');
  return [...names].map((name) => {
    if (isIPv6(name)) return {name, host: name, port};
    const [, address, plain, ownPort] = /^(?:\[(.+)\]|([A-Za-z0-9._-]+))(?::(\d+))?$/.exec(name) ?? [];
    const host = plain ?? address;
    if (host === undefined || (address !== undefined && !isIPv6(address))) throw new UsageError(`${name}: not a node's name`);
    return {name, host, port: ownPort === undefined ? port : readPort(ownPort)};
  });
}

/** Seconds of the command line in ms. */
export function parseSeconds(text: string, option: string): number {
  const seconds = Number(text);
  if (!/^\d*\.?\d+$/.test(text) || !Number.isFinite(seconds)) throw new UsageError(`${option} ${text}: must be a number of seconds, 0 or more`);
  return seconds * 1000;
}

export function parseRequestId(text: string): string {
  if (!/^[A-Za-z0-9._:-]{8,128}$/.test(text)) throw new UsageError(`--request-id ${text}: must be 8 to 128 characters of A-Z a-z 0-9 . _ : -`);
  return text;
}

/** The call that a command is about: an ID, or --request-id. */
export function parseReference(callId: string | undefined, requestId: string | undefined): CallReference {
  if ((callId === undefined) === (requestId === undefined)) throw new UsageError('give the ID of a call or --request-id ID');
  return callId === undefined ? {requestId: parseRequestId(requestId!)} : {callId};
}

export interface OpenNode {
  readonly name: string;
  readonly client: NodeClient;
}

export interface ClientHabits {
  /** How long a node that does not answer is asked again; 0: once is enough. */
  readonly patienceMs?: number;
  readonly onHealth?: (name: string, report: HealthReport) => void;
}

function loadCertificate({cert, key, ca}: ConnectionOptions): TlsMaterial {
  try {
    return loadTls({cert: cert ?? defaultFiles.cert, key: key ?? defaultFiles.key, ca: ca ?? defaultFiles.ca});
  } catch (error) {
    throw new UsageError(`${messageOf(error)} (-C, -K and --ca name the files of this master; with --no-ssl there are none)`);
  }
}

/** Certificates and the name of the nodes in them; null without TLS. */
interface Identity {
  readonly tls: TlsMaterial | null;
  readonly serverName?: string;
}

/** In a Ganeti cluster all nodes show the same certificate, whose name is nobody's. */
function ganetiIdentity(): Identity {
  try {
    const {clientPem, serverPem} = ganetiPaths(process.env);
    const tls = readTls({cert: clientPem, key: clientPem, ca: serverPem}, ganetiForbiddenKeyMode);
    const serverName = /^CN=(.+)$/m.exec(new X509Certificate(tls.ca).subject)?.[1];
    if (serverName === undefined) throw new Error(`${serverPem} has no common name`);
    return {tls, serverName};
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}

function identityOf(options: ConnectionOptions): Identity {
  if (options.ganeti !== true) return {tls: options.ssl ? loadCertificate(options) : null};
  if (!options.ssl || [options.cert, options.key, options.ca].some((file) => file !== undefined)) throw new UsageError('--ganeti has its own certificates');
  return ganetiIdentity();
}

/** A client per node. Throws a UsageError that names the file or option that is wrong. */
export function openNodes(options: ConnectionOptions, {patienceMs, onHealth}: ClientHabits): readonly OpenNode[] {
  const addresses = parseNodes(options.nodes ?? '127.0.0.1', options.port);
  const identity = identityOf(options);
  try {
    return addresses.map(({name, host, port}) => {
      const report = onHealth === undefined ? {} : {onHealth: (health: HealthReport) => onHealth(name, health)};
      return {name, client: new NodeClient({host, port, ...identity, ...report, ...(patienceMs === undefined ? {} : {patienceMs})})};
    });
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}
