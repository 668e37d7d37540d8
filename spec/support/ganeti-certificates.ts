/** The certificates of a node in a cluster, made by Ganeti's own code, and the map that lets the node itself call. */
import {execFileSync} from 'node:child_process';
import {join} from 'node:path';
import type {TlsPaths} from './daemon';
import {ganetiShare} from './ganeti-node';
import type {GanetiNode} from './ganeti-node';

const program = `
import sys
sys.path.insert(0, sys.argv[1])
from ganeti import pathutils, utils
utils.GenerateSelfSignedSslCert(pathutils.NODED_CERT_FILE, 1)
utils.GenerateSignedSslCert(pathutils.NODED_CLIENT_CERT_FILE, 2, pathutils.NODED_CERT_FILE, common_name="node1")
utils.WriteFile(sys.argv[2], data="0f2c7c1e-6a55-4f0e-9d0b-3c1f1f1b7a01=%s\\n" % utils.GetCertificateDigest())
`;

/** Gives what a master candidate shows, and whom it trusts. */
export function makeGanetiCertificates({root, env}: GanetiNode): TlsPaths {
  const data = join(root, 'var/lib/ganeti');
  execFileSync('/usr/bin/python3', ['-IB', '-c', program, ganetiShare, join(data, 'ssconf_master_candidates_certs')], {env, cwd: '/', stdio: ['ignore', 'ignore', 'pipe']});
  const client = join(data, 'client.pem');
  return {ca: join(data, 'server.pem'), cert: client, key: client};
}
