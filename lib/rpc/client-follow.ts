/** From a start to the end of the call, however long it takes: waits in slices, one after the other. */
import {monotonicMs} from '../base/duration';
import type {Bounds, CallRequest, FollowOptions, StartRequest, WaitRequest} from './client-requests';
import {TransportError} from './client-transport';
import type {CallReference} from './protocol';
import type {Answer} from './protocol-answer';

/** The steps that this is made of; each takes care of lost answers by itself. */
export interface Steps {
  /** The longest single wait. */
  readonly sliceMs: number;
  start(request: StartRequest, bounds: Bounds): Promise<Answer>;
  wait(request: WaitRequest, bounds: Bounds): Promise<Answer>;
  /** Repeats an attempt that is refused only for now. */
  whileRefused<T>(attempt: () => Promise<T>, bounds: Bounds): Promise<T>;
}

/** Who wants to be told of progress learns the call's ID, and what is on stderr, after so long. */
const firstLookMs = 250;

/** What is left of the time to wait, one slice at most. */
const nextSliceMs = ({sliceMs}: Steps, endMs: number): number => Math.max(0, Math.min(sliceMs, endMs - monotonicMs()));

export async function callAndFollow(steps: Steps, request: CallRequest): Promise<Answer> {
  const {timeoutMs = Infinity, onProgress, followStderr = false, signal, ...start} = request;
  const endMs = monotonicMs() + timeoutMs;
  const bounds = {signal, endMs};
  const firstMs = (): number => Math.min(nextSliceMs(steps, endMs), onProgress === undefined ? Infinity : firstLookMs);
  const answer = await steps.whileRefused(() => steps.start({...start, timeoutMs: firstMs()}, bounds), bounds);
  if (answer.finished) return answer;
  onProgress?.(answer);
  if (nextSliceMs(steps, endMs) === 0) return answer;
  try {
    return await followUntil(steps, {callId: answer.call.id}, {...bounds, onProgress, followStderr, seen: answer});
  } catch (error) {
    // A wait starts nothing, but this function was started.
    throw error instanceof TransportError ? error.with({started: 'unknown'}) : error;
  }
}

export async function followCall(steps: Steps, call: CallReference, options: FollowOptions): Promise<Answer> {
  const {timeoutMs = Infinity, onProgress, followStderr = false, signal} = options;
  return followUntil(steps, call, {endMs: monotonicMs() + timeoutMs, onProgress, followStderr, signal, seen: null});
}

interface Following extends Pick<FollowOptions, 'followStderr' | 'signal'> {
  readonly endMs: number;
  readonly onProgress: FollowOptions['onProgress'] | undefined;
  /** The last answer. Who has seen none, and wants to be told of progress, has a look before the first wait. */
  readonly seen: Answer | null;
}

async function followUntil(steps: Steps, call: CallReference, following: Following): Promise<Answer> {
  const {endMs, onProgress, followStderr, signal} = following;
  for (let {seen} = following; ; ) {
    const waitMs = seen === null && onProgress !== undefined ? 0 : nextSliceMs(steps, endMs);
    const stderrFrom = followStderr ? seen?.call.stderr?.next : undefined;
    const stderr = stderrFrom === undefined ? {} : {stderrFrom, wakeOnStderr: true};
    try {
      const answer = await steps.whileRefused(() => steps.wait({call, timeoutMs: waitMs, ...stderr}, {signal, endMs}), {signal, endMs});
      if (answer.finished) return answer;
      onProgress?.(answer);
      if (nextSliceMs(steps, endMs) === 0) return answer;
      seen = answer;
    } catch (error) {
      // The node lives, though it missed an answer: there is nothing to do but to go on waiting.
      const late = error instanceof TransportError && error.health === 'late';
      if (!late || nextSliceMs(steps, endMs) === 0) throw error;
    }
  }
}
