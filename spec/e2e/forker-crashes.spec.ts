import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {BuiltNoded} from '../support/built';
import {Chance, seedOfRun} from '../support/chance';
import {NodedDaemon} from '../support/daemon';
import type {Response} from '../support/daemon';
import {forkServersIn, kill, noForkServerIn} from '../support/processes';
import {until} from '../support/until';
import {logOf} from '../support/journals';

/** Deaths of noded; of the fork server half as many. More by NODED_SPEC_KILLS. */
const kills = Number(process.env.NODED_SPEC_KILLS ?? 20);
const masters = 8;
/** Answers that are asked for again after each round. */
const rechecked = 40;

type Victim = 'noded' | 'fork server' | 'both';

/** Masters that start one call after the other under request IDs, and remember what they were told. */
class Masters {
  readonly told = new Map<number, string>();
  readonly open = new Set<number>();
  readonly ids = new Map<number, string>();
  private last = 0;
  private stopped = false;

  constructor(private readonly daemon: NodedDaemon) {}

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

  get started(): number {
    return this.last;
  }

  /** Asks for call `n` until it has ended. False if the connection broke. */
  async ask(n: number): Promise<boolean> {
    for (;;) {
      let response: Response;
      try {
        response = await this.daemon.startFunction('work', n, 20, {request_id: `crash.${String(n).padStart(6, '0')}`});
      } catch {
        return false;
      }
      // Between two fork servers nothing can be started; the request may be repeated.
      if (response.status === 503 && response.json.code === 'spawner_unavailable') await pause(5);
      else return this.remember(n, response);
    }
  }

  private remember(n: number, {status, text, json}: Response): true {
    expect(status, text).to.equal(200);
    expect(json.finished, text).to.equal(true);
    const {outcome, id} = json.call;
    expect(outcome, text).to.be.oneOf(['ok', 'lost']);
    expect(json.result, text).to.deep.equal(outcome === 'ok' ? {n, done: true} : null);
    expect(this.told.get(n) ?? outcome, `call ${n} has had another outcome`).to.equal(outcome);
    this.open.delete(n);
    this.told.set(n, outcome!);
    this.ids.set(n, id);
    return true;
  }
}

describe('a busy noded and its fork server that are killed again and again', function () {
  this.timeout(600_000);
  const seed = seedOfRun();
  const chance = new Chance(seed);
  let built: BuiltNoded;
  let daemon: NodedDaemon;

  before(async () => {
    built = new BuiltNoded({forker: true});
    daemon = new NodedDaemon({program: built.program});
    fs.mkdirSync(join(daemon.root, 'counts'));
    // Every third one leaves a daemon behind that has a session of its own and minds no SIGTERM, every fourth a plain child.
    const body = `#!/bin/sh
      read -r n; echo x >> ${daemon.root}/counts/$n; printf '{"n":%s,' $n
      if [ $((n % 3)) = 0 ]; then setsid sh -c 'trap "" TERM; (trap "" TERM HUP; setsid sleep 300 &) & sleep 300' > /dev/null 2>&1 & fi
      if [ $((n % 4)) = 0 ]; then sleep 300 & fi
      sleep 0.0$((n % 9)); printf '"done":true}'\n`;
    fs.writeFileSync(join(daemon.functionsDir, 'work'), body, {mode: 0o755});
    await daemon.start();
  });
  after(async () => {
    await daemon?.dispose();
    built?.dispose();
  });

  async function strike(victim: Victim): Promise<void> {
    if (victim !== 'noded') forkServersIn(daemon.runDir).forEach(kill);
    if (victim !== 'fork server') await daemon.kill();
  }

  async function recheck(work: Masters): Promise<void> {
    expect(await Promise.all([...work.open].map((n) => work.ask(n)))).to.not.include(false);
    const known = [...work.told.keys()].slice(-rechecked);
    for (const n of known) {
      const {json, text} = await daemon.waitForFunction(work.ids.get(n)!, 0);
      expect(json, text).to.have.property('call');
      expect([n, json.call.id, json.call.outcome]).to.deep.equal([n, work.ids.get(n), work.told.get(n)]);
    }
  }

  it(`ends every call once, runs none twice and leaves no process (${kills} and ${kills / 2} deaths, NODED_SEED=${seed})`, async () => {
    const work = new Masters(daemon);
    const left: Record<Victim, number> = {noded: Math.ceil(kills * 0.75), 'fork server': Math.ceil(kills * 0.25), both: Math.ceil(kills * 0.25)};
    for (let round = kills + Math.ceil(kills / 4); round > 0; round -= 1) {
      const victim = chance.weighted(left);
      left[victim] -= 1;
      const working = Array.from({length: masters}, () => work.work());
      await pause(chance.below(120));
      await strike(victim);
      if (victim === 'fork server') await pause(chance.below(30));
      work.stop();
      await Promise.all(working);
      if (!daemon.isRunning) await daemon.start();
      await recheck(work);
    }
    expect(left).to.deep.equal({noded: 0, 'fork server': 0, both: 0});
    const counts = fs.readdirSync(join(daemon.root, 'counts'));
    // Nothing stands in it of one that was killed between the opening of the file and the writing.
    const twice = counts.filter((name) => fs.readFileSync(join(daemon.root, 'counts', name), 'utf8').length > 'x\n'.length);
    expect(twice, 'calls that ran more than once').to.deep.equal([]);
    for (const [n, outcome] of work.told) if (outcome === 'ok') expect(counts).to.include(String(n));
    expect(work.told.size).to.equal(work.started);
    const lost = [...work.told.values()].filter((outcome) => outcome === 'lost').length;
    console.log(`      ${work.started} calls, ${lost} of them lost with their fork server`);
    expect(lost, 'a fork server that never dies in the middle of a call shows nothing').to.be.above(0);
    expect((await daemon.get('/status')).json.counts).to.include({starting: 0, running: 0, stopping: 0});
    await until('nothing is left of calls that have ended', () => daemon.functionProcesses().length === 0);
    expect(await daemon.stop()).to.deep.equal({code: 0, signal: null});
    await noForkServerIn(daemon.runDir);
    // At most the one line that was being written at each death.
    let damaged = 0;
    const accepted = logOf(daemon.runDir, () => (damaged += 1)).filter(({json}) => json.startsWith('{"event":"accepted"'));
    expect(damaged).to.be.at.most(2 * kills);
    expect(new Set(accepted.map(({key}) => key)).size).to.be.at.least(work.started);
  });
});
