/** Which spawner noded runs with: the fork server where it is installed, else Node itself (`spawner` of noded.conf(5)). */
import {accessSync, constants} from 'node:fs';
import {join} from 'node:path';
import {messageOf} from '../base/errors';
import type {Log} from '../base/log';
import type {FunctionProcess, SpawnSink, Spawner} from '../call/spawner';
import {ChildSpawner} from '../proc/child-spawner';
import {DiskSpawner} from '../proc/disk-spawner';
import {isWithoutForkServer} from '../proc/fork-server';
import {ForkSpawner} from '../proc/fork-spawner';
import type {LiveCall} from '../proc/fork-call';
import type {OutputScanner} from '../proc/output';
import type {ProcessTrees} from '../proc/process-tree';
import {RunDirError} from '../proc/run-dir';
import type {Spool} from '../proc/spool';
import type {Config} from './config';
import {ConfigError} from './config-error';

export const forkerMissing = 'spawner = "forker", but noded-forker is not installed';

export interface SpawnerParts {
  readonly spool: Spool;
  readonly trees: ProcessTrees;
  readonly newScanner: () => OutputScanner;
  readonly log: Log;
  /** The run directory is on a disk. */
  readonly isOnDisk: boolean;
  /** Of the fork server. */
  readonly forkerEnv?: Readonly<Record<string, string>> | undefined;
}

/** A spawner, and what it found running. */
export interface ChosenSpawner {
  readonly spawner: Spawner;
  readonly live: ReadonlyMap<string, LiveCall>;
  /** Names of the functions that need no program. */
  readonly builtIns: ReadonlySet<string>;
  adopt(key: string, limits: {readonly leaveRunning: boolean; readonly maxOutputBytes: number}, sink: SpawnSink): FunctionProcess;
  /** The daemon ends: what still runs is left to the fork server, or nothing runs and the fork server ends too. */
  end(leavesRunning: boolean): Promise<void>;
}

/** Where `make install` puts them on a node, and `make` in a checkout. */
const forkServerDirectories = [join(__dirname, '../../libexec'), join(__dirname, '../../build/libexec')];

/** The program of a fork server; undefined if it is not installed. */
export function findForkServerProgram(name: 'noded-forker' | 'noded-ganeti'): string | undefined {
  return forkServerDirectories.map((directory) => join(directory, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function useChild(parts: SpawnerParts): ChosenSpawner {
  const adopt = (): never => {
    throw new Error('a child spawner takes over nothing');
  };
  return {spawner: new ChildSpawner(parts), live: new Map(), builtIns: new Set(), adopt, end: () => Promise.resolve()};
}

async function useForkServer(program: string, runDir: string, {forkerEnv, ...parts}: SpawnerParts): Promise<ChosenSpawner> {
  const spawner = new ForkSpawner({...parts, program, runDir, ...(forkerEnv === undefined ? {} : {env: forkerEnv})});
  try {
    const live = await spawner.connect();
    return {
      spawner,
      live,
      // Another fork server may come in the place of one that died.
      get builtIns(): ReadonlySet<string> {
        return spawner.builtIns;
      },
      adopt: (key, limits, sink) => spawner.adopt(key, limits, sink),
      end: (leavesRunning) => (leavesRunning ? spawner.leave() : spawner.quit()),
    };
  } catch (error) {
    void spawner.leave();
    throw error;
  }
}

/** Between the table and the spawner stands what waits for the disk. */
function overDisk(chosen: ChosenSpawner, {spool, log}: SpawnerParts, durable: boolean): ChosenSpawner {
  const spawner = new DiskSpawner(chosen.spawner, {spool, log, durable});
  return {
    spawner,
    live: chosen.live,
    get builtIns(): ReadonlySet<string> {
      return chosen.builtIns;
    },
    adopt: (key, limits, sink) => spawner.processOf(chosen.adopt(key, limits, spawner.sinkOf(key, sink))),
    end: (leavesRunning) => chosen.end(leavesRunning),
  };
}

/** Chooses and connects. Throws a ConfigError if the fork server is asked for by name and cannot be had, a RunDirError if there is one that cannot be used. */
export async function chooseSpawner(config: Config, parts: SpawnerParts): Promise<ChosenSpawner> {
  const chosen = await choose(config, parts);
  return parts.isOnDisk ? overDisk(chosen, parts, config.durable) : chosen;
}

async function choose({spawner: wanted, runDir}: Config, parts: SpawnerParts): Promise<ChosenSpawner> {
  if (wanted === 'child') return useChild(parts);
  const name = wanted === 'ganeti' ? 'noded-ganeti' : 'noded-forker';
  const program = findForkServerProgram(name);
  if (program === undefined) {
    if (wanted !== 'auto') throw new ConfigError(`spawner = "${wanted}", but ${name} is not installed`);
    parts.log.info({}, 'noded-forker is not installed: functions are started by Node, and do not outlive a crash of noded');
    return useChild(parts);
  }
  try {
    return await useForkServer(program, runDir, parts);
  } catch (error) {
    // Who does not know its calls would kill them; it may answer at the next start.
    if (!isWithoutForkServer(runDir)) throw new RunDirError('locked', `the fork server of ${runDir} cannot be used, and may have calls: ${messageOf(error)}`);
    if (wanted !== 'auto') throw new ConfigError(`spawner = "${wanted}": ${messageOf(error)}`);
    parts.log.warn({}, `no fork server: ${messageOf(error)}; functions are started by Node, and do not outlive a crash of noded`);
    return useChild(parts);
  }
}
