/** The certificates of a Ganeti cluster, made by Ganeti's own code: openssl(1) makes others from one version to the next. */
import {execFileSync} from 'node:child_process';
import {copyFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {sha1Of} from './certificates';
import type {TlsPaths} from './daemon';
import {ganetiShare} from './ganeti-node';
import type {GanetiNode} from './ganeti-node';

const program = `
import sys
sys.path.insert(0, sys.argv[1])
from ganeti import utils
(path, serial, name, days, signer) = sys.argv[2:]
if signer:
  utils.GenerateSignedSslCert(path, int(serial), signer, common_name=name, validity=int(days))
else:
  utils.GenerateSelfSignedSslCert(path, int(serial), common_name=name, validity=int(days))
`;

/** server.pem has key and certificate, which is of version 1 and its own CA; it has signed the certificates of the nodes. */
export class GanetiAuthority {
  /** Key and certificate in one file. */
  readonly pem: string;
  private made = 0;

  /** `days`: of its validity, from now on; negative ones are past. */
  constructor(
    private readonly directory: string,
    days = 2,
  ) {
    this.pem = this.make('server', 'ganeti.example.com', days, '');
  }

  /** client.pem of a node; it trusts server.pem. */
  issue(name: string, days = 2): TlsPaths {
    const pem = this.make(`client-${this.made}`, name, days, this.pem);
    return {cert: pem, key: pem, ca: this.pem};
  }

  /** Whoever has server.pem, as at the beginning of a cluster. */
  get own(): TlsPaths {
    return {cert: this.pem, key: this.pem, ca: this.pem};
  }

  private make(file: string, name: string, days: number, signer: string): string {
    const pem = join(this.directory, `${file}.pem`);
    execFileSync('/usr/bin/python3', ['-IB', '-c', program, ganetiShare, pem, String(++this.made), name, String(days), signer], {env: {}, cwd: '/', stdio: ['ignore', 'ignore', 'pipe']});
    return pem;
  }
}

/** Gives what a master candidate shows, and whom it trusts; the node has a map that lets it call. */
export function makeGanetiCertificates({root}: GanetiNode): TlsPaths {
  const data = join(root, 'var/lib/ganeti');
  const authority = new GanetiAuthority(data);
  const candidate = authority.issue('node1');
  copyFileSync(candidate.cert, join(data, 'client.pem'));
  writeFileSync(join(data, 'ssconf_master_candidates_certs'), `0f2c7c1e-6a55-4f0e-9d0b-3c1f1f1b7a01=${sha1Of(candidate)}\n`);
  return candidate;
}
