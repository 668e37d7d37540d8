/** Who may hold how many TLS handshakes: strangers a share for each address, and never the room of those who have been here before. */
import {isIPv6} from 'node:net';
import {limits} from '../base/limits';

/** One that is under way. */
export interface Handshake {
  readonly share: string;
  /** Not a word has come from the peer. */
  silent: boolean;
  /** Closes its connection, for it has to make room. */
  readonly close: () => void;
}

/**
 * Whom an address stands for: itself; of IPv6 its network of 64 bits, in which a peer may take any other.
 */
export function shareOf(address: string): string {
  const bare = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
  if (!isIPv6(bare)) return bare;
  const [head = '', tail] = bare.split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const last = tail === '' ? [] : tail.split(':');
    groups.push(...Array<string>(8 - groups.length - last.length).fill('0'), ...last);
  }
  return groups.slice(0, 4).map((group) => group.replace(/^0+(?=.)/, '').toLowerCase()).join(':');
}

/** The oldest that waits in silence, or else the oldest. */
function oldest(handshakes: Iterable<Handshake>): Handshake | undefined {
  let first: Handshake | undefined;
  for (const handshake of handshakes) {
    if (handshake.silent) return handshake;
    first ??= handshake;
  }
  return first;
}

export class HandshakeShares {
  /** In the order of their begin, each of them also under its share. */
  private readonly strangers = new Set<Handshake>();
  private readonly known = new Set<Handshake>();
  private readonly byShare = new Map<string, Set<Handshake>>();
  /** Shares from which somebody has proven who he is; the one that was heard of longest ago goes first. */
  private readonly acquainted = new Set<string>();

  get size(): number {
    return this.strangers.size + this.known.size;
  }

  /** Lets one begin. Gives those that had to make room for it; null if it is not to begin: nobody is there who has to. */
  begin(handshake: Handshake): readonly Handshake[] | null {
    const isKnown = this.acquainted.has(handshake.share);
    const closed: Handshake[] = [];
    const makeRoom = (among: Iterable<Handshake>): boolean => {
      const one = oldest(among);
      if (one === undefined) return false;
      this.end(one);
      closed.push(one);
      return true;
    };
    const own = this.byShare.get(handshake.share);
    if (own !== undefined && own.size >= limits.maxHandshakesPerAddress) makeRoom(own);
    if (!isKnown && this.strangers.size >= limits.maxStrangerHandshakes) makeRoom(this.strangers);
    if (this.size >= limits.maxHandshakes && !makeRoom(this.strangers)) return null;
    (isKnown ? this.known : this.strangers).add(handshake);
    this.shareSet(handshake.share).add(handshake);
    return closed;
  }

  /** It has come to its end, in whatever way; once more does no harm. */
  end(handshake: Handshake): void {
    this.strangers.delete(handshake);
    this.known.delete(handshake);
    const own = this.byShare.get(handshake.share);
    own?.delete(handshake);
    if (own?.size === 0) this.byShare.delete(handshake.share);
  }

  /** Somebody at that address has shown a certificate of ours. */
  acquaint(share: string): void {
    this.acquainted.delete(share);
    this.acquainted.add(share);
    if (this.acquainted.size <= limits.maxKnownAddresses) return;
    const [longestAgo] = this.acquainted;
    this.acquainted.delete(longestAgo!);
  }

  private shareSet(share: string): Set<Handshake> {
    let own = this.byShare.get(share);
    if (own === undefined) this.byShare.set(share, (own = new Set()));
    return own;
  }
}
