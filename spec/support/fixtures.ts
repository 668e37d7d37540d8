/** Functions of one behaviour each. Those that go on say `ready` on stderr when they are what their name says. */
import type {FunctionFile} from './daemon';

const sh = (body: string, manifest?: string): FunctionFile => ({body: `#!/bin/sh\n${body}\n`, ...(manifest === undefined ? {} : {manifest})});
const forever = 'while :; do sleep 0.02; done';

export const fixtures = {
  /** Gives its arguments back. */
  cat: sh('exec cat'),
  /** Does nothing and dies of the first signal. */
  sleeper: sh('echo ready >&2\nexec sleep 600'),
  /** Answers SIGTERM with a result. */
  polite: sh(`trap 'echo "\\"saved\\""; exit 0' TERM\necho ready >&2\n${forever}`),
  /** Says on stderr that SIGTERM came, and goes on. */
  stubborn: sh(`trap 'echo deaf >&2' TERM\necho ready >&2\n${forever}`),
  /** As stubborn, but its manifest limits that. */
  limited: sh(`trap 'echo deaf >&2' TERM\necho ready >&2\n${forever}`, 'kill_after = 0.2\n'),
  /** Ends with a result when the file appears that its arguments name (a JSON string without escapes). */
  patient: sh('read -r file\nfile=${file#\\"}; file=${file%\\"}\necho ready >&2\nuntil [ -e "$file" ]; do sleep 0.02; done\necho true'),
} as const satisfies Readonly<Record<string, FunctionFile>>;

/** Its open files, as a string. A shell keeps its script open as 10. */
export const openFiles: FunctionFile = sh('fds=; n=0\nwhile [ $n -lt 256 ]; do [ $n -ne 10 ] && [ -e /proc/$$/fd/$n ] && fds="$fds $n"; n=$((n + 1)); done\nprintf \'"%s"\' "${fds# }"');
