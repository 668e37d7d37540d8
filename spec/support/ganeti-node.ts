/** A node's directories for Ganeti's modules, without a cluster: they take what GANETI_ROOTDIR names for the root of the filesystem. */
import * as fs from 'node:fs';
import {join} from 'node:path';
import {ganetiForkerEnvironment} from '../../lib/proc/environment';

export const ganetiForker = join(__dirname, '../../libexec/noded-ganeti');

/** Where the distribution puts Ganeti's modules. */
export const ganetiShare = '/usr/share/ganeti/default';

/** Why functions of Ganeti cannot be run here; null if they can. Under CI they must be there. */
export function ganetiProblem(): string | null {
  if (fs.existsSync(join(ganetiShare, 'ganeti/server/noded.py'))) return null;
  if (process.env.CI === 'true') throw new Error('the Debian package ganeti is not installed');
  return 'the Debian package ganeti is not installed';
}

export interface GanetiNode {
  /** Below it is what Ganeti takes for /var/lib/ganeti and the like. */
  readonly root: string;
  readonly env: Readonly<Record<string, string>>;
  readonly log: string;
  readonly queue: string;
}

/** Makes a node in a directory. */
export function makeGanetiNode(directory: string): GanetiNode {
  // Ganeti wants the host's name at the end of the path.
  const root = join(directory, 'node1');
  for (const path of ['var/log/ganeti', 'var/lib/ganeti/queue/archive', 'var/run/ganeti', 'etc/ganeti']) fs.mkdirSync(join(root, path), {recursive: true});
  const env = {...ganetiForkerEnvironment({mlock: false, debug: false, syslog: 'no'}), GANETI_ROOTDIR: root, GANETI_HOSTNAME: 'node1'};
  return {root, env, log: join(root, 'var/log/ganeti/node-daemon.log'), queue: join(root, 'var/lib/ganeti/queue')};
}
