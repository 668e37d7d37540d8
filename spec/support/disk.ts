/** A filesystem on a disk of its own, which can hang, and whose power can be cut: an ext4 in a file. */
import {execFileSync, spawn} from 'node:child_process';
import * as fs from 'node:fs';
import {join} from 'node:path';

const run = (program: string, ...args: readonly string[]): string => execFileSync(program, args, {stdio: 'pipe', encoding: 'utf8'});

/** FS_IOC_SHUTDOWN of the kernel's ext4.h, without a flush of its journal. */
const cutScript = 'open my $d, "<", $ARGV[0] or die "$!\\n"; my $flags = pack("L", 2); ioctl($d, 0x8004587d, $flags) or die "$!\\n"';

export class Disk {
  private readonly image: string;

  /** Made in `directory`, and mounted at `path`. */
  constructor(directory: string, readonly path: string) {
    this.image = join(directory, 'disk.img');
    fs.writeFileSync(this.image, '');
    fs.truncateSync(this.image, 64 * 1024 * 1024);
    run('mkfs.ext4', '-q', this.image);
    fs.mkdirSync(path, {recursive: true, mode: 0o700});
    this.mount();
    fs.chmodSync(path, 0o700);
    run('sync', '-f', path);
  }

  mount(): void {
    run('mount', '-o', 'loop', this.image, this.path);
  }

  /** What has not been synced is gone; and all that is asked of it from now on fails. */
  cut(): void {
    run('perl', '-e', cutScript, this.path);
  }

  /** Who writes to it waits, until `thaw`; but not for longer than this, whatever becomes of the spec. */
  freeze(atMostSeconds: number): void {
    run('fsfreeze', '-f', this.path);
    spawn('sh', ['-c', 'sleep "$1"; fsfreeze -u "$2"', 'thaw', String(atMostSeconds), this.path], {detached: true, stdio: 'ignore'}).unref();
  }

  /** It answers again. One that does already is left alone. */
  thaw(): void {
    try {
      run('fsfreeze', '-u', this.path);
    } catch (error) {
      if (!String(error).includes('Invalid argument')) throw error;
    }
  }

  /** Throws while somebody uses it. */
  unmount(): void {
    run('umount', this.path);
  }

  dispose(): void {
    run('umount', '-l', this.path);
    fs.rmSync(this.image, {force: true});
  }
}
