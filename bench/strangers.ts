/** New connections of a listed master while strangers fill the door, against the same in quiet. */
import {mkdirSync} from 'node:fs';
import {join} from 'node:path';
import {numbers} from './benchmark';
import type {Benchmark} from './benchmark';
import {makeCertificates, tlsConfig} from './certificates';
import {compare, percentile} from './figures';
import {startNoded} from './installed-noded';
import {startPeer} from './peer-process';
import type {NewConnectionsHandlers} from './peers/new-connections';
import type {SilentStrangersHandlers} from './peers/silent-strangers';

const perSecond = 500;

export const strangers: Benchmark = async ({scratch, quick, rounds}) => {
  const directory = join(scratch.directory, 'strangers-certificates');
  mkdirSync(directory, {mode: 0o700});
  const certificates = makeCertificates(directory);
  const {port} = await startNoded(scratch, {tls: true, config: tlsConfig(certificates)});
  const master = startPeer<NewConnectionsHandlers>(scratch, 'new-connections');
  const crowd = startPeer<SilentStrangersHandlers>(scratch, 'silent-strangers');
  const worst = async (count: number): Promise<number> => percentile(await master.ask('ask', {port, count, tls: {ca: certificates.ca, ...certificates.master}}), 0.99);
  const count = quick ? 50 : 500;
  await worst(100);
  const crowded: number[] = [];
  const alone: number[] = [];
  let came = 0;
  for (const _round of numbers(0, rounds)) {
    alone.push(await worst(count));
    await crowd.ask('begin', {port, perSecond, localAddress: '127.0.0.2'});
    await worst(count / 5); // until they have their share
    crowded.push(await worst(count));
    came += await crowd.ask('end', {});
  }
  return {
    figures: [compare(`new connections of a master, ${perSecond} silent strangers a second, 99th percentile`, 'ms', crowded, alone, 'without them', {atMost: 5})],
    notes: [`strangers: ${came} came, and no connection of the master was refused`],
  };
};
