/** The commands of nodectl that only look: ps, functions, status; and forget. */
import type {NodeClient} from '../rpc/client';
import type {JsonObject} from '../rpc/client-answers';
import {writeCall} from '../rpc/protocol-answer';
import type {CallInfo} from '../rpc/protocol-answer';
import {lookAtNodes} from './nodectl-context';
import type {Context} from './nodectl-context';
import type {ExitCode} from './nodectl-exit';
import type {ConnectionOptions} from './nodectl-options';
import {seconds, table} from './nodectl-output';

export interface PsOptions extends ConnectionOptions {
  readonly all?: boolean;
}

const pageSize = 1_000;

/** A call for both readers: people get its facts, programs its wire form. */
class ShownCall {
  constructor(readonly call: CallInfo) {}

  toJSON(): object {
    return writeCall(this.call);
  }
}

async function listCalls(client: NodeClient, filter: {readonly state?: CallInfo['state']}): Promise<readonly CallInfo[]> {
  const calls: CallInfo[] = [];
  for (let cursor: number | null = 0; cursor !== null; ) {
    const page = await client.calls({...filter, limit: pageSize, cursor});
    calls.push(...page.calls);
    cursor = page.next;
  }
  return calls;
}

/** Without --all no call that has ended is listed: a node may keep 100,000 of them. */
async function livingCalls(client: NodeClient): Promise<readonly CallInfo[]> {
  const byId = new Map<string, CallInfo>();
  // In the order of a call's life: one that moves on meanwhile is seen twice rather than never.
  for (const state of ['starting', 'running', 'stopping'] as const) {
    for (const call of await listCalls(client, {state})) byId.set(call.id, call);
  }
  return [...byId.values()];
}

export function ps(context: Context, options: PsOptions): Promise<ExitCode> {
  return lookAtNodes(context, options, {
    what: 'calls',
    ask: async ({client}) => (await (options.all === true ? listCalls(client, {}) : livingCalls(client))).map((call) => new ShownCall(call)),
    show: (reports) => {
      const rows = reports.flatMap(({node, value}) => value.map(({call}) => [node, call.id, call.outcome ?? call.state, seconds(call.elapsed), call.role, call.fnName]));
      return table(['NODE', 'ID', 'STATE', 'ELAPSED', 'ROLE', 'FUNCTION'], rows, context.stdout.columns);
    },
  });
}

const text = (value: unknown): string => (value === null || value === undefined ? '-' : typeof value === 'object' ? JSON.stringify(value) : String(value));

export function functions(context: Context, options: ConnectionOptions): Promise<ExitCode> {
  return lookAtNodes(context, options, {
    what: 'functions',
    ask: ({client}) => client.functions(),
    show: (reports) => {
      const rows = reports.flatMap(({node, value}) => value.map(({fn_name: name, description}) => [node, text(name), text(description)]));
      return table(['NODE', 'FUNCTION', 'DESCRIPTION'], rows, context.stdout.columns);
    },
  });
}

/** `{a: {b: 1}}` as the pair `a.b`, 1: one row per number, whatever the node has to tell. */
function flatten(status: JsonObject, prefix = ''): readonly (readonly [string, string])[] {
  return Object.entries(status).flatMap(([name, value]) => {
    const nested = typeof value === 'object' && value !== null && !Array.isArray(value);
    return nested ? flatten(value as JsonObject, `${prefix}${name}.`) : [[`${prefix}${name}`, text(value)] as const];
  });
}

export function status(context: Context, options: ConnectionOptions): Promise<ExitCode> {
  return lookAtNodes(context, options, {
    what: 'status',
    ask: ({client}) => client.status(),
    show: (reports) => {
      const rows = reports.flatMap(({node, value}) => flatten(value).map(([name, one]) => [node, name, one]));
      return table(['NODE', 'WHAT', 'VALUE'], rows, context.stdout.columns);
    },
  });
}

export function forget(context: Context, options: ConnectionOptions, callId: string): Promise<ExitCode> {
  return lookAtNodes(context, options, {
    what: 'forgotten',
    ask: async ({client}) => {
      await client.forgetFunction(callId);
      return true;
    },
    show: () => '',
  });
}
