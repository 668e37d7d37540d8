/** A node's directories for Ganeti's modules, without a cluster: they take what GANETI_ROOTDIR names for the root of the filesystem. */
import * as fs from 'node:fs';
import {join} from 'node:path';
import {ganetiForkerEnvironment} from '../../lib/proc/fork-server';

export const ganetiForker = join(__dirname, '../../libexec/noded-ganeti');

/** Where the distribution puts Ganeti's modules. */
export const ganetiShare = '/usr/share/ganeti/default';

function problemHere(): string | null {
  const installed = fs.existsSync(join(ganetiShare, 'ganeti/server/noded.py'));
  return !installed ? 'the Debian package ganeti is not installed' : process.getuid?.() === 0 ? null : 'only root can give files to the users of Ganeti';
}

/** Why functions of Ganeti cannot be run here; null if they can. Under CI they must be there. */
export function ganetiProblem(): string | null {
  const problem = problemHere();
  if (problem !== null && process.env.CI === 'true') throw new Error(problem);
  return problem;
}

/** For tables of spawners, which `make check` has, too: `make check-all` installs Ganeti before it runs them. */
export const hasGaneti: boolean = problemHere() === null;

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

/**
 * Ganeti's own modules, with more functions in its node daemon: for what its own functions do too seldom, or too
 * well, to be waited for. `body` is Python: methods of a subclass of NodeRequestHandler. Gives the value for
 * NODED_GANETI_SHARE.
 */
export function makeGanetiShare(directory: string, body: string): string {
  const share = join(directory, 'share');
  const link = (from: string, to: string, except: string): void => {
    fs.mkdirSync(to, {recursive: true});
    for (const name of fs.readdirSync(from)) if (name !== except && name !== '__pycache__') fs.symlinkSync(join(from, name), join(to, name));
  };
  link(join(ganetiShare, 'ganeti'), join(share, 'ganeti'), 'server');
  link(join(ganetiShare, 'ganeti/server'), join(share, 'ganeti/server'), 'noded.py');
  fs.symlinkSync(join(ganetiShare, 'ganeti/server/noded.py'), join(share, 'ganeti/server/original.py'));
  fs.writeFileSync(join(share, 'ganeti/server/noded.py'), `import json, logging, os, signal, sys, time
from ganeti import backend, constants, errors, utils
from ganeti.server import original

class NodeRequestHandler(original.NodeRequestHandler):
${body.replace(/^\n/, '')}

original.NodeRequestHandler = NodeRequestHandler
sys.modules[__name__] = original
`);
  return share;
}
