/**
 * A spawner over node:child_process, with the spool's files as standard streams. It needs Node, util-linux
 * and perl: Node cannot set a child's resource limits, so prlimit(1) sets them on itself and becomes the
 * function; and a witness says how that ended, because Node cannot.
 */
import {accessSync, closeSync, constants, readFileSync, writeFileSync} from 'node:fs';
import {bootId, momentNow} from '../base/boot-clock';
import type {Moment} from '../base/boot-clock';
import {errnoOf, messageOf} from '../base/errors';
import {limits} from '../base/limits';
import type {Ending, KnownSizes} from '../base/outcome';
import {endedLine, startedLine} from '../call/journal';
import type {FunctionProcess, SpawnRequest, SpawnSink, Spawner} from '../call/spawner';
import {conclude, endingOfLost, sizesNow} from './ending';
import {environment} from './environment';
import type {OutputScanner} from './output';
import {startTimeOf} from './process-tree';
import type {ProcessTrees} from './process-tree';
import type {Spool} from './spool';
import type {CallStreams} from './spool-files';
import {UnspooledStreams} from './unspooled';
import {Witness, witnessPrograms} from './witness';
import type {WaitStatus, WitnessSink} from './witness';

const prlimit = '/usr/bin/prlimit';
/** What select(2) can take; Node raises its own soft limit to the hard one and children would inherit that. */
const softNoFile = 1024;

export interface ChildSpawnerOptions {
  readonly spool: Spool;
  readonly trees: ProcessTrees;
  readonly newScanner: () => OutputScanner;
  readonly log: {warn(fields: object, message: string): void};
}

/** The command that limits itself and becomes the function. One byte over the limit is allowed, so that passing it shows. */
function commandLine({spec}: SpawnRequest, hardNoFile: number): readonly string[] {
  // What a function leaves running would have the limit for life: a daemon's log, a virtual machine's disk.
  const fileBytes = spec.leaveRunning ? 'unlimited' : String(spec.maxOutputBytes + 1);
  const limited = [prlimit, `--fsize=${fileBytes}`, `--nofile=${Math.min(softNoFile, hardNoFile)}:`, spec.program] as const;
  return spec.nice === null ? limited : ['/usr/bin/nice', '-n', String(spec.nice), ...limited];
}

/** The daemon's own hard limit of open files: a soft one cannot be above it. */
export function readHardNoFile(): number {
  const hard = /^Max open files\s+\S+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
  return hard === undefined ? Infinity : Number(hard);
}

/** prlimit's word that it could not become the function, in the C.UTF-8 locale's English. */
const execFailure = /^prlimit: failed to execute [^\n]*: ([^\n]+)\n$/;
const maxExecFailureBytes = 1024;
const errnoByText: Readonly<Record<string, string>> = {
  'No such file or directory': 'ENOENT',
  'Permission denied': 'EACCES',
  'Text file busy': 'ETXTBSY',
  'Exec format error': 'ENOEXEC',
  'Too many levels of symbolic links': 'ELOOP',
  'Cannot allocate memory': 'ENOMEM',
  'Argument list too long': 'E2BIG',
};

export class ChildSpawner implements Spawner {
  readonly name = 'child';
  readonly makesJournals = false;
  /** Node has no files in memory: arguments always come from a file. */
  readonly inlineArgsBytes = 0;
  readonly unavailable: string | null;
  readonly hardNoFile = readHardNoFile();
  /** The daemon may be shielded from the kernel's memory killer; its functions must not be. */
  readonly resetsOomScore = Number(readFileSync('/proc/self/oom_score_adj', 'latin1')) !== 0;

  constructor(readonly options: ChildSpawnerOptions) {
    let missing: string | null = null;
    for (const program of [prlimit, ...witnessPrograms]) {
      try {
        accessSync(program, constants.X_OK);
      } catch {
        missing = `${program} is missing`;
      }
    }
    this.unavailable = missing;
  }

  spawn(request: SpawnRequest, sink: SpawnSink): FunctionProcess {
    return new ChildFunction(this, request, sink);
  }
}

type Exit = Moment & WaitStatus;

class ChildFunction implements FunctionProcess, WitnessSink {
  private witness: Witness | null = null;
  private unspooled: UnspooledStreams | null = null;
  /** 0 until it is known. */
  private pid = 0;
  private startTime = 0;
  /** The hardest signal that was asked for before that. */
  private wanted: 'terminate' | 'kill' | null = null;
  hasEnded = false;

  constructor(
    private readonly spawner: ChildSpawner,
    private readonly request: SpawnRequest,
    private readonly sink: SpawnSink,
  ) {
    if (!request.spooled) this.launch(['pipe', 'pipe', 'pipe']);
    else spawner.options.spool.openStreams(request.key, (error, streams) => (streams === undefined ? this.cannotStart(error, 'open') : this.launchWith(streams)));
  }

  signal(what: 'terminate' | 'kill'): void {
    if (this.pid === 0 && this.wanted !== 'kill') this.wanted = what;
    if (this.pid === 0 || this.hasEnded) return;
    // Its witness may have reaped it just now, and the report be on the way here: the number may become another's.
    const holder = startTimeOf(this.pid);
    if (holder !== 0 && holder !== this.startTime) return;
    for (const name of what === 'kill' ? (['SIGKILL'] as const) : (['SIGTERM', 'SIGCONT'] as const)) {
      // Just forked it has no group yet, only itself.
      if (!this.send(-this.pid, name)) this.send(this.pid, name);
    }
  }

  /** False if there is nobody. */
  private send(target: number, name: NodeJS.Signals): boolean {
    try {
      process.kill(target, name);
    } catch (error) {
      if (errnoOf(error) === 'ESRCH') return false;
      // EPERM: all that is left runs as somebody else.
      this.warn(`cannot send ${name}: ${messageOf(error)}`);
    }
    return true;
  }

  private launchWith({stdin, stdout, stderr}: CallStreams): void {
    this.launch([stdin, stdout, stderr]);
    for (const fd of [stdin, stdout, stderr]) closeSync(fd);
  }

  private launch(streams: readonly ('pipe' | number)[]): void {
    const {request, spawner} = this;
    const options = {cwd: '/', env: environment(request), ...(request.spec.user === null ? {} : {uid: request.spec.user.uid, gid: request.spec.user.gid})};
    try {
      this.witness = new Witness(commandLine(request, spawner.hardNoFile), options, streams, this);
      if (!request.spooled) this.unspooled = new UnspooledStreams(this.witness.process, request.args!);
    } catch (error) {
      this.cannotStart(error, 'spawn');
    }
  }

  private cannotStart(error: unknown, stage: 'open' | 'spawn'): void {
    setImmediate(() => this.sink.ended(this.notStarted(errnoOf(error), stage)));
  }

  forked(pid: number): void {
    this.pid = pid;
    this.startTime = startTimeOf(pid);
    const started = momentNow();
    if (!this.request.spooled) return this.begin(started);
    // Nothing runs of which nobody would know.
    this.spawner.options.spool.putOnFile(this.request.key, startedLine({pid, startTime: this.startTime, bootId, ...started}), () => this.begin(started));
  }

  private begin(started: Moment): void {
    const {pid} = this;
    if (this.hasEnded) return;
    if (this.spawner.resetsOomScore) {
      try {
        writeFileSync(`/proc/${pid}/oom_score_adj`, '0');
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') this.warn(`cannot reset oom_score_adj: ${messageOf(error)}`);
      }
    }
    this.sink.started(pid, started);
    if (this.wanted !== null) this.signal(this.wanted);
    this.witness!.go();
  }

  failed(errno: string): void {
    this.sink.ended(this.notStarted(errno, 'spawn'));
  }

  ended(status: WaitStatus): void {
    this.hasEnded = true;
    void this.end({...status, ...momentNow()});
  }

  gone(): void {
    this.hasEnded = true;
    void this.lose();
  }

  private async lose(): Promise<void> {
    const {key, spec} = this.request;
    const {spool, trees} = this.spawner.options;
    const root = {key, pid: this.pid, startTime: this.startTime};
    if (spec.leaveRunning) trees.killLeader(root);
    else trees.sweep(root);
    await trees.idle();
    this.sink.ended(endingOfLost(key, 'the process that was to tell of its end died', spool));
  }

  private async end(exit: Exit): Promise<void> {
    const {key, spec} = this.request;
    const {spool, trees} = this.spawner.options;
    if (this.unspooled !== null) spool.keepUnspooled(key, await this.unspooled.collect());
    const errno = this.execFailure(exit.exitCode);
    this.sink.ended(errno === null ? await this.ending(exit) : this.notStarted(errno, 'exec'));
    // After the answer, which it must not delay.
    if (!spec.leaveRunning) trees.sweep({key, pid: this.pid, startTime: null});
  }

  private async ending(exit: Exit): Promise<Ending> {
    const {key, spec} = this.request;
    const {spool, newScanner} = this.spawner.options;
    const written = this.written();
    const {stdoutBytes, stderrBytes} = written;
    this.journal(endedLine({...exit, ...(stdoutBytes === null || stderrBytes === null ? {} : {sizes: {stdoutBytes, stderrBytes}})}));
    const maxOutputBytes = this.unspooled === null ? spec.maxOutputBytes : Math.min(spec.maxOutputBytes, limits.maxUnspooledBytes);
    return conclude(key, exit, written, {files: spool, newScanner, maxOutputBytes});
  }

  private written(): KnownSizes {
    const {key} = this.request;
    const {spool} = this.spawner.options;
    const sizes = sizesNow(spool, key);
    return this.unspooled === null && sizes.stdoutBytes === 0 && !spool.hasStdout(key) ? {...sizes, stdoutBytes: null} : sizes;
  }

  /** The errno, if it was prlimit that ended and not the function. */
  private execFailure(exitCode: number | null): string | null {
    if (exitCode !== 126 && exitCode !== 127) return null;
    const {stdoutBytes, stderrBytes} = this.written();
    if (stdoutBytes !== 0 || stderrBytes === null || stderrBytes > maxExecFailureBytes) return null;
    try {
      const text = execFailure.exec(this.spawner.options.spool.read(this.request.key, 'stderr', 0, maxExecFailureBytes).toString())?.[1];
      return text === undefined ? null : (errnoByText[text] ?? 'EUNKNOWN');
    } catch (error) {
      this.warn(`cannot see why it ended: ${messageOf(error)}`);
      return null;
    }
  }

  private notStarted(errno: string, stage: string): Ending {
    const {atMs, boot} = momentNow();
    this.journal(endedLine({errno, stage, atMs, boot}));
    this.spawner.options.spool.trim(this.request.key, {stdoutBytes: 0, stderrBytes: 0});
    return {kind: 'not_started', errno, stage, endedAtMs: atMs, endedBoot: boot};
  }

  private journal(line: string): void {
    if (this.request.spooled) this.spawner.options.spool.putOnFile(this.request.key, line);
  }

  private warn(message: string): void {
    this.spawner.options.log.warn({key: this.request.key, fn_name: this.request.spec.name, pid: this.pid}, message);
  }
}
