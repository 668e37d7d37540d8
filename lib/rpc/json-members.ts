/** The members of a scanned JSON object, cut out of its text as bytes. */
import {NodedError} from '../base/errors';
import type {ScanResult} from './json-scan';
import type {Members} from './protocol';

/** Throws bad_json unless the text is one JSON object without doubled members. */
export function cutMembers(text: Uint8Array, scan: ScanResult): Members {
  if (!scan.valid) throw new NodedError('bad_json', {message: `the body is not JSON: ${scan.reason} at byte ${scan.offset}`});
  if (scan.kind !== 'object') throw new NodedError('bad_json', {message: `the body must be a JSON object, and is ${scan.kind}`});
  const members = new Map<string, Uint8Array>();
  for (const {name, start, end} of scan.members) {
    if (members.has(name)) throw new NodedError('bad_json', {field: name, message: `${name} is given twice`});
    members.set(name, text.subarray(start, end));
  }
  return members;
}
