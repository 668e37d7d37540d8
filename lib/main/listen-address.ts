/** Which address is listened on: by itself, or by the name of its interface. */
import {isIPv6} from 'node:net';
import {networkInterfaces} from 'node:os';
import {AddressError, ConfigError} from './config-error';

/** The first address of a network interface, of the earliest of these families that it has any of; undefined if it has none. */
export function addressOf(interfaceName: string, families: readonly ('IPv4' | 'IPv6')[]): string | undefined {
  const addresses = networkInterfaces()[interfaceName] ?? [];
  const found = families.map((wanted) => addresses.find(({family}) => family === wanted)).find((address) => address !== undefined);
  // The same link-local address may be on every interface: only together with its name does it mean one.
  return found?.family === 'IPv6' && found.scopeid !== 0 ? `${found.address}%${interfaceName}` : found?.address;
}

/** An address to listen on, as it was given; of IPv6 also in the brackets that it has in a URL. Throws a ConfigError for one that is not whole. */
export function bareAddress(given: string): string {
  const [, inner] = /^\[(.+)\]$/.exec(given) ?? [];
  const address = inner !== undefined && isIPv6(inner) ? inner : given;
  if (isIPv6(address) && /^fe[89ab][^%]*$/i.test(address)) throw new ConfigError(`${address} is a link-local address, and needs the name of its interface: ${address}%eth0, say`);
  return address;
}

/** An address of IPv4 if the interface has any. Throws an AddressError if it has none. */
export function addressOfInterface(name: string): string {
  const found = addressOf(name, ['IPv4', 'IPv6']);
  if (found === undefined) throw new AddressError(`the interface ${name} has no address`);
  return found;
}

/** Whoever can connect may do everything, if nobody has to show a certificate. */
export function checkLoopback(address: string, ssl: boolean): void {
  const isLoopback = /^127\.\d+\.\d+\.\d+$/.test(address) || address === '::1' || address === 'localhost';
  if (!ssl && !isLoopback) throw new ConfigError(`without TLS noded listens on loopback only, not on ${address}`);
}
