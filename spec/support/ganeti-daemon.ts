/** Stands for the daemon in a process of its own: ganeti-daemon.ts RUN_DIR FUNCTION ARGS makes one call and says what it hears. */
import {limits} from '../../lib/base/limits';
import {drawKey} from '../../lib/call/call-id';
import {acceptedLine} from '../../lib/call/journal';
import {ForkSpawner} from '../../lib/proc/fork-spawner';
import {ProcessTrees} from '../../lib/proc/process-tree';
import {Spool} from '../../lib/proc/spool';
import {JsonScanner} from '../../lib/rpc/json-scan';
import {ganetiForker} from './ganeti-node';

const [runDir = '', name = '', args = ''] = process.argv.slice(2);
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const log = {info: () => {}, warn: (_fields: object, message: string) => say(`warning: ${message}`)};
const spool = new Spool({runDir, minFreeBytes: 0, log});
const spawner = new ForkSpawner({
  program: ganetiForker,
  runDir,
  env: JSON.parse(process.env.SPEC_FORKER_ENV ?? '{}') as Record<string, string>,
  spool,
  trees: new ProcessTrees({log}),
  newScanner: () => new JsonScanner({maxDepth: limits.maxDepth}),
  log,
});

process.on('SIGTERM', () => {
  say('told to stop');
  process.exit(0);
});

void spawner.connect().then(() => {
  const key = drawKey();
  const spec = {name, program: `ganeti:${name}`, maxRunning: null, maxOutputBytes: 1 << 20, killAfterMs: null, urgent: false, leaveRunning: true, user: null, nice: null, config: null};
  spool.create(key, acceptedLine({key, ppid: process.pid, acceptedAtMs: Date.now(), acceptedBoot: null, fnName: name, requestId: null, role: 'local', fingerprint: '', argsBytes: args.length, abortAfterMs: null, reason: null, spooled: true}, true), null, false);
  say(`key ${key}`);
  spawner.spawn({key, spec, requestId: null, traceparent: null, args: Buffer.from(args), accepted: null, spooled: true}, {
    started: (pid) => say(`started ${pid}`),
    refused: ({code}) => say(`refused ${code}`),
    ended: (ending) => say(`ended ${JSON.stringify(ending)} ${spool.read(key, 'stdout', 0, 1 << 20).toString().trim()}`),
  });
});
