/** The programs of a run: functions for noded to run, and floors in C. */
import {spawnSync} from 'node:child_process';
import {chmodSync, mkdirSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';

const functionNames = ['trivial', 'sleeper', 'latched', 'filler', 'gated'] as const;

export const functionPath = (directory: string, name: (typeof functionNames)[number]): string => join(directory, 'functions', name);

/** Compiles one C file; if `linkStatic`, and the C library has what that takes, without dynamic linking at every start. */
export function compileProgram(source: string, program: string, linkStatic = true): void {
  const compile = (...flags: string[]): string | null => {
    const {status, stderr, error} = spawnSync('cc', ['-std=c11', '-O2', ...flags, '-o', program, source], {encoding: 'utf8'});
    return status === 0 ? null : (error?.message ?? stderr);
  };
  if (linkStatic && compile('-static') === null) return;
  const complaint = compile();
  if (complaint !== null) throw new Error(`${source} does not compile: ${complaint}`);
}

/** Bytes that `filler` may print: more than a result of 1 GB. */
const fillerOutputBytes = 1_100_000_000;

/**
 * Those of bench/functions, and `gated`, which waits for its gate, a fifo whose name it reads from stdin, then
 * becomes date(1), which prints the time as a number.
 */
export function makeFunctions(to: string): void {
  mkdirSync(join(to, 'functions'));
  mkdirSync(join(to, 'gates'), {mode: 0o700});
  for (const name of ['trivial', 'sleeper', 'latched', 'filler'] as const) compileProgram(join(__dirname, 'functions', `${name}.c`), functionPath(to, name));
  writeFileSync(functionPath(to, 'gated'), `#!/bin/sh\nread -r gate\nread -r opened <'${to}/gates/'"$gate"\nexec date +%s%N\n`);
  for (const name of functionNames) chmodSync(functionPath(to, name), 0o755);
  writeFileSync(join(to, 'functions/filler.toml'), `max_output = ${fillerOutputBytes}\n`);
}

/** Compiles one of the floors, bench/<name>.c, and returns where it is. */
export function compileFloor(directory: string, name: 'spawn-floor' | 'stop-floor'): string {
  const program = join(directory, name);
  compileProgram(join(__dirname, `${name}.c`), program);
  return program;
}
