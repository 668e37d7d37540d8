/** Builds of the fork server: the one of `make`, and one with sanitizers, each made once a run. */
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';

const checkout = join(__dirname, '../..');
const source = join(checkout, 'libexec/noded-forker.c');
const goldenSource = join(checkout, 'spec/libexec/forker-golden.c');
export const fuzzerSource = join(checkout, 'spec/libexec/forker-fuzz.c');

/** Keeps what was built until the run ends. */
let directory: string | null = null;
function buildDirectory(): string {
  if (directory === null) {
    const made = fs.mkdtempSync(join(os.tmpdir(), 'noded-forker-'));
    fs.chmodSync(made, 0o755);
    process.once('exit', () => fs.rmSync(made, {recursive: true, force: true}));
    directory = made;
  }
  return directory;
}

/** What the compiler says against it, or null. */
function compile(compiler: string, flags: readonly string[], from: string, to: string): string | null {
  const {status, error, stderr} = spawnSync(compiler, ['-std=c11', '-pthread', ...flags, '-o', to, from], {encoding: 'utf8'});
  return status === 0 ? null : (error?.message ?? stderr.trim().split('\n').slice(-5).join('\n'));
}

function once<T>(make: () => T): () => T {
  let made: {readonly value: T} | null = null;
  return () => (made ??= {value: make()}).value;
}

function orThrow(problem: string | null, built: string): string {
  if (problem !== null) throw new Error(`cannot build ${built}: ${problem}`);
  return built;
}

/** The fork server with the warnings of the Makefile as errors. */
export const buildForker = once(() => {
  const built = join(buildDirectory(), 'noded-forker');
  return orThrow(compile('cc', ['-Wall', '-Wextra', '-Werror', '-O2'], source, built), built);
});

/** The same with few slots. */
export const buildForkerOfSlots = (slots: number): string => {
  const built = join(buildDirectory(), `slots-${slots}`, 'noded-forker');
  fs.mkdirSync(join(buildDirectory(), `slots-${slots}`), {recursive: true});
  return orThrow(compile('cc', ['-O2', `-DNODED_MAX_CALLS=${slots}`], source, built), built);
};

/** The one of another noded, which speaks another version. */
export const buildForkerOfVersion = (version: number): string => {
  const made = join(buildDirectory(), `version-${version}`);
  fs.mkdirSync(made, {recursive: true});
  const [changed, built] = [join(made, 'noded-forker.c'), join(made, 'noded-forker')];
  fs.writeFileSync(changed, fs.readFileSync(source, 'utf8').replace(/\bVERSION = \d+,/, `VERSION = ${version},`));
  return orThrow(compile('cc', ['-O2'], changed, built), built);
};

/** A finding ends the fork server with this code, and its words are in `sanitizer.PID` of this directory. */
export const sanitizerDirectory = once(() => {
  const made = join(buildDirectory(), 'findings');
  fs.mkdirSync(made);
  return made;
});

const sanitized = once(() => {
  const real = join(buildDirectory(), 'sanitized');
  const problem = compile('cc', ['-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-fno-omit-frame-pointer'], source, real);
  // The environment of a fork server is empty, and its standard error is closed once it runs.
  const wrapper = join(buildDirectory(), 'sanitized-bin/noded-forker');
  fs.mkdirSync(join(buildDirectory(), 'sanitized-bin'));
  const options = `log_path=${sanitizerDirectory()}/sanitizer:exitcode=99`;
  fs.writeFileSync(wrapper, `#!/bin/bash\nexport ASAN_OPTIONS=${options} UBSAN_OPTIONS=${options}:print_stacktrace=1\nexec -a "$0" ${real} "$@"\n`, {mode: 0o755});
  return {problem, wrapper};
});

/** Why there is no sanitized build; null if there is one. Under CI it must be there. */
export function sanitizedForkerProblem(): string | null {
  const {problem} = sanitized();
  if (problem !== null && process.env.CI === 'true') throw new Error(`the fork server cannot be built with sanitizers: ${problem}`);
  return problem;
}

export const buildSanitizedForker = (): string => orThrow(sanitized().problem, sanitized().wrapper);

/** What the sanitizers have found so far. */
export function sanitizerFindings(): string[] {
  return fs.readdirSync(sanitizerDirectory()).map((name) => fs.readFileSync(join(sanitizerDirectory(), name), 'utf8'));
}

/** What makes and reads its frames for spec/golden. */
export const buildGolden = once(() => {
  const built = join(buildDirectory(), 'forker-golden');
  return orThrow(compile('cc', ['-O1', '-w'], goldenSource, built), built);
});

/** The fuzzer of the frame parser; null is the problem if it cannot be built. */
export function buildFuzzer(): {readonly problem: string | null; readonly program: string} {
  const program = join(buildDirectory(), 'forker-fuzz');
  return {program, problem: compile('clang', ['-g', '-O1', '-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all', '-Wno-unused-function'], fuzzerSource, program)};
}
