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

/** What a ratio, or an amount, must reach. */
export type Target = {readonly atLeast: number} | {readonly atMost: number};

/** One line of the table. */
export interface Figure {
  readonly name: string;
  readonly noded: string;
  /** What it was measured against, in the same run. */
  readonly peer: string;
  /** noded ÷ peer: median, and smallest to largest of the rounds. */
  readonly ratio: string;
  /** The target and whether it was reached; empty if there is none. */
  readonly target: string;
}

const hits = (value: number, target: Target): boolean => ('atLeast' in target ? value >= target.atLeast : value <= target.atMost);

function verdict(value: number, target: Target | null, unit = ''): string {
  if (target === null) return '';
  const wanted = 'atLeast' in target ? `≥ ${target.atLeast}` : `≤ ${target.atMost}`;
  return `${wanted}${unit}: ${hits(value, target) ? 'reached' : '**missed**'}`;
}

/** One figure from paired rounds: the ratio is taken within each round, so that a slow minute of the machine hits both. */
export function compare(name: string, unit: string, noded: readonly number[], peer: readonly number[], peerName: string, target: Target | null = null): Figure {
  const ratios = noded.map((value, round) => value / (peer[round] ?? Number.NaN));
  return {
    name,
    noded: `${digits(median(noded))} ${unit}`,
    peer: `${peerName}: ${digits(median(peer))} ${unit}`,
    ratio: `**${digits(median(ratios))}** (${digits(Math.min(...ratios))}–${digits(Math.max(...ratios))})`,
    target: verdict(median(ratios), target),
  };
}

/** One figure that is an amount and no ratio: median, and smallest to largest of the rounds. */
export function amount(name: string, unit: string, values: readonly number[], target: Target): Figure {
  const range = `${digits(Math.min(...values))}–${digits(Math.max(...values))}`;
  return {name, noded: `**${digits(median(values))}** ${unit} (${range})`, peer: '–', ratio: '–', target: verdict(median(values), target, ` ${unit}`)};
}

/** The lines as a Markdown table. */
export function markdownTable(figures: readonly Figure[]): string {
  const lines = figures.map(({name, noded, peer, ratio, target}) => `| ${name} | ${noded} | ${peer} | ${ratio} | ${target} |`);
  return ['| figure | noded | against | noded ÷ peer (min–max) | target |', '|---|---|---|---|---|', ...lines].join('\n');
}
