/**
 * make bench: figures of noded as ratios to a peer or a floor that is measured in the same run.
 *
 *     node --require ts-node/register bench/run.ts [--quick] [--rounds N] [--only NAME]...
 */
import {parseArgs} from 'node:util';
import {answerDelay} from './answer-delay';
import type {Benchmark, Run} from './benchmark';
import {calls} from './calls';
import {callsBesideResults, callsOverTls} from './calls-variants';
import {crowded} from './crowded';
import {durable} from './durable';
import {markdownTable} from './figures';
import type {Figure} from './figures';
import {ganetiCalls} from './ganeti-calls';
import {ganetiFrozen} from './ganeti-frozen';
import {ganetiBlocked, ganetiMemory} from './ganeti-running';
import {ganetiSoak} from './ganeti-soak';
import {install} from './installed-noded';
import {largeResult} from './large-result';
import {machineFacts} from './machine';
import {manyEnds} from './many-ends';
import {Scratch} from './scratch';
import {start} from './start';
import {stop} from './stop';
import {strangers} from './strangers';
import {systemCalls} from './system-calls';
import {waiters} from './waiters';

const benchmarks: ReadonlyMap<string, Benchmark> = new Map([
  ['calls', calls],
  ['calls-tls', callsOverTls],
  ['calls-retained', callsBesideResults],
  ['durable', durable],
  ['crowded', crowded],
  ['large-result', largeResult],
  ['many-ends', manyEnds],
  ['waiters', waiters],
  ['answer-delay', answerDelay],
  ['stop', stop],
  ['start', start],
  ['strangers', strangers],
  ['system-calls', systemCalls],
  ['ganeti-calls', ganetiCalls],
  ['ganeti-memory', ganetiMemory],
  ['ganeti-blocked', ganetiBlocked],
  ['ganeti-frozen', ganetiFrozen],
  ['ganeti-soak', ganetiSoak],
]);

const usage = `use: bench/run.ts [--quick] [--rounds N] [--only NAME]...; names: ${[...benchmarks.keys()].join(', ')}`;

interface Options {
  readonly quick: boolean;
  readonly rounds: number;
  readonly names: readonly string[];
}

/** Null if the command line is wrong. */
function readOptions(): Options | null {
  try {
    const {values} = parseArgs({options: {quick: {type: 'boolean', default: false}, rounds: {type: 'string'}, only: {type: 'string', multiple: true}}});
    const rounds = Number(values.rounds ?? (values.quick ? 1 : 5));
    const names = values.only ?? [...benchmarks.keys()];
    if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1_000 || !names.every((name) => benchmarks.has(name))) return null;
    return {quick: values.quick, rounds, names};
  } catch {
    return null;
  }
}

async function measure(options: Options, run: Run): Promise<string> {
  const facts = machineFacts(run.scratch.runFilesystem); // the load average before any of it is the run's own
  const figures: Figure[] = [];
  const notes: string[] = [];
  for (const name of options.names) {
    process.stderr.write(`bench: ${name}\n`);
    const begin = performance.now();
    const measured = await benchmarks.get(name)!(run);
    await run.scratch.endAll();
    process.stderr.write(`bench: ${name}: ${Math.round((performance.now() - begin) / 1000)} s\n`);
    figures.push(...measured.figures);
    notes.push(...measured.notes);
  }
  const heading = options.quick ? 'A quick run: it shows that the benchmarks work, its figures mean nothing.' : `Medians of ${options.rounds} rounds${options.names.includes('start') ? ' (start: 11)' : ''}.`;
  const lines = [...facts, ...notes].map((line) => `- ${line}`);
  return [heading, ...(figures.length === 0 ? [] : ['', markdownTable(figures)]), '', ...lines, ''].join('\n');
}

async function main(): Promise<number> {
  const options = readOptions();
  if (options === null) {
    process.stderr.write(`${usage}\n`);
    return 64;
  }
  const scratch = new Scratch();
  let cleaned: Promise<void> | null = null;
  const clean = (): Promise<void> => (cleaned ??= scratch.remove());
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => void clean().finally(() => process.exit(1)));
  try {
    install(scratch);
    process.stdout.write(await measure(options, {scratch, quick: options.quick, rounds: options.rounds}));
    return 0;
  } catch (error) {
    process.stderr.write(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return 1;
  } finally {
    await clean();
  }
}

void main().then((code) => (process.exitCode = code));
