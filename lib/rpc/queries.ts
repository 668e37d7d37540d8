/** The operations that only look: GET /calls, /calls/ID, /functions, /status and /metrics. */
import {inSlices} from '../call/slices';
import {readGetCall, readListCalls, readNothing} from './protocol';
import {writeCall} from './protocol-answer';
import {callInfo, jsonReply} from './reply';
import type {Reply} from './reply';
import {mayUse, showCall} from './operations';
import type {FunctionEntry, Operation} from './operations';

/** What only the daemon as a whole knows; main/ gives it. Neither starts anything nor reads a disk. */
export interface NodeFacts {
  status(): object;
  /** Prometheus text exposition format, 0.0.4. */
  metrics(): Promise<string>;
}

const listCalls: Operation = async (context, {role}, members) => {
  const {state, fnName, role: ofRole, limit, cursor} = readListCalls(members);
  const visible = (name: string): boolean => mayUse(context, role, name);
  const calls = await context.table.index.list({state, fnName, role: ofRole, visible}, cursor, limit);
  const next = calls.length === limit ? calls.at(-1)!.sequence : null;
  const shown: object[] = [];
  await inSlices(calls, (call) => {
    if (call.state === 'gone') return;
    context.table.naming(call);
    shown.push(writeCall(callInfo(call, {duplicate: false, stderr: null})));
  });
  return jsonReply({calls: shown, next});
};

const getCall: Operation = async (context, caller, members) => {
  const {callId, stderrFrom} = readGetCall(members);
  return showCall(context, caller, callId, stderrFrom);
};

const seconds = (ms: number | null): number | null => (ms === null ? null : ms / 1000);

const describe = ({spec, description, args, abortAfterMs, maxAbortAfterMs, roles}: FunctionEntry): object => ({
  fn_name: spec.name,
  description,
  args: args?.schema ?? null,
  abort_after: seconds(abortAfterMs),
  max_abort_after: seconds(maxAbortAfterMs),
  kill_after: seconds(spec.killAfterMs),
  max_running: spec.maxRunning,
  max_output: spec.maxOutputBytes,
  urgent: spec.urgent,
  leave_running: spec.leaveRunning,
  roles,
});

const listFunctions: Operation = async (context, {role}, members) => {
  readNothing(members);
  const entries = context.functions.list().filter(({spec}) => mayUse(context, role, spec.name));
  return jsonReply({functions: entries.map(describe)});
};

/** The operations of GET, by the name that the local socket knows them by. */
export function queries(facts: NodeFacts): ReadonlyMap<string, Operation> {
  const getStatus: Operation = async (_context, _caller, members): Promise<Reply> => {
    readNothing(members);
    return jsonReply(facts.status());
  };
  const getMetrics: Operation = async (_context, _caller, members): Promise<Reply> => {
    readNothing(members);
    return {contentType: 'text/plain; version=0.0.4; charset=utf-8', pieces: [Buffer.from(await facts.metrics())]};
  };
  return new Map([
    ['ListCalls', listCalls],
    ['GetCall', getCall],
    ['ListFunctions', listFunctions],
    ['GetStatus', getStatus],
    ['GetMetrics', getMetrics],
  ]);
}
