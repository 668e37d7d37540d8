/** What only looks: GET /calls and its pages, /calls/ID, /functions, /status (DESIGN.md section 8). */
import {expect} from 'chai';
import {rmSync} from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import type {CallView} from '../support/daemon';
import {programs} from '../support/programs';

const functions = {
  cat: programs.cat,
  forever: programs.forever,
  described: {
    ...programs.cat,
    manifest: 'description = "all of it"\nabort_after = 60\nmax_abort_after = 90.5\nkill_after = 2\nmax_running = 3\nmax_output = 1000\nleave_running = true\nroles = ["master"]\nargs = { type = "object" }\n',
  },
  urgently: {...programs.cat, manifest: 'urgent = true\n'},
};

interface Page {
  readonly calls: readonly (CallView & {readonly stderr: null})[];
  readonly next: number | null;
}

describe('GET /calls', () => {
  let node: NodedDaemon;
  const ids: string[] = [];
  const page = async (query: string): Promise<Page> => JSON.parse((await node.get(`/calls${query}`)).text) as Page;
  const stop = (callIds: readonly string[]): Promise<unknown> => Promise.all(callIds.map((id) => node.put('AbortFunction', {fnc_id: id, timeout: 10, kill_after: 0.01})));

  before(async () => {
    node = await NodedDaemon.start({functions});
    for (let n = 0; n < 12; n += 1) ids.push((await node.startFunction('forever', n, 0, {request_id: `paged.request.${n}`})).json.call.id);
    await node.startFunction('cat', 1, 20);
  });
  after(() => node.dispose());

  it('lists calls without their IDs being known, in the order of their acceptance', async () => {
    const {calls} = await page('?fn_name=forever');
    expect(calls.map(({id}) => id)).to.deep.equal(ids);
    expect(calls.map(({request_id}) => request_id)).to.deep.equal(ids.map((_, n) => `paged.request.${n}`));
    expect(calls[0]).to.include({fn_name: 'forever', role: 'local', state: 'running', outcome: null, stderr: null});
  });

  it('shows those of a state, a function, a role, and all of these at once', async () => {
    expect((await page('?state=ended')).calls.map(({fn_name}) => fn_name)).to.deep.equal(['cat']);
    expect((await page('?state=running&fn_name=forever&role=local')).calls).to.have.lengthOf(12);
    for (const query of ['?state=running&fn_name=cat', '?role=master', '?state=starting', '?fn_name=nothing']) expect((await page(query)).calls, query).to.deep.equal([]);
  });

  it('gives each call once, page by page, while calls end and new ones come', async () => {
    const seen: string[] = [];
    let cursor: number | null = 0;
    for (let pages = 0; cursor !== null && pages < 20; pages += 1) {
      const {calls, next}: Page = await page(`?limit=3&cursor=${cursor}`);
      seen.push(...calls.map(({id}) => id));
      cursor = next;
      // One that was seen, one that was not; and one more that ends at once.
      if (pages === 0) await stop([ids[1]!, ids[7]!]);
      if (pages === 1) await node.startFunction('cat', 2, 20);
    }
    expect(cursor).to.equal(null);
    expect(seen).to.have.lengthOf(14);
    expect(new Set(seen).size).to.equal(14);
    expect(seen.slice(0, 12)).to.deep.equal(ids);
  });

  it('goes on behind a call that was forgotten', async () => {
    const first = await page('?limit=2');
    await node.put('ForgetFunction', {fnc_id: ids[1]});
    const second = await page(`?limit=2&cursor=${first.next}`);
    expect(second.calls.map(({id}) => id)).to.deep.equal(ids.slice(2, 4));
  });

  it('refuses what it does not know', async () => {
    for (const [query, code] of [['?limit=0', 'bad_field'], ['?limit=1001', 'bad_field'], ['?limit=x', 'bad_field'], ['?cursor=-1', 'bad_field'], ['?state=gone', 'bad_field'], ['?state=', 'bad_field'], ['?limit=1&limit=2', 'bad_field'], ['?sort=id', 'unknown_field'], ['?__proto__=1', 'unknown_field']] as const) {
      const {status, json} = await node.get(`/calls${query}`);
      expect({...json, status}, query).to.include({status: 400, code});
    }
  });
});

describe('GET', () => {
  let node: NodedDaemon;

  before(async () => {
    node = await NodedDaemon.start({functions});
  });
  after(() => node.dispose());

  it('/calls/ID is the answer of a wait that does not wait', async () => {
    const {call} = (await node.startFunction('cat', {n: 1}, 20)).json;
    const looked = (await node.get(`/calls/${encodeURIComponent(call.id)}`)).json;
    const waited = (await node.waitForFunction(call.id, 0)).json;
    expect(looked.result).to.deep.equal({n: 1});
    expect(Object.keys(looked)).to.deep.equal(['fnc_id', 'finished', 'result', 'call', 'waited', 'error']);
    expect(looked.call.id).to.equal(waited.call.id);
    expect(looked.waited).to.equal(0);
    expect((await node.get(`/calls/${call.id}`)).json.result).to.deep.equal({n: 1});
  });

  it('/functions describes each as its manifest does', async () => {
    const {functions: listed} = JSON.parse((await node.get('/functions')).text) as {functions: {fn_name: string}[]};
    expect(listed.map(({fn_name}) => fn_name).sort()).to.deep.equal(Object.keys(functions).sort());
    expect(listed.find(({fn_name}) => fn_name === 'described')).to.deep.equal({
      fn_name: 'described',
      description: 'all of it',
      args: {type: 'object'},
      abort_after: 60,
      max_abort_after: 90.5,
      kill_after: 2,
      max_running: 3,
      max_output: 1000,
      urgent: false,
      leave_running: true,
      roles: ['master'],
    });
    expect(listed.find(({fn_name}) => fn_name === 'cat')).to.include({description: null, args: null, abort_after: null, max_abort_after: null, max_running: null, urgent: false, roles: null});
    expect(listed.find(({fn_name}) => fn_name === 'urgently')).to.include({urgent: true});
  });

  it('/status tells who this is and how it is, and starts nothing', async () => {
    const {headers, text} = await node.get('/status');
    const status = JSON.parse(text) as Record<string, unknown> & {counts: Record<string, number>};
    expect(headers['noded-instance']).to.equal(status.instance);
    expect(status).to.have.all.keys('instance', 'version', 'protocol', 'uptime', 'draining', 'spawner', 'functions', 'counts', 'spool_bytes', 'loop_lag', 'certificate_not_after', 'limits');
    expect(status).to.include({protocol: 1, draining: false, functions: 4, certificate_not_after: null});
    expect(String(status.instance)).to.match(new RegExp(`^[0-9a-f-]{36}:${node.pid}:\\d+$`));
    expect(status.limits).to.include({max_calls: 5_000, max_wait: 300, max_request: 16_777_216, keep_result: 3_600});
    const {ended} = status.counts;
    await node.startFunction('cat', 1, 20);
    expect((await node.get('/status')).json.counts).to.include({ended: ended! + 1, starting: 0});
  });

  it('/status is served without the directory of the calls', async () => {
    const other = await NodedDaemon.start({functions});
    try {
      rmSync(join(other.runDir, 'calls'), {recursive: true});
      expect((await other.get('/status')).status).to.equal(200);
      expect((await other.get('/calls')).status).to.equal(200);
    } finally {
      await other.dispose();
    }
  });
});
