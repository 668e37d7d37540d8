import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {BuiltNoded} from '../support/built';
import {NodedDaemon} from '../support/daemon';
import type {Response} from '../support/daemon';
import {chooseSeed, randomFrom} from '../support/random';

const rounds = Number(process.env.NODED_SPEC_KILLS ?? 20);
const masters = 6;
/** Answers that are read again until the last round; the others are forgotten after one restart. */
const keptAnswers = 50;

/** What a master has been told of a call that had ended. */
interface Told {
  readonly id: string;
  readonly outcome: string | null;
  readonly result: string;
}

/** The result as it stands in an answer, byte for byte. */
function told({text, json}: Response): Told {
  const result = text.slice(text.indexOf('"result":') + '"result":'.length, text.indexOf(',"call":{'));
  return {id: json.call.id, outcome: json.call.outcome, result};
}

/** Masters that start one call after the other, and remember what they were told. */
class Masters {
  /** Answers by the number of the call. */
  readonly ended = new Map<number, Told>();
  /** Starts that have not been answered with an end. */
  readonly open = new Set<number>();
  private last = 0;
  private stopped = false;

  constructor(private readonly daemon: NodedDaemon) {}

  /** Starts calls until `stop`; a connection that breaks ends this master's work. */
  async work(): Promise<void> {
    this.stopped = false;
    while (!this.stopped) {
      const n = ++this.last;
      this.open.add(n);
      if (!(await this.ask(n))) return;
    }
  }

  stop(): void {
    this.stopped = true;
  }

  /** Asks for call `n`, for the first time or again. False if there was no answer. */
  async ask(n: number): Promise<boolean> {
    let response: Response;
    try {
      response = await this.daemon.startFunction('work', n, 20, {request_id: `crash.${String(n).padStart(6, '0')}`});
    } catch {
      return false;
    }
    expect(response.status, response.text).to.equal(200);
    expect(response.json.finished, response.text).to.equal(true);
    this.remember(n, told(response));
    return true;
  }

  private remember(n: number, answer: Told): void {
    this.open.delete(n);
    // Half a result would be invalid_output, or worse.
    expect(answer.outcome, JSON.stringify(answer)).to.be.oneOf(['ok', 'lost']);
    expect(answer.result).to.equal(answer.outcome === 'ok' ? `{"n":${n},"pad":"${'x'.repeat(n % 1000)}","done":true}` : 'null');
    this.ended.set(n, answer);
  }
}

describe('a busy noded that is killed again and again', function () {
  this.timeout(240_000);
  const seed = chooseSeed();
  const random = randomFrom(seed);
  let built: BuiltNoded;
  let daemon: NodedDaemon;

  before(async () => {
    built = new BuiltNoded();
    daemon = new NodedDaemon({program: built.program});
    fs.mkdirSync(join(daemon.root, 'counts'));
    // Arguments are a number; the result comes in three writes, with a pause in between.
    const body = [
      '#!/bin/sh', 'read -r n', `echo x >> ${daemon.root}/counts/$n`, 'printf \'{"n":%s,"pad":"\' $n', 'sleep 0.0$((n % 7))',
      'printf "%0$((n % 1000 + 1))d" 0 | tail -c +2 | tr 0 x', 'printf \'","done":true}\'', '',
    ].join('\n');
    fs.writeFileSync(join(daemon.functionsDir, 'work'), body, {mode: 0o755});
    await daemon.start();
  });
  after(async () => {
    await daemon?.dispose();
    built?.dispose();
  });

  /** After a restart: what was told is told again, and what was not answered is asked for again. */
  async function recheck(work: Masters, fresh: ReadonlySet<number>): Promise<void> {
    const asked = await Promise.all([...work.open].map((n) => work.ask(n)));
    expect(asked).to.not.include(false);
    await Promise.all(
      [...work.ended].map(async ([n, answer]) => {
        expect(told(await daemon.waitForFunction(answer.id, 0))).to.deep.equal(answer);
        if (!fresh.has(n) || n % 10 === 0) return;
        await daemon.put('ForgetFunction', {fnc_id: answer.id});
        work.ended.delete(n);
      }),
    );
    for (const n of [...work.ended.keys()].slice(0, -keptAnswers)) work.ended.delete(n);
  }

  it(`serves no half result, forgets no end, runs nothing twice and leaves no process (${rounds} rounds, NODED_SPEC_SEED=${seed})`, async () => {
    const work = new Masters(daemon);
    let lost = 0;
    for (let round = 0; round < rounds; round += 1) {
      const before = new Set(work.ended.keys());
      const working = Array.from({length: masters}, () => work.work());
      await pause(random() * 150);
      await daemon.kill();
      work.stop();
      await Promise.all(working);
      await daemon.start();
      const unanswered = [...work.open];
      await recheck(work, new Set([...work.ended.keys()].filter((n) => !before.has(n))));
      lost += unanswered.filter((n) => work.ended.get(n)?.outcome === 'lost').length;
    }
    const counts = fs.readdirSync(join(daemon.root, 'counts'));
    // Nothing stands in it of one that was killed between the opening of the file and the writing.
    const twice = counts.filter((name) => fs.readFileSync(join(daemon.root, 'counts', name), 'utf8').length > 'x\n'.length);
    expect(twice, 'calls that ran more than once').to.deep.equal([]);
    for (const [n, {outcome}] of work.ended) if (outcome === 'ok') expect(counts).to.include(String(n));
    console.log(`      ${counts.length} calls, ${lost} of them lost with their noded`);
    expect(lost, 'a noded that never dies in the middle of a call shows nothing').to.be.above(0);
    expect(await daemon.stop()).to.deep.equal({code: 0, signal: null});
    expect(daemon.functionProcesses()).to.deep.equal([]);
  });
});
