/** Runs bin/noded, or another `program`, to its end, for what it says and exits with. */
import {spawn} from 'node:child_process';
import {noded} from './daemon';

export interface Said {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `boundMs` is far beyond what it takes: one that does not end is killed, and `code` is null. */
export function runNoded(args: readonly string[], options: {readonly env?: NodeJS.ProcessEnv; readonly cwd?: string; readonly boundMs?: number; readonly program?: string} = {}): Promise<Said> {
  const {env = {}, cwd, boundMs = 25_000, program = noded} = options;
  const child = spawn(program, args, {stdio: ['ignore', 'pipe', 'pipe'], env: {...process.env, ...env}, ...(cwd === undefined ? {} : {cwd})});
  const said = {stdout: '', stderr: ''};
  child.stdout.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()));
  const timer = setTimeout(() => child.kill('SIGKILL'), boundMs);
  return new Promise((resolve) => {
    // 'exit', not 'close': a detached noded may hold the pipes.
    child.once('exit', (code) => {
      clearTimeout(timer);
      setImmediate(() => resolve({code, ...said}));
    });
  });
}
