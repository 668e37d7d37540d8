import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {recordOf} from '../../lib/call/journal';
import type {JournalRecord} from '../../lib/call/journal';
import {BuiltNoded} from '../support/built';
import {Chance, seedOfRun} from '../support/chance';
import {NodedDaemon} from '../support/daemon';
import type {Response} from '../support/daemon';
import {forkServersIn, kill, noForkServerIn} from '../support/processes';
import {until} from '../support/until';
import {logOf} from '../support/journals';

/** Deaths of one of them: of noded three for each of the fork server. More by NODED_SPEC_KILLS. */
const kills = Number(process.env.NODED_SPEC_KILLS ?? 20);
/** Deaths of both together. More by NODED_SPEC_JOINT_KILLS. */
const jointKills = Number(process.env.NODED_SPEC_JOINT_KILLS ?? kills / 4);
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

/** In its `ended` line, or in a file. */
function stdoutOf(runDir: string, key: string, {ended}: JournalRecord): string {
  const noted = ended !== null && 'noted' in ended ? ended.noted : undefined;
  return noted?.stdout ?? fs.readFileSync(join(runDir, 'calls', `${key}.out`), 'utf8');
}

/** Every line that was written: what the lines of a call say must be one story, and the one that was told. */
function checkLines(runDir: string, {told, ids}: Masters): {readonly damaged: number; readonly accepted: number} {
  let damaged = 0;
  const lines = new Map<string, string[]>();
  for (const {key, json} of logOf(runDir, () => (damaged += 1))) lines.set(key, [...(lines.get(key) ?? []), json]);
  for (const [key, those] of lines) {
    const events = those.map((json) => (JSON.parse(json) as {readonly event: string}).event);
    const all = those.join('\n');
    const count = (event: string): number => events.filter((its) => its === event).length;
    expect(events[0], all).to.equal('accepted');
    expect(new Set(those.filter((_json, n) => events[n] === 'accepted')).size, all).to.equal(1);
    expect(events.filter((event) => !['accepted', 'started', 'ended', 'outcome'].includes(event)), all).to.deep.equal([]);
    expect([count('started') <= 1, count('ended') <= 1, count('outcome') <= 1], all).to.deep.equal([true, true, true]);
    expect(count('started') >= count('ended'), all).to.equal(true);
    expect(recordOf(key, those)?.accepted.key, all).to.equal(key);
  }
  for (const [n, outcome] of told) {
    const key = ids.get(n)!.split(':')[3]!;
    const record = recordOf(key, lines.get(key)!)!;
    if (outcome === 'ok') expect(stdoutOf(runDir, key, record), `call ${n}`).to.equal(`{"n":${n},"done":true}`);
    else expect(record.outcome?.outcome, `call ${n}`).to.equal('lost');
  }
  return {damaged, accepted: lines.size};
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

  it(`ends every call once, runs none twice and leaves no process (${kills} deaths, and ${jointKills} of both, NODED_SEED=${seed})`, async () => {
    const work = new Masters(daemon);
    const left: Record<Victim, number> = {noded: Math.ceil(kills * 0.75), 'fork server': Math.ceil(kills * 0.25), both: jointKills};
    for (let round = left.noded + left['fork server'] + left.both; round > 0; round -= 1) {
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
    const {damaged, accepted} = checkLines(daemon.runDir, work);
    // At most the one line that was being written at each death.
    expect(damaged).to.be.at.most(kills + 2 * jointKills);
    expect(accepted).to.be.at.least(work.started);
  });
});
