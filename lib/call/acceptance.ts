/** From a start that has been checked to what its call is accepted with. */
import {momentNow} from '../base/boot-clock';
import type {FunctionSpec} from './spawner';
import {drawKey} from './call-id';
import type {Acceptance} from './call-record';

/** The function is known and may be called, the arguments fit. */
export interface StartRequest {
  readonly spec: FunctionSpec;
  readonly args: Uint8Array;
  readonly fingerprint: string;
  readonly role: string;
  readonly requestId: string | null;
  readonly abortAfterMs: number | null;
  readonly reason: string | null;
  readonly traceparent: string | null;
}

/** Draws the key of a call that is to be started now. */
export function accept({spec, args, fingerprint, role, requestId, abortAfterMs, reason}: StartRequest): Acceptance {
  const {atMs, boot} = momentNow();
  return {
    key: drawKey(),
    ppid: process.pid,
    acceptedAtMs: atMs,
    acceptedBoot: boot,
    fnName: spec.name,
    requestId,
    role,
    fingerprint,
    argsBytes: args.byteLength,
    abortAfterMs,
    reason,
    spooled: true,
  };
}
