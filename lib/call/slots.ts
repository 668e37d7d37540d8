/** The calls that take a slot: starting, running or stopping. Says no before anything is started. */
import {NodedError} from '../base/errors';
import type {Call} from './call-record';
import type {FunctionSpec} from './spawner';

export interface SlotLimits {
  readonly maxCalls: number;
  readonly maxUrgentCalls: number;
}

export class Slots {
  private readonly byFunction = new Map<string, Set<Call>>();
  private normal = 0;
  private urgent = 0;

  constructor(private readonly limits: SlotLimits) {}

  get size(): number {
    return this.normal + this.urgent;
  }

  calls(): Call[] {
    return [...this.byFunction.values()].flatMap((calls) => [...calls]);
  }

  /** Throws function_busy or too_many_calls. Urgent functions have slots of their own. */
  checkRoom({name, maxRunning, urgent}: FunctionSpec): void {
    if (maxRunning !== null && (this.byFunction.get(name)?.size ?? 0) >= maxRunning) {
      throw new NodedError('function_busy', {message: `${name}: ${maxRunning} running calls are the most`});
    }
    const full = urgent ? this.urgent >= this.limits.maxUrgentCalls : this.normal >= this.limits.maxCalls;
    if (full) throw new NodedError('too_many_calls');
  }

  take(call: Call, spec: FunctionSpec): void {
    const calls = this.byFunction.get(spec.name);
    if (calls === undefined) this.byFunction.set(spec.name, new Set([call]));
    else calls.add(call);
    this.count(spec, 1);
  }

  free(call: Call, spec: FunctionSpec): void {
    const calls = this.byFunction.get(spec.name)!;
    calls.delete(call);
    if (calls.size === 0) this.byFunction.delete(spec.name);
    this.count(spec, -1);
  }

  private count({urgent}: FunctionSpec, by: 1 | -1): void {
    if (urgent) this.urgent += by;
    else this.normal += by;
  }
}
