/** System calls of a fork server that fail: strace(1) makes them. */
import {spawn, spawnSync} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import {until} from './until';

export interface InjectedFault {
  /** Name of the system call, the error, and which one of them in the life of a call; `1+` is all of them. */
  readonly call: string;
  readonly errno: string;
  readonly nth: number | '1+';
  /** Only of calls with one of these paths. */
  readonly paths?: readonly string[];
  /** Made by the child; else by the fork server itself. */
  readonly inChild?: true;
  /** Made by the second thread of the fork server, which works with a disk. */
  readonly onThread?: true;
}

/** With what the spec says that the call was for. */
export interface NamedFault extends InjectedFault {
  readonly what: string;
}

/** In the loop of any fork server: none of them ends a call. */
export const faultsOfTheLoop = (errno: string): readonly NamedFault[] => [
  {call: 'waitid', errno, nth: 1, what: 'a look for ended processes'},
  {call: 'wait4', errno, nth: 1, what: 'reaping'},
  {call: 'sendto', errno, nth: 1, what: 'the report of the start'},
  {call: 'sendto', errno, nth: 2, what: 'the report of the end'},
  {call: 'poll', errno, nth: 1, what: 'the wait for news'},
  {call: 'recvfrom', errno, nth: 1, what: 'a frame'},
];

const tracerOf = (pid: number): number => Number(/^TracerPid:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);

/** Whether it waits with nothing due: a look for leftovers that is still to come would be among the calls that are counted. */
export function isIdle(pid: number): boolean {
  const [, , , timeout = '0x0'] = fs.readFileSync(`/proc/${pid}/syscall`, 'latin1').split(' ');
  return (BigInt(timeout) & 0xffffffffn) === 0xffffffffn;
}

/** The thread of a fork server that works with its disk. */
function diskThread(server: number): number {
  const thread = fs.readdirSync(`/proc/${server}/task`).map(Number).find((tid) => tid !== server);
  if (thread === undefined) throw new Error(`fork server ${server} has one thread`);
  return thread;
}

/** Whether strace has come so far that it waits for its tracee: before that the first calls are not counted. */
const isWaiting = (tracer: number): boolean => fs.readFileSync(`/proc/${tracer}/syscall`, 'latin1').startsWith('61 ');

/** Why faults cannot be injected here, or null. */
export function injectionProblem(): string | null {
  const {error, status, stderr} = spawnSync('strace', ['-qq', '-o', '/dev/null', '-e', 'inject=chdir:error=ENOMEM:when=1', 'true'], {encoding: 'utf8'});
  if (process.arch !== 'x64') return 'the names of system calls are those of x86-64';
  return error?.message ?? (status === 0 ? null : stderr);
}

/** One fault at a time. */
export class FaultInjector {
  private tracer: ChildProcess | null = null;

  async inject(server: number, {call, errno, nth, inChild, onThread, paths = []}: InjectedFault): Promise<void> {
    await until('the fork server has nothing to do', () => isIdle(server));
    const traced = onThread === true ? diskThread(server) : server;
    const follow = inChild === true ? ['-f'] : [];
    this.tracer = spawn('strace', [...follow, '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:error=${errno}:when=${nth}`, ...paths.flatMap((path) => ['-P', path]), '-p', String(traced)], {stdio: 'ignore'});
    await until('the fork server is traced', () => tracerOf(traced) !== 0 && isWaiting(this.tracer!.pid!));
  }

  async release(): Promise<void> {
    if (this.tracer === null) return;
    // It ends with what it traces.
    const ended = this.tracer.exitCode === null && this.tracer.signalCode === null ? once(this.tracer, 'exit') : null;
    this.tracer.kill('SIGINT');
    await ended;
    this.tracer = null;
  }
}
