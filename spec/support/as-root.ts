/** Specs that only root can run. Elsewhere they are counted with the reason, and a CI run fails: it must not pass over them in silence. */
import {execFileSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {Disk} from './disk';

/** Why `attempt` fails, or null. */
function reasonAgainst(attempt: () => void): string | null {
  try {
    attempt();
    return null;
  } catch (error) {
    return (error as Error).message.split('\n')[0] ?? 'it fails';
  }
}

/** Mounts a small filesystem; gives what unmounts it. */
export function mountTmpfs(path: string, options: string): () => void {
  fs.mkdirSync(path, {recursive: true, mode: 0o700});
  execFileSync('mount', ['-t', 'tmpfs', '-o', `mode=700,${options}`, 'noded-spec', path], {stdio: 'pipe'});
  return () => execFileSync('umount', ['-l', path], {stdio: 'pipe'});
}

/** What a suite has in it, taken out of the run again. */
function countAndDrop(title: string, body: () => void): number {
  const suite = describe(title, body);
  const siblings = suite.parent?.suites ?? [];
  siblings.splice(siblings.indexOf(suite), 1);
  return suite.total();
}

/** Runs it unless there is a reason against it. spec/side-by-side adds up the lines of those that are not run. */
export function describeIf(title: string, reason: string | null, body: () => void): void {
  if (reason === null) {
    describe(title, body);
  } else if (process.env.CI === 'true') {
    describe(title, () => it('can be shown here', () => Promise.reject(new Error(reason))));
  } else {
    console.log(`  ${title}: ${countAndDrop(title, body)} specs not run: ${reason}`);
  }
}

/** Specs that start processes of other users. */
export function describeAsRoot(title: string, body: () => void): void {
  describeIf(title, process.getuid?.() === 0 ? null : 'only root can do it', body);
}

/** Specs that need filesystems of their own. */
export function describeWithMounts(title: string, body: () => void): void {
  const path = fs.mkdtempSync(join(os.tmpdir(), 'noded-mount-'));
  const reason = reasonAgainst(() => mountTmpfs(path, 'size=16k')());
  fs.rmSync(path, {recursive: true});
  describeIf(title, reason, body);
}

/** Specs that need a disk of their own, one whose power can be cut. */
export function describeWithDisks(title: string, body: () => void): void {
  const path = fs.mkdtempSync(join(os.tmpdir(), 'noded-disk-'));
  const reason = reasonAgainst(() => {
    const disk = new Disk(path, join(path, 'mounted'));
    try {
      disk.cut();
    } finally {
      disk.dispose();
    }
  });
  fs.rmSync(path, {recursive: true, force: true});
  describeIf(title, reason, body);
}

/** Specs that need a network of their own. */
export function describeWithNetworks(title: string, body: () => void): void {
  describeIf(title, reasonAgainst(() => void execFileSync('unshare', ['-n', 'ip', 'link', 'add', 'nt0', 'type', 'veth', 'peer', 'name', 'nt1'], {stdio: 'pipe'})), body);
}
