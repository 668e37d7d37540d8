/** Thousands of classic calls on one noded: it fails unless everything is afterwards as it was before. */
import {complaints, leftovers, settled} from '../spec/support/ganeti-soak';
import type {Leftovers} from '../spec/support/ganeti-soak';
import {digits} from './figures';
import type {Figure} from './figures';
import {ganetiBenchmark, startGaneti} from './ganeti-daemons';

const connections = 8;

/** A daemon that is new grows into its heap, so what is left of that growth in the second half is compared with the first. */
const growthShare = 0.2;
/** Of its memory: what a Python that does the same again and again may have more of in the second half. */
const forkServerShare = 0.01;

type Who = keyof Leftovers['residentBytes'];

interface Soak {
  readonly before: Leftovers;
  readonly middle: Leftovers;
  readonly after: Leftovers;
}

function growths({before, middle, after}: Soak, who: Who): readonly [first: number, second: number] {
  return [middle.residentBytes[who] - before.residentBytes[who], after.residentBytes[who] - middle.residentBytes[who]];
}

function memoryComplaints(soak: Soak): string[] {
  const [first, second] = growths(soak, 'daemon');
  const [, forkServer] = growths(soak, 'forkServer');
  return [
    ...(second > growthShare * first ? [`noded grew by ${second} bytes in the second half of the calls, and by ${first} in the first`] : []),
    ...(forkServer > forkServerShare * soak.middle.residentBytes.forkServer ? [`the fork server grew by ${forkServer} bytes in the second half of the calls`] : []),
  ];
}

function figureOf(soak: Soak, count: number): Figure {
  const [first, second] = growths(soak, 'daemon').map((bytes) => bytes / 2 ** 20) as [number, number];
  return {
    name: `Ganeti: ${digits(count)} calls of \`version\`: growth of noded in the second half`,
    noded: `${digits(second)} MiB`,
    peer: `in the first half, from its start: ${digits(first)} MiB`,
    ratio: `**${digits(second / first)}**`,
    target: `≤ ${growthShare}: reached`, // or the run has failed
  };
}

export const ganetiSoak = ganetiBenchmark('ganeti-soak', async (run, load) => {
  const count = run.quick ? 400 : 10_000;
  const daemon = await startGaneti(run, 'noded', load);
  const {pid, runDir, port, tls} = daemon;
  const half = async (): Promise<void> => {
    const answered = await load.ask('repeat', {port, tls, connections, count: count / 2}, 600_000);
    if (answered !== count / 2) throw new Error(`${answered} of ${count / 2} calls were answered`);
  };
  const before = leftovers(pid, runDir);
  await half();
  const middle = await settled(pid, runDir, before);
  await half();
  const soak: Soak = {before, middle, after: await settled(pid, runDir, before)};
  // A quick run is over before a new daemon has stopped growing.
  const found = [...complaints(before, middle), ...complaints(before, soak.after), ...(run.quick ? [] : memoryComplaints(soak))];
  if (found.length > 0) throw new Error(`${count} calls have left something behind: ${found.join('; ')}`);
  const {descriptors} = soak.after;
  return {
    figures: run.quick ? [] : [figureOf(soak, count)],
    notes: [`ganeti-soak: after ${digits(count)} calls no zombie and no file in the spool; descriptors of daemon and fork server: ${descriptors.daemon} and ${descriptors.forkServer}, as before; the fork server grew by ${digits(growths(soak, 'forkServer')[1] / 1024)} KiB in the second half`],
  };
});
