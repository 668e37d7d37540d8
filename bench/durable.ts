/** Trivial calls of a durable noded on a filesystem of its own, against one that is not, beside it; and how many flushes of the disk a call costs. */
import {execFileSync} from 'node:child_process';
import {closeSync, ftruncateSync, mkdirSync, openSync, readFileSync} from 'node:fs';
import {basename, join} from 'node:path';
import type {Benchmark} from './benchmark';
import {fewResults, trivialCalls} from './calls';
import {compare, digits, median} from './figures';
import type {Figure} from './figures';
import {startNoded} from './installed-noded';
import {startPeer} from './peer-process';
import type {LoadHandlers} from './peers/load-generator';
import type {Scratch} from './scratch';
import type {Load} from './webhook';

const levels = [1, 8, 32, 256] as const;
const diskBytes = 512 * 2 ** 20;

const run = (program: string, ...args: readonly string[]): string => execFileSync(program, args, {encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe']}).trim();

/** An ext4 in a file; gives its block device. Throws where there are no loop devices, or without root. */
function mountDisk(scratch: Scratch, path: string): string {
  const image = join(scratch.directory, 'disk.img');
  const fd = openSync(image, 'w');
  ftruncateSync(fd, diskBytes);
  closeSync(fd);
  run('mkfs.ext4', '-q', image);
  mkdirSync(path);
  run('mount', '-o', 'loop', image, path);
  scratch.atEnd(() => void run('umount', '-l', path));
  return basename(run('findmnt', '-n', '-o', 'SOURCE', path));
}

/** Requests to flush that a block device has seen; a sync of an ext4 makes one or two. See stat in the ABI of the kernel, /sys/block. */
const flushes = (device: string): number => Number(readFileSync(`/sys/block/${device}/stat`, 'utf8').trim().split(/\s+/)[15]);

export const durable: Benchmark = async ({scratch, quick, rounds}) => {
  const disk = join(scratch.directory, 'disk');
  let device: string;
  try {
    device = mountDisk(scratch, disk);
  } catch (error) {
    return {figures: [], notes: [`durable: left out, for there is no filesystem to mount: ${(error as Error).message.split('\n')[0]}`]};
  }
  const config = `${fewResults}max_calls = 1000\n`;
  const safe = trivialCalls(await startNoded(scratch, {runDir: join(disk, 'safe'), config: `durable = true\n${config}`}));
  const plain = trivialCalls(await startNoded(scratch, {runDir: join(disk, 'plain'), config}));
  const generator = startPeer<LoadHandlers>(scratch, 'load-generator');
  const durationMs = quick ? 300 : 2_000;
  const rate = async ({pid: _pid, ...load}: Load, connections: number): Promise<number> => (await generator.ask('load', {...load, connections, durationMs})).callsPerSecond;
  const figures: Figure[] = [];
  const notes: string[] = [];
  for (const connections of levels) {
    const rates = {safe: [] as number[], plain: [] as number[], flushes: [] as number[]};
    for (const load of [safe, plain]) await rate(load, connections); // warm-up: not counted
    for (let at = 0; at < rounds; at++) {
      const before = flushes(device);
      const callsPerSecond = await rate(safe, connections);
      rates.safe.push(callsPerSecond);
      rates.flushes.push((flushes(device) - before) / (callsPerSecond * durationMs / 1000));
      rates.plain.push(await rate(plain, connections));
    }
    figures.push(compare(`trivial calls, durable, ${connections} connection${connections === 1 ? '' : 's'}`, 'calls/s', rates.safe, rates.plain, 'the same disk without `durable`', null));
    notes.push(`durable, ${connections} at once: ${digits(median(rates.flushes))} flushes of the disk a call`);
  }
  return {figures, notes};
};
