/** The text of GET /metrics (Prometheus exposition format 0.0.4), as specs read it. */

/** The value of one sample, named as it stands there: `noded_refused_total{code="draining"}`; 0 if it is not there. */
export function sampleOf(text: string, sample: string): number {
  const line = text.split('\n').find((one) => one.startsWith(`${sample} `));
  return line === undefined ? 0 : Number(line.slice(sample.length + 1));
}
