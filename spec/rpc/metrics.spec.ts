/** GET /metrics: every metric that DESIGN.md section 8 names, with its labels, counting what happened. */
import {expect} from 'chai';
import {writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {CertificateShop, fingerprintOf, roleText} from '../support/certificates';
import {NodedDaemon} from '../support/daemon';
import {sampleOf} from '../support/metrics';
import {programs} from '../support/programs';
import {until} from '../support/until';

const named: Readonly<Record<string, string>> = {
  noded_calls_total: 'counter',
  noded_call_seconds: 'histogram',
  noded_calls_running: 'gauge',
  noded_waiters: 'gauge',
  noded_wait_lateness_seconds: 'histogram',
  noded_refused_total: 'counter',
  noded_handshakes_refused_total: 'counter',
  noded_duplicates_total: 'counter',
  noded_results: 'gauge',
  noded_spool_bytes: 'gauge',
  noded_event_loop_lag_seconds: 'gauge',
  noded_certificate_not_after_seconds: 'gauge',
  noded_reloads_total: 'counter',
};

describe('metrics', () => {
  const shop = new CertificateShop();
  let node: NodedDaemon;
  const text = async (): Promise<string> => (await node.get('/metrics')).text;

  before(async () => {
    const site = shop.authority('site');
    const [own, client] = [site.issue({subject: '/CN=node', usage: 'serverAuth'}), site.issue({subject: '/CN=master'})];
    node = await NodedDaemon.start({
      functions: {cat: programs.cat, fails: programs.fails, forever: programs.forever, until_file: programs.until_file},
      config: roleText('master', [fingerprintOf(client)]),
      tls: {...own, client},
    });
  });
  after(async () => {
    await node.dispose();
    shop.dispose();
  });

  it('are all there from the start, in the format of Prometheus', async () => {
    const {headers, text: shown} = await node.get('/metrics');
    expect(headers['content-type']).to.equal('text/plain; version=0.0.4; charset=utf-8');
    for (const [name, type] of Object.entries(named)) {
      expect(shown).to.match(new RegExp(`^# HELP ${name} \\S`, 'm'));
      expect(shown).to.match(new RegExp(`^# TYPE ${name} ${type}$`, 'm'));
    }
    for (const line of shown.split('\n')) expect(line).to.match(/^(#.*|noded_[a-z_]+(\{[^}]*\})? (-?[0-9.e+-]+|\+Inf|NaN)|)$/);
  });

  it('count the calls by function and outcome, and how long they took', async () => {
    for (let n = 0; n < 3; n += 1) await node.startFunction('cat', n, 20);
    await node.startFunction('fails', null, 20);
    const {fnc_id: callId} = (await node.startFunction('forever', null, 0)).json;
    expect(sampleOf(await text(), 'noded_calls_running')).to.equal(1);
    await node.put('AbortFunction', {fnc_id: callId, timeout: 20});
    const shown = await text();
    expect(sampleOf(shown, 'noded_calls_total{fn_name="cat",outcome="ok"}')).to.equal(3);
    expect(sampleOf(shown, 'noded_calls_total{fn_name="fails",outcome="failed"}')).to.equal(1);
    expect(sampleOf(shown, 'noded_calls_total{fn_name="forever",outcome="aborted"}')).to.equal(1);
    expect(sampleOf(shown, 'noded_call_seconds_count{fn_name="cat"}')).to.equal(3);
    expect(sampleOf(shown, 'noded_call_seconds_bucket{le="+Inf",fn_name="cat"}')).to.equal(3);
    expect(sampleOf(shown, 'noded_call_seconds_sum{fn_name="cat"}')).to.be.above(0);
    expect(sampleOf(shown, 'noded_calls_running')).to.equal(0);
    expect(sampleOf(shown, 'noded_results')).to.equal(5);
    expect(sampleOf(shown, 'noded_spool_bytes')).to.be.above(0);
  });

  it('count open waits, and how late those came that ran out', async () => {
    const file = join(node.root, 'go-on');
    const {fnc_id: callId} = (await node.startFunction('until_file', file, 0)).json;
    const late = sampleOf(await text(), 'noded_wait_lateness_seconds_count');
    const waits = [node.waitForFunction(callId, 60), node.waitForFunction(callId, 60)];
    await until('both wait', async () => sampleOf(await text(), 'noded_waiters') === 2);
    await node.waitForFunction(callId, 0.05);
    expect(sampleOf(await text(), 'noded_wait_lateness_seconds_count')).to.equal(late + 1);
    writeFileSync(file, '');
    await Promise.all(waits);
    const shown = await text();
    expect(sampleOf(shown, 'noded_waiters')).to.equal(0);
    expect(sampleOf(shown, 'noded_wait_lateness_seconds_count')).to.equal(late + 1);
  });

  it('count refusals by their code, and starts that were asked for again', async () => {
    await node.startFunction('nothing', null, 1);
    await node.startFunction('nothing', null, 1);
    await node.put('Nothing', {});
    for (let n = 0; n < 3; n += 1) await node.startFunction('cat', 1, 20, {request_id: 'asked.three.times'});
    const shown = await text();
    expect(sampleOf(shown, 'noded_refused_total{code="unknown_function"}')).to.equal(2);
    expect(sampleOf(shown, 'noded_refused_total{code="unknown_operation"}')).to.equal(1);
    expect(sampleOf(shown, 'noded_duplicates_total')).to.equal(2);
  });

  it('count reloads by their result', async () => {
    const config = roleText('master', []);
    node.signal('SIGHUP');
    await until('one is good', async () => sampleOf(await text(), 'noded_reloads_total{result="ok"}') === 1);
    node.writeConfig(`${config}no such key = 1`);
    node.signal('SIGHUP');
    await until('one is bad', async () => sampleOf(await text(), 'noded_reloads_total{result="failed"}') === 1);
    expect(sampleOf(await text(), 'noded_reloads_total{result="ok"}')).to.equal(1);
  });

  it('have no label that a stranger could make up', async () => {
    for (let n = 0; n < 50; n += 1) await node.startFunction(`made_up_${n}`, null, 1);
    expect(await text()).not.to.include('made_up');
  });
});
