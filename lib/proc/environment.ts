/** What a function process finds in its environment: these variables and no others (DESIGN.md section 6). */
import {homedir} from 'node:os';
import {dirname} from 'node:path';
import type {SpawnRequest} from '../call/spawner';

const basePath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Functions find what they are run with: Node may be installed outside of the usual path. */
export const functionPath = basePath.split(':').includes(dirname(process.execPath)) ? basePath : `${basePath}:${dirname(process.execPath)}`;

/** Asked for once: each start would pay for it. */
const ownHome = homedir();

export function environment({key, spec, requestId, traceparent}: SpawnRequest): Readonly<Record<string, string>> {
  return {
    PATH: functionPath,
    LANG: 'C.UTF-8',
    HOME: spec.user?.home ?? ownHome,
    NODED_CALL_KEY: key,
    NODED_FN_NAME: spec.name,
    ...(requestId === null ? {} : {NODED_REQUEST_ID: requestId}),
    ...(spec.config === null ? {} : {NODED_FN_CONFIG: spec.config}),
    ...(traceparent === null ? {} : {TRACEPARENT: traceparent}),
  };
}
