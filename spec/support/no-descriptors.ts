/** A process that is out of file descriptors: this one. */
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {closeSync, mkdirSync, openSync, readFileSync} from 'node:fs';
import {until} from './until';

/**
 * Lets this process open nothing while a shell does `meanwhile`. As it can start nothing either, the shell lowers
 * its limit, and raises it again.
 */
export async function withoutDescriptors(meanwhile: string): Promise<void> {
  const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))![1]!;
  const limit = `prlimit --pid ${process.pid} --nofile`;
  const shell = spawn('/bin/sh', ['-c', `${limit}=3: && ${meanwhile}; ${limit}=${soft}:`], {stdio: 'ignore'});
  await once(shell, 'exit');
}

function isWithoutDescriptors(): boolean {
  try {
    closeSync(openSync('/dev/null', 'r'));
    return false;
  } catch {
    return true;
  }
}

/** The same, from now on. What it resolves with ends it: it makes this directory, which takes no descriptor. */
export async function loseDescriptors(gate: string): Promise<() => Promise<void>> {
  const over = withoutDescriptors(`for time in $(seq 500); do [ -d '${gate}' ] && break; sleep 0.02; done`);
  await until('no descriptor is left', isWithoutDescriptors);
  return () => {
    mkdirSync(gate);
    return over;
  };
}
