import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {describeWithDisks} from '../support/as-root';
import {BuiltNoded} from '../support/built';
import {Chance, seedOfRun} from '../support/chance';
import type {NodedDaemon} from '../support/daemon';
import {DaemonOnDisk} from '../support/daemon-on-disk';
import type {Response} from '../support/daemon';
import {forkServersIn, kill, noForkServerIn, signalProcess} from '../support/processes';
import {until} from '../support/until';

/** Power cuts for each spawner. More by NODED_SPEC_CUTS. */
const cuts = Number(process.env.NODED_SPEC_CUTS ?? 4);
const masters = 8;

interface Told {
  readonly id: string;
  /** The text of the result, or that there is none any more. */
  readonly result: string | 'forgotten' | 'lost';
}

/** Masters that remember what they were told. */
class Masters {
  readonly told = new Map<number, Told>();
  /** IDs of calls that ran when they were told of. */
  readonly running = new Map<number, string>();
  readonly open = new Set<number>();
  private last = 0;
  private stopped = false;

  constructor(private readonly daemon: NodedDaemon) {}

  get started(): number {
    return this.last;
  }

  stop(): void {
    this.stopped = true;
  }

  async work(): Promise<void> {
    this.stopped = false;
    while (!this.stopped) {
      const n = ++this.last;
      this.open.add(n);
      if (!(await this.ask(n, n % 7 === 0 ? 0 : 20))) return;
    }
  }

  /** Starts call `n`, or asks for it again. False if the connection broke. */
  async ask(n: number, timeout: number): Promise<boolean> {
    let response: Response;
    try {
      response = await this.daemon.startFunction('work', n, timeout, {request_id: `power.${String(n).padStart(6, '0')}`});
    } catch {
      return false;
    }
    const {status, text, json} = response;
    expect(status, text).to.equal(200);
    if (json.finished !== true) {
      this.running.set(n, json.call.id);
      return true;
    }
    expect(json.call.outcome, text).to.be.oneOf(['ok', 'lost']);
    this.open.delete(n);
    this.told.set(n, {id: json.call.id, result: json.call.outcome === 'ok' ? JSON.stringify(json.result) : 'lost'});
    return n % 5 !== 0 || json.call.outcome !== 'ok' || this.forget(n, json.call.id);
  }

  private async forget(n: number, id: string): Promise<boolean> {
    try {
      expect((await this.daemon.put('ForgetFunction', {fnc_id: id})).status).to.equal(200);
    } catch (error) {
      if (error instanceof Error && error.name === 'AssertionError') throw error;
      // It may be forgotten, and may be not.
      this.told.delete(n);
      return false;
    }
    this.told.set(n, {id, result: 'forgotten'});
    return true;
  }
}

describeWithDisks('a durable noded whose machine loses its power', () => {
  const seed = seedOfRun();
  const chance = new Chance(seed);
  let built: BuiltNoded;
  before(() => (built = new BuiltNoded({forker: true})));
  after(() => built?.dispose());

  for (const spawner of ['forker', 'child'] as const) {
    describe(`with spawner = "${spawner}"`, function () {
      this.timeout(300_000);
      let daemon: DaemonOnDisk;

      before(async () => {
        daemon = new DaemonOnDisk({program: built.program, config: `durable = true\nspawner = "${spawner}"\n[limits]\nmin_free = 0\n`});
        fs.mkdirSync(join(daemon.root, 'counts'));
        // Every third one has a result that stands in a file of its own.
        const body = `#!/bin/sh
          read -r n; echo x >> ${daemon.root}/counts/$n; sleep 0.0$((n % 9))
          if [ $((n % 3)) = 0 ]; then printf '"%s %03000d"' $n 0; else printf '"%s"' $n; fi\n`;
        fs.writeFileSync(join(daemon.functionsDir, 'work'), body, {mode: 0o755});
        await daemon.start();
      });
      after(async () => {
        await daemon.dispose();
      });

      /** Nobody is answered any more before the power is gone, and nothing is written after it. */
      async function cut(): Promise<void> {
        for (const pid of [daemon.pid, ...forkServersIn(daemon.runDir)]) signalProcess(pid, 'SIGSTOP');
        daemon.disk.cut();
        await daemon.kill();
        forkServersIn(daemon.runDir).forEach(kill);
        await noForkServerIn(daemon.runDir);
        await until('nothing uses the disk', () => {
          daemon.killFunctions();
          try {
            daemon.disk.unmount();
            return true;
          } catch {
            return false;
          }
        });
        daemon.disk.mount();
      }

      async function recheck(work: Masters): Promise<void> {
        for (const [n, {id, result}] of work.told) {
          const {status, text, json} = await daemon.waitForFunction(id, 0);
          if (result === 'forgotten') expect([status, json.code], text).to.deep.equal([410, 'call_expired']);
          else expect([n, json.call?.outcome === 'ok' ? JSON.stringify(json.result) : json.call?.outcome], text).to.deep.equal([n, result]);
        }
        for (const [n, id] of work.running) {
          const {text, json} = await daemon.waitForFunction(id, 20);
          expect([n, json.call?.outcome], text).to.deep.equal([n, json.call.outcome === 'ok' ? 'ok' : 'lost']);
        }
        work.running.clear();
        for (const n of work.open) expect(await work.ask(n, 20)).to.equal(true);
      }

      it(`takes no answer back, and runs nothing twice (${cuts} cuts, NODED_SEED=${seed})`, async () => {
        const work = new Masters(daemon);
        for (let round = 0; round < cuts; round += 1) {
          const working = Array.from({length: masters}, () => work.work());
          await pause(100 + chance.below(400));
          await cut();
          work.stop();
          await Promise.all(working);
          await daemon.start();
          await recheck(work);
        }
        const counts = fs.readdirSync(join(daemon.root, 'counts'));
        const twice = counts.filter((name) => fs.readFileSync(join(daemon.root, 'counts', name), 'utf8').length > 'x\n'.length);
        expect(twice, 'calls that ran more than once').to.deep.equal([]);
        const results = [...work.told.values()].map(({result}) => result);
        console.log(`      ${work.started} calls, ${results.filter((result) => result === 'lost').length} of them lost, ${results.filter((result) => result === 'forgotten').length} forgotten`);
        expect(results.filter((result) => result.length > 3000), 'results that stood in files').to.not.have.length(0);
      });
    });
  }
});
