/** What a role may do and see (DESIGN.md section 9): default deny, on every request. */
import {expect} from 'chai';
import {NodedError} from '../../lib/base/errors';
import {once} from 'node:events';
import {readFileSync} from 'node:fs';
import type {AddressInfo} from 'node:net';
import * as tls from 'node:tls';
import {peerOfSocket, roleOf} from '../../lib/rpc/tls';
import type {Peer} from '../../lib/rpc/tls';
import {CertificateShop, fingerprintOf, roleText} from '../support/certificates';
import {setFakeClock} from '../support/clock';
import type {FakeClock} from '../support/clock';
import {NodedDaemon} from '../support/daemon';
import type {Response, TlsPaths} from '../support/daemon';
import {programs} from '../support/programs';

const functions = {
  cat: programs.cat,
  forever: programs.forever,
  masters_only: {...programs.cat, manifest: 'roles = ["master"]\n'},
  operators_only: {...programs.cat, manifest: 'roles = ["operator"]\n'},
  nobodys: {...programs.cat, manifest: 'roles = []\n'},
};

describe('roles', () => {
  const shop = new CertificateShop();
  const client: Record<string, TlsPaths> = {};
  let node: NodedDaemon;

  before(async () => {
    const site = shop.authority('site');
    const own = site.issue({subject: '/CN=node', usage: 'serverAuth'});
    for (const name of ['master', 'operator', 'looker']) client[name] = site.issue({subject: `/CN=${name}`});
    const role = (name: string, ...names: string[]): string => roleText(name, [fingerprintOf(client[name]!)], names);
    const config = role('master', '*') + role('operator', 'cat', 'operators_only', 'masters_only', 'forever') + role('looker');
    node = await NodedDaemon.start({functions, config, tls: {...own, client: client.master!}});
  });
  after(async () => {
    await node.dispose();
    shop.dispose();
  });

  const put = (who: string, operation: string, members: object): Promise<Response> => node.put(operation, members, {client: client[who]!});
  const get = (who: string, path: string): Promise<Response> => node.get(path, {client: client[who]!});
  const start = (who: string, fnName: string, timeout: number, more: object = {}): Promise<Response> => put(who, 'StartFunction', {fn_name: fnName, fn_args: 1, timeout, ...more});
  const namesOf = (response: Response, list: string): string[] => (JSON.parse(response.text) as Record<string, {fn_name: string}[]>)[list]!.map(({fn_name}) => fn_name).sort();

  it('let a call through only if the role has the function and the manifest has the role', async () => {
    const allowed = {
      master: ['cat', 'masters_only'],
      operator: ['cat', 'operators_only'],
      looker: [],
    };
    for (const [who, names] of Object.entries<string[]>(allowed)) {
      for (const fnName of ['cat', 'masters_only', 'operators_only', 'nobodys']) {
        const {status, json} = await start(who, fnName, 10);
        if (names.includes(fnName)) expect(json.call, `${who} ${fnName}`).to.include({role: who, outcome: 'ok'});
        else expect({...json, status}, `${who} ${fnName}`).to.include({status: 403, code: 'forbidden', started: 'no'});
      }
    }
  });

  it('show in GET /functions what they may call, and nothing else', async () => {
    expect(namesOf(await get('master', '/functions'), 'functions')).to.deep.equal(['cat', 'forever', 'masters_only']);
    expect(namesOf(await get('operator', '/functions'), 'functions')).to.deep.equal(['cat', 'forever', 'operators_only']);
    expect(namesOf(await get('looker', '/functions'), 'functions')).to.deep.equal([]);
    expect((await get('looker', '/status')).status).to.equal(200);
  });

  it('do not tell apart a function that is forbidden from one that is not there', async () => {
    for (const fnName of ['cat', 'nothing_of_this_name']) expect((await start('looker', fnName, 1)).json.code).to.equal('forbidden');
  });

  describe('and the calls of functions that they may not use', () => {
    let hidden = '';
    let seen = '';

    before(async () => {
      hidden = (await start('master', 'masters_only', 10)).json.call.id;
      seen = (await start('master', 'forever', 0)).json.fnc_id ?? '';
    });
    after(async () => {
      await put('master', 'AbortFunction', {fnc_id: seen, timeout: 10});
    });

    it('are not in GET /calls, whatever is asked for', async () => {
      expect(namesOf(await get('master', '/calls?role=master'), 'calls')).to.include('masters_only');
      for (const path of ['/calls', '/calls?role=master', '/calls?fn_name=masters_only']) {
        expect(namesOf(await get('operator', path), 'calls'), path).not.to.include('masters_only');
      }
      expect(namesOf(await get('operator', '/calls?role=master'), 'calls')).to.include('forever');
      expect(namesOf(await get('looker', '/calls'), 'calls')).to.deep.equal([]);
    });

    it('cannot be waited for, looked at, stopped or forgotten', async () => {
      const refusals = [
        await put('operator', 'WaitForFunction', {fnc_id: hidden, timeout: 0}),
        await put('operator', 'AbortFunction', {fnc_id: hidden, timeout: 0}),
        await put('operator', 'ForgetFunction', {fnc_id: hidden}),
        await get('operator', `/calls/${hidden}`),
        await put('looker', 'AbortFunction', {fnc_id: seen, timeout: 0}),
      ];
      for (const {status, json} of refusals) expect({...json, status}).to.include({status: 403, code: 'forbidden'});
      expect((await get('master', `/calls/${hidden}`)).json.result).to.equal(1);
      expect((await get('master', `/calls/${seen}`)).json.call.state).to.equal('running');
    });

    it('are unknown to a wait for many, by the code forbidden', async () => {
      const {json} = await put('operator', 'WaitForFunctions', {fnc_ids: [hidden, seen], timeout: 0});
      expect(json).to.deep.include({finished: [], unfinished: [seen], unknown: [{fnc_id: hidden, code: 'forbidden'}]});
    });

    it('tell no more when they are gone: neither that they were there, nor their outcome', async () => {
      expect((await put('master', 'ForgetFunction', {fnc_id: hidden})).status).to.equal(200);
      expect((await put('master', 'WaitForFunction', {fnc_id: hidden, timeout: 0})).json).to.include({code: 'call_expired', outcome: 'ok'});
      const {json} = await put('operator', 'WaitForFunction', {fnc_id: hidden, timeout: 0});
      expect(json).to.include({code: 'forbidden'}).and.not.to.have.property('outcome');
      const many = await put('operator', 'WaitForFunctions', {fnc_ids: [hidden], timeout: 0});
      expect(many.json).to.deep.include({unknown: [{fnc_id: hidden, code: 'forbidden'}]});
    });
  });

  it('have request IDs of their own', async () => {
    const more = {request_id: 'one.name.two.roles'};
    const [first, second] = [await start('master', 'cat', 10, more), await start('operator', 'cat', 10, more)];
    expect(first.json.call.id).not.to.equal(second.json.call.id);
    expect([first.json.call.duplicate, second.json.call.duplicate]).to.deep.equal([false, false]);
    const again = await put('operator', 'WaitForFunction', {...more, timeout: 0});
    expect(again.json.call.id).to.equal(second.json.call.id);
    expect((await put('looker', 'WaitForFunction', {...more, timeout: 0})).json.code).to.equal('unknown_request');
  });
});

describe('the role of a peer', () => {
  const peer: Peer = {fingerprint: 'ab'.repeat(32), sha1: 'AB:CD', subject: 'CN=master,O=site', notBeforeMs: 1_000_000, notAfterMs: 2_000_000, against: null, chain: () => []};
  const role = (...certificates: string[]): {name: string; certificates: string[]; functions: string[]} => ({name: 'master', certificates, functions: ['*']});
  let clock: FakeClock;

  beforeEach(() => {
    clock = setFakeClock();
    clock.setSystemTime(1_500_000);
  });
  afterEach(() => clock.restore());

  const codeOf = (run: () => unknown): string => {
    try {
      run();
    } catch (error) {
      if (error instanceof NodedError) return error.code;
      throw error;
    }
    return 'none';
  };

  it('is that which lists the fingerprint or the subject, whole and as it is', () => {
    expect(roleOf(peer, [role('ab'.repeat(32))]).name).to.equal('master');
    expect(roleOf(peer, [role('CN=other'), role('CN=master,O=site')]).name).to.equal('master');
    for (const other of ['CN=master', 'O=site,CN=master', 'cn=master,o=site', 'ab'.repeat(31), '*', '']) {
      expect(codeOf(() => roleOf(peer, [role(other)])), other).to.equal('forbidden');
    }
    expect(codeOf(() => roleOf(peer, []))).to.equal('forbidden');
  });

  it('is refused outside of its dates, to the millisecond, even if it is listed', () => {
    const roles = [role(peer.fingerprint)];
    const codes = [999_999, 1_000_000, 2_000_000, 2_000_001].map((now) => {
      clock.setSystemTime(now);
      return codeOf(() => roleOf(peer, roles));
    });
    expect(codes).to.deep.equal(['certificate_expired', 'none', 'none', 'certificate_expired']);
  });
});

describe('the peer of a connection', () => {
  const shop = new CertificateShop();
  after(() => shop.dispose());

  /** As a server sees it that leaves the judgement to whoever asks: so a resumed session can come to be, without any certificate looked at. */
  async function seen(client: TlsPaths): Promise<ReturnType<typeof peerOfSocket>> {
    const own = shop.authority('site');
    const {cert, key} = own.issue({subject: '/CN=node', usage: 'serverAuth'});
    const server = tls.createServer({cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(client.ca), requestCert: true, rejectUnauthorized: false}).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const asking = tls.connect({host: '127.0.0.1', port: (server.address() as AddressInfo).port, cert: readFileSync(client.cert), key: readFileSync(client.key), rejectUnauthorized: false});
    try {
      const [socket] = (await once(server, 'secureConnection')) as [tls.TLSSocket];
      return peerOfSocket(socket, null);
    } finally {
      asking.destroy();
      server.close();
    }
  }

  it('is whoever has shown a certificate of ours', async () => {
    const master = shop.authority('masters').issue({subject: '/CN=master'});
    expect((await seen(master))?.fingerprint).to.equal(fingerprintOf(master));
  });

  it('is nobody if the handshake has not proven him, whatever he has shown', async () => {
    expect(await seen(shop.selfSigned('/CN=master', shop.authority('masters').certificate))).to.equal(null);
  });
});
