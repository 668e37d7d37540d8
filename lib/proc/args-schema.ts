/** Checks of arguments against a manifest's JSON Schema. ajv is loaded when the first schema is compiled: it is half of a start. */
import type {Ajv as AjvClass, ErrorObject, ValidateFunction} from 'ajv';

/** What is wrong with the arguments, and where: a JSON pointer (RFC 6901) into them. */
export interface ArgsComplaint {
  readonly pointer: string;
  readonly message: string;
}

let ajv: AjvClass | undefined;

function compiler(): AjvClass {
  if (ajv === undefined) {
    const {Ajv} = require('ajv') as typeof import('ajv');
    // Functions' schemas are the operator's own; a keyword that ajv does not know is still a mistake.
    // ownProperties: a member that is called toString is missing from {} all the same.
    ajv = new Ajv({ownProperties: true, allErrors: false, strict: true, strictTypes: false, strictTuples: false, allowUnionTypes: true});
  }
  return ajv;
}

const complaintOf = ({instancePath, message, params}: ErrorObject): ArgsComplaint => ({
  pointer: instancePath,
  message: `${message ?? 'does not fit'}${typeof params.additionalProperty === 'string' ? `: ${params.additionalProperty}` : ''}`,
});

export class ArgsSchema {
  private validate: ValidateFunction | undefined;

  constructor(readonly schema: object | boolean) {}

  /** Compiles the schema; throws an Error that says what is wrong with it. */
  compile(): ValidateFunction {
    this.validate ??= compiler().compile(this.schema);
    return this.validate;
  }

  /** Null if the arguments, one JSON text, fit. */
  check(args: Uint8Array): readonly ArgsComplaint[] | null {
    const validate = this.compile();
    const value: unknown = JSON.parse(Buffer.from(args.buffer, args.byteOffset, args.byteLength).toString());
    return validate(value) ? null : (validate.errors ?? []).map(complaintOf);
  }
}
