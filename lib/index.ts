/** The public door of noded for masters written in TypeScript or JavaScript. */
export {NodedError, errorCodes} from './base/errors';
export type {ErrorCode, ErrorDetail, Started} from './base/errors';
export {outcomes} from './base/outcome';
export type {Outcome, StopCause, VisibleState} from './base/outcome';
export {NodeClient} from './rpc/client';
export type {NodeClientOptions} from './rpc/client';
export {parseResult} from './rpc/client-answers';
export type {Answers, CallPage, JsonObject} from './rpc/client-answers';
export type {HealthReport} from './rpc/client-health';
export type {AbortRequest, CallFilter, CallRequest, FollowOptions, FunctionArgs, StartRequest, WaitRequest} from './rpc/client-requests';
export {TransportError} from './rpc/client-transport';
export type {Health} from './rpc/client-transport';
export type {CallReference} from './rpc/protocol';
export type {Answer, CallError, CallInfo, StderrTail} from './rpc/protocol-answer';
export {loadTls} from './rpc/tls-files';
export type {TlsFiles, TlsMaterial} from './rpc/tls-files';
