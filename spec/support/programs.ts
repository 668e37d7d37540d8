/** Functions for specs: small programs of one behaviour each. */
import type {FunctionFile} from './daemon';

const sh = (body: string, manifest?: string): FunctionFile => ({body: `#!/bin/sh\n${body}\n`, ...(manifest === undefined ? {} : {manifest})});

export const programs = {
  cat: sh('exec cat'),
  forever: sh('exec sleep 1000', 'kill_after = 1'),
  fails: sh('echo oops >&2; exit 3'),
  /** Takes an object with a whole `size` and gives it back. */
  strict: sh('exec cat', 'args = { type = "object", required = ["size"], properties = { size = { type = "integer" } } }'),
  single: sh('exec sleep 1000', 'max_running = 1'),
  /** Ends once the file that its argument names is there; says so at its start. */
  until_file: sh('read -r name; name=${name#\\"}; name=${name%\\"}; echo waiting >&2; while [ ! -e "$name" ]; do sleep 0.02; done; echo \'"seen"\''),
  /** Appends a line to the file that its argument names. */
  tally: sh('read -r name; name=${name#\\"}; name=${name%\\"}; echo x >> "$name"; echo true'),
  /** A JSON string of as many bytes as its argument says, no two places alike for long. */
  large: sh(`read -r size
printf '"'
awk -v size="$size" 'BEGIN { for (n = 0; size >= 16; n++) { printf "%015d,", n; size -= 16 } while (size-- > 0) printf "." }'
printf '"'`),
} as const satisfies Readonly<Record<string, FunctionFile>>;
