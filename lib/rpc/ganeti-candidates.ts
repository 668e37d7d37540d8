/**
 * Who may call in a Ganeti cluster: whoever shows a certificate that Ganeti's map of master candidates has, as it
 * is on file at this moment. Ganeti replaces the file whole, so one stat(2) tells whether it is another.
 */
import {statSync} from 'node:fs';
import {NodedError, messageOf} from '../base/errors';
import {readIfThere} from '../base/read-if-there';
import {checkPeer} from './tls';
import type {Peer, Role} from './tls';

/** Tells a file from what it was, and from another under its name; 'absent' if there is none. Throws if it cannot be looked at. */
export function fileVersion(path: string): string {
  const stats = statSync(path, {bigint: true, throwIfNoEntry: false});
  return stats === undefined ? 'absent' : [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(':');
}

/** A master candidate may do everything. */
const master: Role = {name: 'master', certificates: [], functions: ['*']};

const line = /^[^=]+=((?:[0-9A-F]{2}:){19}[0-9A-F]{2})$/;

/** The fingerprints of a map, whose lines are `key=SHA1`, with any keys; null for an empty one. A line that is something else lets nobody in. */
function readMap(text: string): ReadonlySet<string> | null {
  const lines = text.split('\n').map((one) => one.trim().toUpperCase()).filter((one) => one !== '');
  return lines.length === 0 ? null : new Set(lines.flatMap((one) => line.exec(one)?.[1] ?? []));
}

export class CandidateMap {
  private version: string | undefined;
  private fingerprints: ReadonlySet<string> | null = null;

  constructor(private readonly file: string) {}

  /** The role of a peer now. `ownSha1`: of this node's certificate, which all nodes of a cluster have alike. */
  authorize(shown: Peer | null, ownSha1: string): Role {
    const peer = checkPeer(shown);
    const candidates = this.read();
    // Without any candidate the cluster is being made, or upgraded from one that had no certificates of nodes.
    if (candidates === null ? peer.sha1 === ownSha1 : candidates.has(peer.sha1)) return master;
    const why = candidates === null ? 'is not that of the cluster, which has no list of master candidates yet' : 'is not that of a master candidate';
    throw new NodedError('forbidden', {message: `the certificate ${peer.sha1} (${peer.subject}) ${why}`});
  }

  /** A map that cannot be read lets nobody in. */
  private read(): ReadonlySet<string> | null {
    try {
      // The version first: what is read may be newer, and is read again then.
      const version = fileVersion(this.file);
      if (version !== this.version) {
        this.fingerprints = readMap(readIfThere(this.file));
        this.version = version;
      }
      return this.fingerprints;
    } catch (error) {
      throw new NodedError('forbidden', {message: `the list of master candidates cannot be read: ${messageOf(error)}`});
    }
  }
}
