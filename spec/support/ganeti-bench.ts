/** noded-ganeti on its own: a node's directories, and more functions in Ganeti's node daemon than it comes with. */
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import {join} from 'node:path';
import type {FunctionSpec} from '../../lib/call/spawner';
import type {ForkSpawner} from '../../lib/proc/fork-spawner';
import {ganetiForker, makeGanetiNode, makeGanetiShare} from './ganeti-node';
import type {GanetiNode} from './ganeti-node';
import {Run, SpawnerBench, forkerKind} from './spawner-bench';

const more = `
  @staticmethod
  def perspective_spec_echo(params):
    return params

  @staticmethod
  def perspective_spec_raise(params):
    raise ValueError(params[0])

  @staticmethod
  def perspective_spec_fail(params):
    raise backend.RPCFail(params[0])

  @staticmethod
  def perspective_spec_exit(params):
    sys.exit(params[0])

  @staticmethod
  def perspective_spec_object(params):
    return object()

  @staticmethod
  def perspective_spec_quit(params):
    raise errors.QuitGanetiException(True, "Shutdown scheduled")

  @staticmethod
  def perspective_spec_fork(params):
    # As a power cycle does: both come back, the grandchild last.
    if os.fork() == 0:
      os.read(os.open(params[0], os.O_RDONLY), 1)
      with open(params[1], "w") as file:
        file.write("%d" % os.getpid())
      return "grandchild"
    return "parent"

  @staticmethod
  def perspective_spec_world(params):
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    mask = os.umask(0o777)
    os.umask(mask)
    import resource
    return {
      "fds": {fd: os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + fd)},
      "cloexec": [fd for fd in range(3, 256) if os.path.exists("/proc/self/fd/%d" % fd) and os.get_inheritable(fd)],
      "env": dict(os.environ), "umask": mask, "cwd": os.getcwd(), "leads": [os.getpid(), os.getsid(0), os.getpgid(0)],
      "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "fsize": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
      "blocked": status["SigBlk"], "ignored": status["SigIgn"], "caught": status["SigCgt"], "comm": open("/proc/self/comm").read(),
      "lock": int(status["VmLck"].split()[0]), "oom": int(open("/proc/self/oom_score_adj").read()),
    }

  @staticmethod
  def perspective_spec_print(params):
    print(params[0])
    os.write(1, b"written " + params[0].encode() + b"\\n")
    os.write(2, b"note " + params[0].encode() + b"\\n")
    return True

  @staticmethod
  def perspective_spec_log(params):
    logging.info("first %s", params[0])
    os.write(2, b"ready")
    if len(params) > 1:
      os.read(os.open(params[1], os.O_RDONLY), 1)
    logging.info("second %s", params[0])
    return os.getpid()

  @staticmethod
  def perspective_spec_daemon(params):
    return utils.StartDaemon(["/bin/sleep", "600"], output="/dev/null")

  @staticmethod
  def perspective_spec_wait(params):
    os.write(2, b"ready")
    os.read(os.open(params[0], os.O_RDONLY), 1)
    return "waited"

  @staticmethod
  @original._RequireJobQueueLock
  def perspective_jobqueue_spec(params):
    return NodeRequestHandler.perspective_jobqueue_bare(params)

  @staticmethod
  def perspective_jobqueue_bare(params):
    # Without the lock of the job queue: only noded-ganeti keeps others out.
    path, word = params
    for step in ("in", "out"):
      with open(path, "a") as file:
        file.write("%s %s\\n" % (word, step))
      time.sleep(0.03)
    return word
`;

export class GanetiBench extends SpawnerBench {
  readonly node: GanetiNode;

  constructor(env: Readonly<Record<string, string>> = {}) {
    super(forkerKind('noded-ganeti', () => ganetiForker, (runDir) => ({...makeGanetiNode(join(runDir, '..')).env, NODED_GANETI_SHARE: join(runDir, '../share'), ...env})));
    this.node = makeGanetiNode(this.root);
    makeGanetiShare(this.root, more);
  }

  /** What noded makes of a name that the fork server has built in. */
  builtIn(name: string, facts: Partial<FunctionSpec> = {}): FunctionSpec {
    return {...this.define('unused', '#!/bin/sh\n'), name, program: `ganeti:${name}`, leaveRunning: true, ...facts};
  }

  call(name: string, params: unknown): Promise<Run> {
    return this.run(this.builtIn(name), {args: JSON.stringify(params)});
  }

  start(name: string, params: unknown): Run {
    return this.spawn(this.builtIn(name), {args: JSON.stringify(params)});
  }

  private get fork(): ForkSpawner {
    return this.spawner as ForkSpawner;
  }

  /** Carries on with a call of another daemon. */
  adopt(key: string, pid: number): Run {
    const run = new Run(key, this.spool);
    run.process = this.fork.adopt(key, {leaveRunning: true, maxOutputBytes: 1 << 20}, {started: () => {}, ended: (ending) => (run.ending = ending), refused: (refusal) => (run.refusal = refusal)});
    run.pid = pid;
    return run;
  }

  /** Leaves the fork server alone. */
  leave(): Promise<void> {
    return this.fork.leave();
  }

  /** What Ganeti's own node daemon would answer to these bodies: its handler, called in a Python of its own. */
  originalAnswers(requests: readonly (readonly [name: string, body: string])[]): Promise<Buffer[]> {
    return this.python(
      `
import json, sys
from ganeti import http
from ganeti.server import noded
handler = noded.NodeRequestHandler()
class Request: request_method = "POST"
for name, body in json.load(sys.stdin):
  Request.request_path, Request.request_body = "/" + name, bytes.fromhex(body)
  print(handler.HandleRequest(Request).hex())
`,
      JSON.stringify(requests.map(([name, body]) => [name, Buffer.from(body).toString('hex')])),
    ).then((text) => text.trim().split('\n').map((line) => Buffer.from(line, 'hex')));
  }

  /** What a Python program prints that has the modules of this bench. */
  async python(program: string, input: string): Promise<string> {
    const child = spawn('/usr/bin/python3', ['-IB', '-c', `import sys; sys.path.insert(0, ${JSON.stringify(join(this.root, 'share'))})\n${program}`], {env: this.node.env, cwd: '/', stdio: ['pipe', 'pipe', 'pipe']});
    let [text, problems] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (problems += chunk.toString()));
    child.stdin.end(input);
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new Error(problems);
    return text;
  }

  get log(): string {
    return fs.readFileSync(this.node.log, 'utf8');
  }
}

/** A process that stands for the daemon: it can be killed, and be told to stop, without the end of the specs. */
export function startDaemonProcess(bench: GanetiBench, fnName: string, params: unknown): {readonly child: ChildProcess; said(): string} {
  const child = spawn(process.execPath, ['--require', 'ts-node/register/transpile-only', join(__dirname, 'ganeti-daemon.ts'), bench.runDir, fnName, JSON.stringify(params)], {
    cwd: join(__dirname, '../..'),
    env: {...process.env, SPEC_FORKER_ENV: JSON.stringify({...bench.node.env, NODED_GANETI_SHARE: join(bench.root, 'share')})},
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return {child, said: () => text};
}
