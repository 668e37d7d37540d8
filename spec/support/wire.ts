/** What noded answers, as specs read it: the words of the wire (DESIGN.md section 8). */
import type {IncomingHttpHeaders, IncomingMessage} from 'node:http';

/** `call` of an answer, in the words of the wire. */
export interface CallView {
  readonly id: string;
  readonly fn_name: string;
  readonly request_id: string | null;
  readonly role: string;
  readonly state: string;
  readonly outcome: string | null;
  readonly exit_code: number | null;
  readonly signal: string | null;
  readonly stopped_by: string | null;
  readonly started_at: number | null;
  readonly ended_at: number | null;
  readonly elapsed: number;
  readonly duplicate: boolean;
  readonly stderr: {readonly from: number; readonly next: number; readonly dropped: number; readonly text: string};
}

/** The members of all answers and of all problems; which of them are there is what a spec looks at. */
export interface Answer {
  readonly fnc_id: string | null;
  readonly finished: boolean;
  readonly result: unknown;
  readonly call: CallView;
  readonly waited: number;
  readonly error: {readonly code: string; readonly message: string} | null;
  /** Of a problem. */
  readonly code: string;
  readonly status: number;
  readonly started: string;
  readonly detail: string;
  readonly outcome: string;
  /** Of GET /status. */
  readonly instance: string;
  readonly draining: boolean;
  readonly counts: Readonly<Record<string, number>>;
  readonly spool_bytes: number;
}

export interface Response {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly text: string;
  /** Undefined for what is no JSON; read it where it is. */
  readonly json: Answer;
}

export function responseOf(response: IncomingMessage, bytes: Buffer): Response {
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    bytes,
    text: bytes.toString(),
    get json(): Answer {
      return JSON.parse(bytes.toString()) as Answer;
    },
  };
}
