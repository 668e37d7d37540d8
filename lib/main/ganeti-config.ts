/** What the daemon is configured with in a Ganeti cluster: Ganeti's command line and files, and a small file of noded's own for limits. */
import {readFileSync} from 'node:fs';
import {ganetiDefaults, limits} from '../base/limits';
import {absolutePath} from './absolute-path';
import {paths, readFile, readFunctionConfig, readLimits, readRunDir, seconds} from './config';
import type {Config} from './config';
import {ConfigError} from './config-error';
import type {GanetiLine} from './ganeti-options';
import type {GanetiPaths} from './ganeti-paths';
import {addressOf, bareAddress, checkLoopback} from './listen-address';

/** Keys of ganeti-noded.conf, which mean what they mean in noded.conf(5). */
const keys = ['functions', 'drain_timeout', 'limits', 'function'];

const ipv6 = '10';
const defaultPort = 1811;
const maxPort = 65_535;

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

/** The port in services(5); Node has no getservbyname(3). */
function servicePort(): number {
  const entry = /^ganeti-noded\s+(\d+)\/tcp\b/m.exec(textOf('/etc/services'));
  return entry === null ? defaultPort : Number(entry[1]);
}

function readPort(given: string | undefined): number {
  if (given === undefined) return servicePort();
  if (!/^\d{1,5}$/.test(given) || Number(given) > maxPort) throw new ConfigError(`the port must be 0 to ${maxPort}, not ${given}`);
  return Number(given);
}

function readAddress({bind, interface: name}: GanetiLine, {primaryIpFamily}: GanetiPaths): string {
  const isIpv6 = textOf(primaryIpFamily) === ipv6;
  const any = isIpv6 ? '::' : '0.0.0.0';
  const given = bareAddress(bind ?? any);
  if (name === undefined) return given;
  if (given !== any) throw new ConfigError(`Can't specify both, bind address (${given}) and bind interface (${name})`);
  const found = addressOf(name, [isIpv6 ? 'IPv6' : 'IPv4']);
  if (found === undefined) throw new ConfigError(`Failed to find IP for interface ${name}`);
  return found;
}

/** Certificate, key and CA; server.pem has all three. */
export function tlsFiles({sslCert, sslKey}: GanetiLine, {serverPem}: GanetiPaths): {readonly cert: string; readonly key: string; readonly ca: string} {
  const cert = absolutePath(sslCert ?? serverPem);
  return {cert, key: absolutePath(sslKey ?? serverPem), ca: cert};
}

/** Throws a ConfigError with one clear line. */
export function ganetiConfig(line: GanetiLine, ganeti: GanetiPaths): Config {
  const file = readFile(ganeti.config, keys, true);
  const address = readAddress(line, ganeti);
  checkLoopback(address, line.ssl);
  return {
    port: readPort(line.port),
    address,
    tls: line.ssl ? tlsFiles(line, ganeti) : null,
    tlsMinVersion: 'TLSv1.2',
    roles: [],
    runDir: readRunDir(ganeti.runDir),
    durable: false,
    functionDirectories: file.get('functions', paths, [ganeti.functions]),
    optionalDirectories: [ganeti.functions],
    functionConfig: readFunctionConfig(file),
    limits: readLimits(file, ganetiDefaults),
    spawner: 'ganeti',
    onStop: 'drain',
    stopKillAfterMs: 0,
    drainTimeoutMs: file.get('drain_timeout', seconds, limits.ganetiDrainMs),
    daemonize: !line.foreground,
    pidFile: ganeti.pidFile,
    logFile: ganeti.logFile,
    debug: line.debug,
  };
}
