/**
 * The parent of a function process that noded starts itself. Node does not tell that a real-time signal (34 to 64)
 * ended a process: it says exit code 0, as of a success. So between the two stands a perl(1) of some lines, which
 * starts the command in a session of its own, waits for it, and says what wait(2) says. The command begins when noded
 * has written down its pid; so nothing runs of which nobody knows.
 */
import {spawn} from 'node:child_process';
import type {ChildProcess, SpawnOptions} from 'node:child_process';
import type {Duplex} from 'node:stream';
import {errnoName} from '../base/errors';
import {signalName} from '../base/outcome';

/** What it needs besides Node. */
export const witnessPrograms = ['/usr/bin/perl', '/usr/bin/setsid'] as const;

/**
 * On descriptor 3 it says `PID`, or `-ERRNO`, and the wait status in the end, a line each; a byte there is the word to begin.
 * It stays until noded has closed it: the word to a process that was killed before would fail where the witness has
 * left, and Node throws away what it has not read yet of a socket that fails.
 */
const script = `
my ($key, @command) = @ARGV;
open(my $noded, '+<&=', 3) or die;
fcntl($noded, 2, 1);
my $pid = fork;
if (defined $pid && $pid == 0) {
  sysread($noded, my $word, 1) or exit 70;
  $ENV{NODED_CALL_KEY} = $key;
  exec {$command[0]} @command;
  exit 127;
}
syswrite($noded, (defined $pid ? $pid : -($! + 0)) . "\\n");
exit if !defined $pid;
close STDIN; close STDOUT; close STDERR;
waitpid($pid, 0);
syswrite($noded, "$?\\n");
1 while sysread($noded, my $rest, 16);
`;

/** What wait(2) says of an end. */
export interface WaitStatus {
  readonly exitCode: number | null;
  readonly signal: string | null;
}

/** Where a witness reports; never called from inside its start. */
export interface WitnessSink {
  /** The process is there, and waits for go(). */
  forked(pid: number): void;
  /** There is no process. */
  failed(errno: string): void;
  ended(status: WaitStatus): void;
  /** It has died, and nobody will ever know how its process ended. */
  gone(): void;
}

function waitStatus(text: string): WaitStatus {
  const status = Number(text);
  const signal = status & 0x7f;
  return signal === 0 ? {exitCode: status >> 8, signal: null} : {exitCode: null, signal: signalName(signal)};
}

export class Witness {
  readonly process: ChildProcess;
  private text = '';
  private isForked = false;
  private isOver = false;

  /** Throws, or reports `failed`, where Node cannot start it. `NODED_CALL_KEY` of the environment is for its process alone. */
  constructor(command: readonly string[], {env: {NODED_CALL_KEY: key = '', ...env} = {}, ...options}: SpawnOptions, stdio: readonly ('pipe' | number)[], private readonly sink: WitnessSink) {
    const [perl, setsid] = witnessPrograms;
    this.process = spawn(perl, ['-e', script, key, setsid, ...command], {...options, env, detached: true, stdio: [...stdio, 'pipe']});
    this.process.once('error', (error: NodeJS.ErrnoException) => {
      // After a start, 'error' tells of a signal or a message that failed, not of an end.
      if (this.process.pid === undefined) this.finish(() => sink.failed(error.code ?? 'EUNKNOWN'));
    });
    // Without descriptors there are no pipes, and 'error' says so.
    this.reports?.on('data', (chunk: Buffer) => this.take(chunk.toString('latin1')));
    this.reports?.on('error', () => {}); // it has died: 'close' follows
    this.reports?.once('close', () => this.finish(() => (this.isForked ? sink.gone() : sink.failed('ECHILD'))));
  }

  /** Lets the process become the function. */
  go(): void {
    this.reports?.write('.');
  }

  private get reports(): Duplex | null {
    return (this.process.stdio?.[3] ?? null) as Duplex | null;
  }

  private take(chunk: string): void {
    const lines = (this.text + chunk).split('\n');
    this.text = lines.pop()!;
    for (const line of lines) this.heed(line);
  }

  private heed(line: string): void {
    if (this.isForked) this.finish(() => this.sink.ended(waitStatus(line)));
    else if (line.startsWith('-')) this.finish(() => this.sink.failed(errnoName(-Number(line))));
    else {
      this.isForked = true;
      this.sink.forked(Number(line));
    }
  }

  private finish(tell: () => void): void {
    if (this.isOver) return;
    this.isOver = true;
    this.reports?.destroy();
    tell();
  }
}
