import {expect} from 'chai';
import * as fs from 'node:fs';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {describeWithDisks} from '../support/as-root';
import {BuiltNoded} from '../support/built';
import type {NodedDaemon} from '../support/daemon';
import {DaemonOnDisk} from '../support/daemon-on-disk';
import type {Response} from '../support/daemon';

/** For how long the disk hangs, for each spawner. More by NODED_SPEC_FROZEN. */
const frozenSeconds = Number(process.env.NODED_SPEC_FROZEN ?? 12);
/** Waits on the way at any time; with 1,000 in all, and 10 starts a second. */
const waiters = 200;
const rounds = 5;
const startEveryMs = 100;
const urgentEveryMs = 1_500;

const members = (n: number, prefix: string): object => ({request_id: `${prefix}.${String(n).padStart(6, '0')}`});

/** What was asked while the disk hung. */
class Load {
  /** Answers that came later than they should, in seconds. */
  latest = 0;
  readonly starts: string[] = [];
  readonly switched: {readonly id: string; readonly result: unknown}[] = [];
  waited = 0;
  private over = false;

  constructor(
    private readonly daemon: NodedDaemon,
    private readonly isFrozen: () => boolean,
  ) {}

  stop(): void {
    this.over = true;
  }

  /** The answer of a request that was told to wait for so long: while the disk still hangs. */
  async answered(what: string, timeout: number, ask: () => Promise<Response>): Promise<Response> {
    const begin = performance.now();
    const response = await ask();
    this.latest = Math.max(this.latest, (performance.now() - begin) / 1000 - timeout);
    expect(response.status, `${what}: ${response.text}`).to.equal(200);
    expect(this.isFrozen(), `${what} is answered while the disk hangs`).to.equal(true);
    return response;
  }

  async wait(id: string, n: number): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      // Each at another time, and all of them before the disk comes back.
      const timeout = (1 + ((n * 7 + round) % 10) / 10) * (frozenSeconds / 15);
      const {json} = await this.answered('a wait', timeout, () => this.daemon.waitForFunction(id, timeout));
      expect(json.finished).to.equal(false);
      this.waited += 1;
    }
  }

  /** Each at its time, whatever becomes of those before it. */
  async start(): Promise<void> {
    const asked: Promise<void>[] = [];
    for (let n = 0; !this.over; n += 1) {
      const one = this.startOne(n);
      one.catch(() => this.stop());
      asked.push(one);
      await pause(startEveryMs);
    }
    await Promise.all(asked);
  }

  private async startOne(n: number): Promise<void> {
    const {json} = await this.answered('a start', 0.05, () => this.daemon.startFunction('work', n, 0.05, members(n, 'hung')));
    expect(json.finished, 'nothing starts before it is on file').to.equal(false);
    this.starts[n] = json.call.id;
  }

  async switch(): Promise<void> {
    for (let n = 0; !this.over; n += 1) {
      const {json, text} = await this.answered('an urgent function', 0, () => this.daemon.startFunction('switch', {n}, 30, members(n, 'switch')));
      expect(json.result, text).to.deep.equal({switched: {n}, pad: 'x'.repeat(700)});
      this.switched.push({id: json.call.id, result: json.result});
      await this.answered('/status', 0, () => this.daemon.get('/status'));
      await pause(urgentEveryMs);
    }
  }
}

describeWithDisks('a noded whose disk hangs', () => {
  let built: BuiltNoded;
  before(() => (built = new BuiltNoded({forker: true})));
  after(() => built?.dispose());

  for (const spawner of ['forker', 'child'] as const) {
    describe(`with spawner = "${spawner}"`, function () {
      this.timeout(60_000 + 3_000 * frozenSeconds);
      let daemon: DaemonOnDisk;
      const count = (name: string): string => fs.readFileSync(join(daemon.root, 'counts', name), 'utf8');

      before(async () => {
        const counts = (name: string): string => `#!/bin/sh\nread -r args; echo x >> $HOME/counts/${name}\n`;
        const functions = {
          work: {body: `${counts('work-$args')}echo "\\"$args\\""\n`},
          // With more than stands in a line of the log.
          switch: {body: `${counts('switch')}printf '{"switched":%s,"pad":"%700s"}' "$args" "" | tr ' ' x\n`, manifest: 'urgent = true\n'},
          idle: {body: '#!/bin/sh\nexec sleep 1000\n'},
        };
        daemon = new DaemonOnDisk({program: built.program, functions, config: `spawner = "${spawner}"\n[limits]\nmin_free = 0\n`});
        fs.mkdirSync(join(daemon.root, 'counts'));
        await daemon.start();
      });
      after(async () => {
        daemon.disk.thaw();
        await daemon.dispose();
      });

      it(`answers all in their time for ${frozenSeconds} s, loses nothing, and runs nothing twice`, async () => {
        const idle = await Promise.all([0, 1].map(async () => (await daemon.startFunction('idle', null, 0)).json.call.id));
        let isFrozen = true;
        daemon.disk.freeze(frozenSeconds + 30);
        const load = new Load(daemon, () => isFrozen);
        const working = [...Array.from({length: waiters}, (_none, n) => load.wait(idle[0]!, n)), load.start(), load.switch()];
        void Promise.all(working).catch(() => load.stop());
        await pause(frozenSeconds * 400);
        const aborted = await load.answered('an abort', 0.5, () => daemon.put('AbortFunction', {fnc_id: idle[1], timeout: 0.5}));
        expect(aborted.json.call.state).to.equal('stopping');
        await pause(frozenSeconds * 500);
        load.stop();
        await Promise.all(working);
        isFrozen = false;
        daemon.disk.thaw();
        expect(load.waited).to.equal(waiters * rounds);
        expect([load.starts.length > 0, load.switched.length > 1]).to.deep.equal([true, true]);
        console.log(`      ${load.starts.length} starts, ${load.switched.length} urgent, ${load.waited} waits; the latest answer came ${load.latest.toFixed(2)} s after its time`);

        expect((await daemon.waitForFunction(idle[1]!, 30)).json.call.outcome).to.equal('aborted');
        for (const [n, id] of load.starts.entries()) {
          const {json, text} = await daemon.waitForFunction(id, 30);
          expect([json.call.outcome, json.result], text).to.deep.equal(['ok', String(n)]);
          expect(count(`work-${n}`), `runs of call ${n}`).to.equal('x\n');
        }
        expect(count('switch')).to.equal('x\n'.repeat(load.switched.length));

        await daemon.put('AbortFunction', {fnc_id: idle[0], timeout: 30});
        await daemon.kill();
        await daemon.start();
        for (const {id, result} of load.switched) {
          const {json, text} = await daemon.waitForFunction(id, 0);
          expect([json.call.outcome, json.result], text).to.deep.equal(['ok', result]);
        }
        for (const [n, id] of load.starts.entries()) expect((await daemon.waitForFunction(id, 0)).json.result).to.equal(String(n));
      });
    });
  }
});
