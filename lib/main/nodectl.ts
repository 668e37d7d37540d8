/** nodectl: the command line of a master, nodectl(1). */
import {setMaxListeners} from 'node:events';
import {Command, CommanderError} from 'commander';
import {messageOf} from '../base/errors';
import {abort, call, start, wait} from './nodectl-call';
import type {Context} from './nodectl-context';
import {Interrupted, UsageError, exitCodes} from './nodectl-exit';
import type {ExitCode} from './nodectl-exit';
import {keygen} from './keygen';
import type {KeygenOptions} from './keygen';
import {forget, functions, ps, status} from './nodectl-look';
import {defaultPort} from './nodectl-options';
import {oneLine} from './nodectl-output';
import {logs} from './nodectl-stderr';
import {Stdout} from './nodectl-stdout';
import {commandUsages, usageText} from './nodectl-usage';
import type {CommandName} from './nodectl-usage';
import {version} from './version';

/** Commander checks the number of arguments and knows the options; their types are those of the command itself. */
type Action = (context: Context, options: never, ...args: never[]) => Promise<ExitCode>;

interface CommandSpec {
  readonly run: Action;
  /** As commander takes them: `<needed> [may be left out]`. */
  readonly args: string;
  readonly addOptions: (command: Command) => Command;
}

const connect = (command: Command): Command =>
  command
    .option('-n, --nodes <nodes>', 'nodes as HOST or HOST:PORT, separated by commas (127.0.0.1)')
    .option('-p, --port <port>', `port of nodes that name none (${defaultPort})`)
    .option('-C, --cert <file>', 'certificate of this master (/etc/noded/master.crt)')
    .option('-K, --key <file>', 'its key (/etc/noded/master.key)')
    .option('--ca <file>', 'CA of the nodes (/etc/noded/ca.crt)')
    .option('--no-ssl', 'plain HTTP, for nodes on this machine')
    .option('--ganeti', 'with the certificates of a Ganeti cluster');

const tell = (command: Command): Command => connect(command).option('--json', 'one JSON object per node, on a terminal too');

const begin = (command: Command): Command =>
  tell(command)
    .option('--abort-after <seconds>', 'the node stops the function after so long')
    .option('--request-id <id>', 'name for this call: the same ID never starts it twice')
    .option('--reason <text>', 'why, for the log of the node');

const byRequestId = ['--request-id <id>', 'the call by its request ID'] as const;
const find = (command: Command): Command => tell(command).option(...byRequestId);

const commands: Readonly<Record<Exclude<CommandName, 'keygen'>, CommandSpec>> = {
  call: {run: call, args: '<function> [args]', addOptions: (command) => begin(command).option('-t, --timeout <seconds>', 'how long to wait in all (until it ends)')},
  start: {run: start, args: '<function> [args]', addOptions: (command) => begin(command).option('-t, --timeout <seconds>', 'how long to wait for its end (0)')},
  wait: {run: wait, args: '[id]', addOptions: (command) => find(command).option('-t, --timeout <seconds>', 'how long to wait in all (until it ends)')},
  abort: {
    run: abort,
    args: '[id]',
    addOptions: (command) =>
      find(command)
        .option('-t, --timeout <seconds>', 'how long to wait for its end (30)')
        .option('--kill-after <seconds>', 'from SIGTERM to SIGKILL; 0: never (as the function\'s manifest says)'),
  },
  forget: {run: forget, args: '<id>', addOptions: tell},
  ps: {run: ps, args: '', addOptions: (command) => tell(command).option('-a, --all', 'calls that have ended, too')},
  functions: {run: functions, args: '', addOptions: tell},
  status: {run: status, args: '', addOptions: tell},
  logs: {run: logs, args: '[id]', addOptions: (command) => connect(command).option(...byRequestId).option('-f, --follow', 'go on until the call has ended')},
};

function helpOf(command: Command): string {
  const name = command.name() as CommandName;
  const {synopsis, summary} = commandUsages[name];
  const rows = command.options.map(({flags, description}) => `  ${flags.padEnd(24)} ${description}`);
  return `usage: ${synopsis}\n\n${summary}\n\n${rows.join('\n')}\n`;
}

function addCommand(program: Command, name: CommandName, args: string): Command {
  const command = program.command(args === '' ? name : `${name} ${args}`).configureHelp({formatHelp: helpOf});
  return command.helpOption('-h, --help', 'print this').exitOverride();
}

function buildProgram(context: Context, done: (exit: ExitCode) => void): Command {
  const program = new Command('nodectl').exitOverride().configureHelp({formatHelp: usageText});
  program.configureOutput({
    writeOut: (text) => context.stdout.write(text),
    outputError: (text) => context.stderr.write(`nodectl: ${text.replace(/^error: /, '').trimEnd().replaceAll('\n', ' ')}\n`),
  });
  program.version(version, '-V, --version', 'print the version').helpCommand(false);
  for (const [name, {run, args, addOptions}] of Object.entries(commands) as [CommandName, CommandSpec][]) {
    const command = addOptions(addCommand(program, name, args));
    const count = command.registeredArguments.length;
    command.action(async (...given: unknown[]) => done(await run(context, command.opts() as never, ...(given.slice(0, count) as never[]))));
  }
  addCommand(program, 'keygen', '<dir>')
    .option('--name <name>', 'one more name or address of the node; may be given again', (name: string, names: readonly string[]) => [...names, name], [])
    .action(async (directory: string, options: KeygenOptions) => done(await keygen(context.stdout, directory, options)));
  return program;
}

/** Stops on the first Ctrl-C; a second one is Node's to handle, which ends at once. Also when nobody reads what is printed. */
function whenInterrupted(stdout: Stdout): {readonly signal: AbortSignal; off(): void} {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal); // one or two per node that is being asked
  const onSignal = (): void => controller.abort(new Interrupted(true));
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  stdout.failed.addEventListener('abort', () => {
    if (stdout.readerLeft) onSignal();
  });
  return {signal: controller.signal, off: () => void process.off('SIGINT', onSignal).off('SIGTERM', onSignal)};
}

async function run(argv: readonly string[], context: Context): Promise<ExitCode> {
  let exit: ExitCode = exitCodes.ok;
  try {
    const program = buildProgram(context, (code) => {
      exit = code;
    });
    if (argv.length === 0) throw new UsageError('which command? nodectl --help lists them');
    await program.parseAsync(argv, {from: 'user'});
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    context.stderr.write(`nodectl: ${oneLine(messageOf(error))}\n`);
    return error instanceof UsageError ? exitCodes.usage : exitCodes.unknown;
  }
  return exit;
}

/** Runs one command line (without node and script) and resolves to the exit code. Never rejects. */
export async function main(argv: readonly string[]): Promise<number> {
  const {stdin, stderr} = process;
  stderr.on('error', () => undefined); // there is nowhere left to say it
  const stdout = new Stdout(process.stdout);
  const {signal, off} = whenInterrupted(stdout);
  const exit = await run(argv, {stdin, stdout, stderr, interrupted: signal});
  off();
  await stdout.close();
  if (stdout.failure === null) return exit;
  if (!stdout.readerLeft) stderr.write(`nodectl: standard output: ${messageOf(stdout.failure)}\n`);
  return exitCodes.notPrinted;
}
