/** The command lines of nodectl as data: `--help` prints them, and nodectl(1) SYNOPSIS is compared with them. */

export interface CommandUsage {
  readonly synopsis: string;
  readonly summary: string;
}

const connection = '[-n NODES] [-p PORT] [-C CERT] [-K KEY] [--ca FILE] [--no-ssl] [--ganeti]';
const program = `${connection} [--json]`;

export const commandUsages = {
  call: {
    synopsis: `nodectl call ${program} [-t SECONDS] [--abort-after SECONDS] [--request-id ID] [--reason TEXT] FUNCTION [ARGS]`,
    summary: 'start a function and wait until it has ended',
  },
  start: {
    synopsis: `nodectl start ${program} [-t SECONDS] [--abort-after SECONDS] [--request-id ID] [--reason TEXT] FUNCTION [ARGS]`,
    summary: 'start a function and do not wait',
  },
  wait: {synopsis: `nodectl wait ${program} [-t SECONDS] ID | --request-id ID`, summary: 'wait until a call has ended'},
  abort: {synopsis: `nodectl abort ${program} [-t SECONDS] [--kill-after SECONDS] ID | --request-id ID`, summary: 'stop a call'},
  forget: {synopsis: `nodectl forget ${program} ID`, summary: 'drop the result of a call that has ended'},
  ps: {synopsis: `nodectl ps ${program} [-a]`, summary: 'list calls'},
  functions: {synopsis: `nodectl functions ${program}`, summary: 'list the functions that may be called'},
  status: {synopsis: `nodectl status ${program}`, summary: 'tell how the nodes are'},
  logs: {synopsis: `nodectl logs ${connection} [-f] ID | --request-id ID`, summary: 'print the last of what a function wrote to stderr'},
  keygen: {synopsis: 'nodectl keygen [--name NAME]... DIR', summary: 'make a CA and the certificates of a node and a master'},
} as const satisfies Record<string, CommandUsage>;

export type CommandName = keyof typeof commandUsages;

/** What `nodectl --help` prints. */
export function usageText(): string {
  const rows = Object.entries(commandUsages).map(([name, {summary}]) => `  ${name.padEnd(10)} ${summary}`);
  return `${['usage: nodectl COMMAND [OPTION]... [ARGUMENT]...', '', ...rows, '', 'nodectl COMMAND --help tells the options of a command; nodectl(1) tells the rest.'].join('\n')}\n`;
}
