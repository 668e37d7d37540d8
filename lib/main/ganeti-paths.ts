/** Where Ganeti has its files. In a virtual cluster, several nodes on one machine, every path is below the node's own directory. */
import {basename, isAbsolute, join, normalize} from 'node:path';

const rootVariable = 'GANETI_ROOTDIR';
const hostVariable = 'GANETI_HOSTNAME';

export interface GanetiPaths {
  /** Certificate and key of the node daemon, and the CA of all others. */
  readonly serverPem: string;
  /** Certificate and key of this node as a master. */
  readonly clientPem: string;
  /** Who may call. */
  readonly candidates: string;
  /** `2` or `10`: the family of the cluster's addresses. */
  readonly primaryIpFamily: string;
  readonly pidFile: string;
  readonly logFile: string;
  /** noded's own: that of Ganeti may be written by a group, this one must not. */
  readonly runDir: string;
  /** noded's own, and need not be there. */
  readonly config: string;
  readonly functions: string;
}

/** The node's directory, empty for the real node. Throws if the variables do not fit together. */
function nodeRoot(env: NodeJS.ProcessEnv): string {
  const {[rootVariable]: directory = '', [hostVariable]: host = ''} = env;
  if (directory !== '' && !isAbsolute(directory)) throw new Error(`${rootVariable} must be an absolute path, not ${directory}`);
  if ((directory === '') !== (host === '')) throw new Error(`${rootVariable} and ${hostVariable} must be given together`);
  const root = normalize(directory).replace(/\/$/, '');
  if (directory !== '' && basename(root) !== host) throw new Error(`${rootVariable} must end with the name in ${hostVariable}, ${host}`);
  return directory === '' ? '' : root;
}

/** Throws if the environment names no node. */
export function ganetiPaths(env: NodeJS.ProcessEnv): GanetiPaths {
  const root = nodeRoot(env);
  const below = (path: string): string => join('/', root, path);
  return {
    serverPem: below('var/lib/ganeti/server.pem'),
    clientPem: below('var/lib/ganeti/client.pem'),
    candidates: below('var/lib/ganeti/ssconf_master_candidates_certs'),
    primaryIpFamily: below('var/lib/ganeti/ssconf_primary_ip_family'),
    pidFile: below('var/run/ganeti/ganeti-noded.pid'),
    logFile: below('var/log/ganeti/node-daemon.log'),
    runDir: below('var/run/ganeti-noded'),
    config: below('etc/noded/ganeti-noded.conf'),
    functions: below('etc/noded/functions.d'),
  };
}
