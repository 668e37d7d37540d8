/** Spawners on their own: a spool and programs in a temporary directory, and a record of what was reported. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import {dirname, join} from 'node:path';
import type {NodedError} from '../../lib/base/errors';
import {limits} from '../../lib/base/limits';
import type {Ending} from '../../lib/base/outcome';
import {drawKey} from '../../lib/call/call-id';
import {acceptedLine} from '../../lib/call/journal';
import type {FunctionProcess, FunctionSpec, Spawner} from '../../lib/call/spawner';
import {ChildSpawner} from '../../lib/proc/child-spawner';
import type {ChildSpawnerOptions} from '../../lib/proc/child-spawner';
import {ForkSpawner} from '../../lib/proc/fork-spawner';
import type {ForkSpawnerOptions} from '../../lib/proc/fork-spawner';
import {ProcessTrees} from '../../lib/proc/process-tree';
import {Spool} from '../../lib/proc/spool';
import {JsonScanner} from '../../lib/rpc/json-scan';
import {acceptance} from './fake-host';
import {writeFunction} from './daemon';
import {buildForker, buildSanitizedForker, sanitizedForkerProblem} from './forker-builds';
import {ganetiForker, hasGaneti, makeGanetiNode} from './ganeti-node';
import {allProcesses, forkServersIn, isAlive, kill, processesWith} from './processes';
import {placeOn} from './places';
import type {Medium} from './places';
import {until} from './until';
import {linesOnFile} from './journals';

interface KindOptions extends ChildSpawnerOptions {
  readonly runDir: string;
  readonly log: ForkSpawnerOptions['log'];
}

interface MadeSpawner {
  readonly spawner: Spawner;
  /** Resolves when it can start something. */
  open(): Promise<unknown>;
  /** Ends what belongs to it. */
  close(): Promise<void>;
}

/** Makes one spawner. */
export interface SpawnerKind {
  readonly name: string;
  /** Where everything of it lies. */
  readonly place: string;
  make(options: KindOptions): MadeSpawner;
}

const withoutEnv = (): Readonly<Record<string, string>> => ({});

/** A fork spawner over this program, with an environment for it. */
export function forkerKind(name: string, program: () => string, env: (runDir: string) => Readonly<Record<string, string>> = withoutEnv, place = os.tmpdir()): SpawnerKind {
  const make = (options: KindOptions): MadeSpawner => {
    const spawner = new ForkSpawner({...options, program: program(), env: env(options.runDir)});
    return {spawner, open: () => spawner.connect(), close: () => spawner.quit()};
  };
  return {name, place, make};
}

export interface ForkerOnMedium extends SpawnerKind {
  readonly medium: Medium;
}

/** noded-forker in memory, and on a disk, as far as this machine has both. */
export const nodedForkers: readonly ForkerOnMedium[] = (['memory', 'disk'] as const).flatMap((medium) => {
  const place = placeOn(medium);
  return place === undefined ? [] : [{medium, ...forkerKind(`fork-spawner, ${medium}`, buildForker, withoutEnv, place)}];
});

/** On a disk, where it has more to do at a time. */
const sanitizedForker = forkerKind('fork-spawner, sanitized', buildSanitizedForker, withoutEnv, placeOn('disk'));

/** A fork spawner over noded-ganeti. Its programs are started as noded-forker starts them. */
export const ganetiKind = forkerKind('fork-spawner, noded-ganeti', () => ganetiForker, (runDir) => makeGanetiNode(dirname(runDir)).env);

/** Every spawner there is: the specs of spec/proc/spawner-*.spec.ts run against each. */
export const spawnerKinds: readonly SpawnerKind[] = [
  {name: 'child-spawner', place: os.tmpdir(), make: (options) => ({spawner: new ChildSpawner(options), open: async () => {}, close: async () => {}})},
  ...nodedForkers,
  ...(sanitizedForkerProblem() === null ? [sanitizedForker] : []),
  ...(hasGaneti ? [ganetiKind] : []),
];

/** One spawn, and what its sink was told. */
export class Run {
  readonly events: string[] = [];
  process!: FunctionProcess;
  pid = 0;
  ending: Ending | null = null;
  refusal: NodedError | null = null;

  constructor(
    readonly key: string,
    private readonly spool: Spool,
  ) {}

  get stdout(): string {
    return this.spool.read(this.key, 'stdout', 0, 1 << 26).toString();
  }

  get stderr(): string {
    return this.spool.read(this.key, 'stderr', 0, 1 << 26).toString();
  }

  started(): Promise<number> {
    return until('the function process is started', () => this.pid > 0 && this.pid);
  }

  async ended(): Promise<Ending> {
    return until('the function process has ended', () => this.ending ?? false);
  }

  /** The function says that it is ready, on stderr, and its start has been reported: the one may be seen before the other. */
  ready(): Promise<true> {
    return until('the function is ready', () => this.pid > 0 && this.stderr.includes('ready'));
  }
}

export interface SpawnOptions {
  readonly args?: string;
  readonly requestId?: string | null;
  readonly traceparent?: string | null;
  readonly unspooled?: boolean;
  /** Called when the files are made and nothing is started yet, with the first line of the journal. */
  readonly meanwhile?: (key: string, accepted: string) => void;
  /** Called the moment its end is reported. */
  readonly atEnd?: () => void;
}

export class SpawnerBench {
  readonly root: string;
  readonly functionsDir: string;
  readonly warnings: string[] = [];
  readonly trees: ProcessTrees;
  readonly spool: Spool;
  readonly runDir: string;
  readonly spawner: Spawner;
  private readonly made: MadeSpawner;

  constructor(readonly kind: SpawnerKind) {
    this.root = fs.realpathSync(fs.mkdtempSync(join(kind.place, 'noded-spec-')));
    this.functionsDir = join(this.root, 'functions');
    this.runDir = join(this.root, 'run');
    fs.chmodSync(this.root, 0o755);
    fs.mkdirSync(this.functionsDir, {mode: 0o755});
    fs.mkdirSync(this.runDir, {mode: 0o700});
    const log = {warn: (_fields: object, message: string) => void this.warnings.push(message), info: () => {}};
    this.trees = new ProcessTrees({log});
    this.spool = new Spool({runDir: this.runDir, minFreeBytes: 0, log});
    this.made = kind.make({spool: this.spool, trees: this.trees, newScanner: () => new JsonScanner({maxDepth: limits.maxDepth}), log, runDir: this.runDir});
    this.spawner = this.made.spawner;
  }

  /** Resolves when the spawner can start something. */
  async open(): Promise<void> {
    await this.made.open();
  }

  /** Resolves when no process carries the key of this run any more. */
  async nothingLeftOf(run: Run): Promise<void> {
    await this.trees.idle();
    await until('nothing is left of the function', () => this.processesOf(run).length === 0);
  }

  /** Resolves when this process is dead. */
  async dead(pid: number): Promise<void> {
    await this.trees.idle();
    await until(`process ${pid} is dead`, () => !isAlive(pid));
  }

  /** The fork server, if it is one. */
  get forkServer(): number {
    return forkServersIn(this.runDir)[0] ?? 0;
  }

  /** Writes a program and gives what a manifest would say of it. */
  define(name: string, body: string, facts: Partial<FunctionSpec> = {}): FunctionSpec {
    writeFunction(this.functionsDir, name, {body});
    return {
      name,
      program: join(this.functionsDir, name),
      maxRunning: null,
      maxOutputBytes: 1 << 20,
      killAfterMs: null,
      urgent: false,
      leaveRunning: false,
      user: null,
      nice: null,
      config: null,
      ...facts,
    };
  }

  spawn(spec: FunctionSpec, {args = 'null', requestId = null, traceparent = null, unspooled = false, meanwhile, atEnd}: SpawnOptions = {}): Run {
    const run = new Run(drawKey(), this.spool);
    const bytes = Buffer.from(args);
    const inline = bytes.length <= this.spawner.inlineArgsBytes;
    const line = acceptedLine(acceptance({key: run.key}), spec.leaveRunning);
    const {makesJournals} = this.spawner;
    if (!unspooled) this.spool.create(run.key, makesJournals ? null : line, inline ? null : bytes, false);
    meanwhile?.(run.key, line);
    run.process = this.spawner.spawn({key: run.key, spec, requestId, traceparent, args: inline || unspooled ? bytes : null, accepted: makesJournals && !unspooled ? line : null, spooled: !unspooled}, {
      started: (pid) => {
        run.events.push('started');
        run.pid = pid;
      },
      ended: (ending) => {
        run.events.push('ended');
        run.ending = ending;
        atEnd?.();
      },
      refused: (refusal) => {
        run.events.push('refused');
        run.refusal = refusal;
      },
    });
    run.events.push('spawn returned');
    return run;
  }

  /** Spawns and waits for the end. */
  async run(spec: FunctionSpec, options?: SpawnOptions): Promise<Run> {
    const run = this.spawn(spec, options);
    await run.ended();
    return run;
  }

  /** The lines of a run in the log. */
  journal(run: Run): Record<string, unknown>[] {
    return linesOnFile(this.runDir, run.key).map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** Living processes that carry the key of this run. */
  processesOf(run: Run): number[] {
    return processesWith(`NODED_CALL_KEY=${run.key}`);
  }

  /** Living processes with this directory in their command line: those that cleared their environment too. */
  processesHere(): number[] {
    return allProcesses().filter((pid) => {
      try {
        return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(this.root);
      } catch {
        return false;
      }
    });
  }

  /** Ends what belongs to the spawner. */
  close(): Promise<void> {
    return this.made.close();
  }

  /** Kills what is left and removes the files. */
  async dispose(): Promise<void> {
    await this.close();
    await this.trees.idle();
    this.processesHere().forEach(kill);
    await until('nothing of the bench is left', () => this.processesHere().length === 0);
    fs.rmSync(this.root, {recursive: true, force: true});
  }
}

type Describe = (title: string, body: () => void) => void;

/** Runs a table of specs against every spawner. `bench` is there in hooks and specs. */
export function describeSpawners(topic: string, table: (bench: () => SpawnerBench) => void, describeOne: Describe = describe): void {
  for (const kind of spawnerKinds) {
    describeOne(`${kind.name}: ${topic}`, () => {
      let bench: SpawnerBench;
      before(async () => {
        bench = new SpawnerBench(kind);
        await bench.open();
      });
      after(() => bench.dispose());
      table(() => bench);
    });
  }
}
