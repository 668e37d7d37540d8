/** The command line of ganeti-noded(8): that of Ganeti's own daemon, abbreviations and all. */
import {Command, CommanderError, Option} from 'commander';

/** The words of SYNOPSIS; a spec compares them with the man page. */
export const usage =
  'ganeti-noded [-f] [-d] [-p PORT] [-b ADDRESS | -i INTERFACE] [--no-mlock] [--max-clients N] [--syslog no|yes|only] [--no-ssl] [-K KEY] [-C CERT] [--version] [-h]';

export type SyslogUse = 'no' | 'yes' | 'only';

export interface GanetiLine {
  readonly foreground: boolean;
  readonly debug: boolean;
  readonly port?: string;
  readonly bind?: string;
  readonly interface?: string;
  readonly mlock: boolean;
  readonly maxClients: string;
  readonly syslog: SyslogUse;
  readonly ssl: boolean;
  readonly sslKey?: string;
  readonly sslCert?: string;
  /** What is no option: there must be nothing. */
  readonly words: readonly string[];
  /** Asked for with --version. */
  readonly version: boolean;
}

/** The command line cannot be read, or has been answered: the exit code. */
export class LineAnswered extends Error {
  constructor(readonly code: number) {
    super();
  }
}

/** As Ganeti's daemons have it. */
const misused = 2;

function command(): Command {
  return new Command('ganeti-noded')
    .usage(usage.slice('ganeti-noded '.length))
    .option('-f, --foreground', 'stay in the foreground', false)
    .option('-d, --debug', 'log more', false)
    .option('-p, --port <port>', 'TCP port, instead of that of ganeti-noded in /etc/services, or 1811')
    .option('-b, --bind <address>', 'address to listen on')
    .option('-i, --interface <name>', 'network interface to listen on')
    .option('--no-mlock', 'do not lock Ganeti\'s backend into memory')
    .option('--max-clients <number>', 'without meaning here', '20')
    .addOption(new Option('--syslog <use>', 'log to syslog too, or only there').choices(['no', 'yes', 'only']).default('no'))
    .option('--no-ssl', 'plain HTTP, on loopback only')
    .option('-K, --ssl-key <file>', 'key, instead of that in server.pem')
    .option('-C, --ssl-cert <file>', 'certificate and CA, instead of server.pem')
    .option('--version', 'print the version of Ganeti', false)
    .helpOption('-h, --help', 'print this')
    .argument('[words...]')
    .exitOverride()
    .configureOutput({outputError: (text, write) => write(`Usage: ${usage}\n\nganeti-noded: ${text}`)});
}

/** `--for` is `--foreground`, as far as it can be nothing else. */
function expand(word: string, names: readonly string[]): string {
  const [, name, rest] = /^(--[^=]+)(=.*)?$/s.exec(word) ?? [];
  if (name === undefined || names.includes(name)) return word;
  const meant = names.filter((one) => one.startsWith(name));
  return meant.length === 1 ? meant[0]! + (rest ?? '') : word;
}

/** Throws a LineAnswered. */
export function readLine(argv: readonly string[]): GanetiLine {
  const program = command();
  const names = [...program.options.map(({long}) => long!), '--help'];
  const end = argv.indexOf('--');
  const words = argv.map((word, position) => (end === -1 || position < end ? expand(word, names) : word));
  try {
    const parsed = program.parse(words, {from: 'user'});
    return {...parsed.opts<Omit<GanetiLine, 'words'>>(), words: parsed.args};
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    throw new LineAnswered(error.exitCode === 0 ? 0 : misused);
  }
}
