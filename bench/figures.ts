/** Numbers of repeated rounds, and how they are shown. */

/** The value below which `share` (0 to 1) of the values lie, by nearest rank. Throws for no values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const found = sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
  if (found === undefined) throw new Error('no values were measured');
  return found;
}

/** The middle value; of an even number of values the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const upper = percentile(values, 0.5 + 0.5 / Math.max(1, values.length));
  return (percentile(values, 0.5) + upper) / 2;
}

/** Three significant digits: more would be noise. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US');
  return Number(value.toPrecision(3)).toString();
}

/** One line of the table. */
export interface Figure {
  readonly name: string;
  readonly noded: string;
  /** What it was measured against, in the same run. */
  readonly peer: string;
  /** noded ÷ peer: median, and smallest to largest of the rounds. */
  readonly ratio: string;
}

/** One figure from paired rounds: the ratio is taken within each round, so that a slow minute of the machine hits both. */
export function compare(name: string, unit: string, noded: readonly number[], peer: readonly number[], peerName: string): Figure {
  const ratios = noded.map((value, round) => value / (peer[round] ?? Number.NaN));
  return {
    name,
    noded: `${digits(median(noded))} ${unit}`,
    peer: `${peerName}: ${digits(median(peer))} ${unit}`,
    ratio: `**${digits(median(ratios))}** (${digits(Math.min(...ratios))}–${digits(Math.max(...ratios))})`,
  };
}

/** The lines as a Markdown table. */
export function markdownTable(figures: readonly Figure[]): string {
  const lines = figures.map(({name, noded, peer, ratio}) => `| ${name} | ${noded} | ${peer} | ${ratio} |`);
  return ['| figure | noded | against | noded ÷ peer (min–max) |', '|---|---|---|---|', ...lines].join('\n');
}
