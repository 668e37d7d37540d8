import * as fs from 'node:fs';
import * as os from 'node:os';
import {expect} from 'chai';
import {describeManifest, resultOf} from './run-function';

interface Disk {
  readonly mount_point: string;
  readonly fs_type: string;
  readonly total_bytes?: number;
  readonly free_bytes?: number;
  readonly available_bytes?: number;
  readonly inodes?: number;
  readonly error?: string;
}

interface NodeInfo {
  readonly hostname: string;
  readonly boot_id: string;
  readonly uptime_seconds: number;
  readonly kernel: {readonly release: string};
  readonly cpus: {readonly count: number};
  readonly load_average: readonly number[];
  readonly memory: Readonly<Record<string, number | null>>;
  readonly disks: readonly Disk[];
  readonly block_devices: readonly {readonly name: string; readonly size_bytes: number}[];
  readonly addresses: readonly {readonly interface: string; readonly address: string}[];
}

describe('the function node_info', () => {
  let info: NodeInfo;

  before(async () => {
    info = await resultOf<NodeInfo>('node_info', []);
  });

  it('names the machine, its kernel and this boot', () => {
    expect(info.hostname).to.equal(os.hostname());
    expect(info.kernel.release).to.equal(os.release());
    expect(info.boot_id).to.equal(fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    expect(info.uptime_seconds).to.be.greaterThan(0);
  });

  it('tells memory in bytes', () => {
    const {total_bytes: total, available_bytes: available} = info.memory;
    expect(total).to.equal(os.totalmem());
    expect(available).to.be.within(1, os.totalmem());
  });

  it('tells processors and load', () => {
    expect(info.cpus.count).to.equal(os.cpus().length);
    expect(info.load_average).to.have.lengthOf(3);
  });

  it('tells sizes of local file systems that agree with themselves', () => {
    for (const disk of info.disks.filter((one) => one.error === undefined)) {
      expect(disk.total_bytes).to.be.at.least(disk.free_bytes ?? Infinity);
      expect(disk.free_bytes).to.be.at.least(disk.available_bytes ?? Infinity);
    }
  });

  it('leaves out what the kernel makes up and what lives elsewhere', () => {
    const types = info.disks.map((disk) => disk.fs_type);
    expect(types).not.to.include.oneOf(['proc', 'sysfs', 'tmpfs', 'devtmpfs', 'cgroup', 'cgroup2', 'devpts']);
    expect(types.filter((type) => /^(nfs|cifs|smb|fuse|9p|ceph|autofs)/.test(type))).to.deep.equal([]);
  });

  it('names every file system once', () => {
    const points = info.disks.map((disk) => disk.mount_point);
    expect(new Set(points).size).to.equal(points.length);
  });

  it('tells block devices that have a size', () => {
    for (const device of info.block_devices) expect(device.size_bytes).to.be.greaterThan(0);
  });

  it('leaves out the loopback addresses', () => {
    expect(info.addresses.map((one) => one.address)).not.to.include.oneOf(['127.0.0.1', '::1']);
  });

  describeManifest('node_info', [null, [], {}], [[1], {a: 1}, 'x']);
});
