/** What the figures were measured on. */
import {spawnSync} from 'node:child_process';
import {cpus, loadavg, release, totalmem} from 'node:os';
import {digits} from './figures';

function versionOf(program: string, ...args: string[]): string {
  const {stdout, stderr, error} = spawnSync(program, args, {encoding: 'utf8'});
  return error === undefined ? ((stdout || stderr).trim().split('\n')[0] ?? '') : `no ${program}`;
}

export function machineFacts(runFilesystem: string): string[] {
  const [cpu] = cpus();
  return [
    `${cpus().length} cores (${cpu?.model.trim() || process.arch}), ${digits(totalmem() / 2 ** 30)} GiB`,
    `Linux ${release()}, Node ${process.version}, ${versionOf('webhook', '-version')}, ${versionOf('openssl', 'version')}`,
    `run directory on ${runFilesystem}; load average before the run ${loadavg()[0]?.toFixed(2)}`,
  ];
}
