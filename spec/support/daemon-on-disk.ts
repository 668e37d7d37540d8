/** A noded whose run directory is a disk of its own. */
import {NodedDaemon} from './daemon';
import type {DaemonOptions} from './daemon';
import {Disk} from './disk';
import {forkServersIn, kill} from './processes';

export class DaemonOnDisk extends NodedDaemon {
  readonly disk: Disk;

  constructor(options: DaemonOptions) {
    super(options);
    this.disk = new Disk(this.root, this.runDir);
  }

  /** Nothing that uses the disk may be left when it is unmounted. */
  override async dispose(): Promise<void> {
    await this.kill();
    forkServersIn(this.runDir).forEach(kill);
    this.killFunctions();
    this.disk.dispose();
    await super.dispose();
  }
}
