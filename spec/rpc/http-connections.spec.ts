/** Connections: kept, crowded, half closed and broken off (DESIGN.md section 8: one request in flight per socket). */
import {expect} from 'chai';
import {existsSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import {CertificateShop, fingerprintOf, roleText} from '../support/certificates';
import {NodedDaemon} from '../support/daemon';
import {sampleOf} from '../support/metrics';
import {residentBytes, signalProcess} from '../support/processes';
import {programs} from '../support/programs';
import {RawConnection, parseAnswers, putText} from '../support/raw-http';
import {until} from '../support/until';

const functions = {cat: programs.cat, forever: programs.forever, tally: programs.tally};

describe('connections', () => {
  let node: NodedDaemon;
  let connections: RawConnection[] = [];
  const open = async (): Promise<RawConnection> => {
    const connection = await RawConnection.open(node.port);
    connections.push(connection);
    return connection;
  };
  const waiters = async (): Promise<number> => sampleOf((await node.get('/metrics')).text, 'noded_waiters');

  before(async () => {
    node = await NodedDaemon.start({functions});
  });
  afterEach(() => {
    for (const connection of connections.splice(0)) connection.destroy();
  });
  after(() => node.dispose());

  it('with 20,000 requests at once: one is served, one is refused, and the daemon goes on', async () => {
    const mark = join(node.root, 'tally');
    const connection = await open();
    const text = putText('StartFunction', {fn_name: 'tally', fn_args: mark, timeout: 20});
    for (let batch = 0; batch < 20; batch += 1) connection.write(text.repeat(1_000));
    await connection.end(20_000);
    // The connection is closed while the rest is still coming: the reset that this makes may overtake the answers.
    const answers = parseAnswers(connection.bytes);
    expect([200, 429].slice(0, answers.length)).to.deep.equal(answers.map(({status}) => status));
    if (answers.length === 2) expect(JSON.parse(answers[1]!.body)).to.include({code: 'too_many_in_flight', started: 'no'});
    expect(sampleOf((await node.get('/metrics')).text, 'noded_refused_total{code="too_many_in_flight"}')).to.equal(1);
    await until('the one has run', () => existsSync(mark) && readFileSync(mark, 'utf8') !== '');
    expect((await node.startFunction('cat', 1, 20)).json.result).to.equal(1);
    expect(readFileSync(mark, 'utf8')).to.equal('x\n');
    expect((JSON.parse((await node.get('/calls?fn_name=tally')).text) as {calls: object[]}).calls).to.have.lengthOf(1);
  });

  it('with a flood behind a wait: nothing of it is taken in, and the wait gets its answer', async () => {
    const {fnc_id: callId} = (await node.startFunction('forever', null, 0)).json;
    const flood = await open();
    flood.write(putText('WaitForFunction', {fnc_id: callId, timeout: 60}));
    await until('it waits', async () => (await waiters()) === 1);
    const memory = residentBytes(node.pid);
    const text = 'GET /status HTTP/1.1\r\nHost: noded\r\n\r\n'.repeat(2_000);
    for (let batch = 0; batch < 200; batch += 1) flood.write(text);
    // Whoever else asks is served meanwhile.
    for (let round = 0; round < 50; round += 1) expect((await node.get('/status')).status).to.equal(200);
    expect(residentBytes(node.pid) - memory, 'growth').to.be.below(128 * 1024 * 1024);
    await node.put('AbortFunction', {fnc_id: callId, timeout: 10});
    await until('the wait is answered', () => flood.closed || flood.bytes.includes('"aborted"'), 20_000);
    expect(await waiters()).to.equal(0);
  });

  it('that are reset over the refusal of a CONNECT end nothing but themselves', async () => {
    for (let round = 0; round < 20; round += 1) {
      const connection = await open();
      connection.write('CONNECT noded:1811 HTTP/1.1\r\nHost: noded\r\n\r\n');
      await connection.answers(1);
      connection.reset();
    }
    expect((await node.get('/status')).status).to.equal(200);
    expect(node.log).not.to.include('nobody expected');
  });

  it('are no more than leave descriptors for calls, whatever the configuration says', async () => {
    const poor = await NodedDaemon.start({functions, wrapper: ['prlimit', '--nofile=500:500']});
    try {
      expect((await poor.get('/status')).json).to.have.nested.property('limits.max_connections', 400);
      expect(poor.logLines().map(({msg}) => msg)).to.include('max_connections is 400, not 12000: the limit of open files is too low');
    } finally {
      await poor.dispose();
    }
  });

  for (const how of ['end', 'destroy', 'reset'] as const) {
    it(`that ${how === 'end' ? 'are half closed' : how === 'destroy' ? 'are closed' : 'are reset'} while they wait drop their waits, and never the call`, async () => {
      const {fnc_id: callId} = (await node.startFunction('forever', null, 0)).json;
      const requests = [
        putText('WaitForFunction', {fnc_id: callId, timeout: 60}),
        putText('WaitForFunction', {fnc_id: callId, timeout: 60, wake_on_stderr: true}),
        putText('WaitForFunctions', {fnc_ids: [callId], timeout: 60}),
        putText('StartFunction', {fn_name: 'forever', fn_args: how, timeout: 60}),
      ];
      const waiting = await Promise.all(requests.map(async (text) => {
        const connection = await open();
        connection.write(text);
        return connection;
      }));
      await until('all wait', async () => (await waiters()) === requests.length);
      for (const connection of waiting) {
        if (how === 'end') connection.socket.end();
        else connection[how]();
      }
      await until('all waits are dropped', async () => (await waiters()) === 0);
      const running = async (): Promise<{id: string}[]> => (JSON.parse((await node.get('/calls?state=running')).text) as {calls: {id: string}[]}).calls;
      const calls = await until('both calls run', async () => {
        const found = await running();
        return found.length === 2 && found;
      });
      expect(calls.map(({id}) => id)).to.include(callId);
      for (const {id} of calls) await node.put('AbortFunction', {fnc_id: id, timeout: 10});
    });
  }

  it('that are kept serve 10,000 requests without a warning, and the daemon does not grow with them', async function () {
    this.timeout(120_000);
    const connection = await open();
    const ask = 'GET /status HTTP/1.1\r\nHost: noded\r\n\r\n';
    let seen = 0;
    const answered = (): Promise<void> =>
      new Promise((resolve, reject) => {
        connection.socket.once('close', reject);
        connection.socket.once('data', (chunk: Buffer) => {
          connection.socket.off('close', reject);
          seen += chunk.includes('HTTP/1.1 200 ') ? 1 : 0;
          resolve();
        });
        connection.write(ask);
      });
    for (let round = 0; round < 2_000; round += 1) await answered();
    const early = residentBytes(node.pid);
    for (let round = 0; round < 8_000; round += 1) await answered();
    expect(seen).to.equal(10_000);
    expect(residentBytes(node.pid) - early, 'growth').to.be.below(64 * 1024 * 1024);
    expect(node.log).not.to.match(/MaxListenersExceeded|Warning/);
  });

  it('that are kept, and those that say nothing, do not keep noded from its end; waits are answered', async () => {
    const {fnc_id: callId} = (await node.startFunction('forever', null, 0)).json;
    const wait = node.waitForFunction(callId, 60);
    await until('it waits', async () => (await waiters()) === 1);
    const silent = await open();
    const idle = await open();
    idle.write('GET /status HTTP/1.1\r\nHost: noded\r\n\r\n');
    expect((await idle.answers(1))[0]!.headers.connection).not.to.equal('close');
    const end = node.stop();
    const {json} = await wait;
    expect(json.call.outcome).to.equal('shutdown');
    expect(await end).to.deep.equal({code: 0, signal: null});
    await silent.end();
    await idle.end();
    await node.start();
  });

  it('are told to close by each answer once noded does not listen any more', async () => {
    const drained = await NodedDaemon.start({functions, config: 'on_stop = "drain"\n'});
    try {
      const {fnc_id: callId} = (await drained.startFunction('forever', null, 0)).json;
      const asks = await Promise.all([1, 2].map(() => RawConnection.open(drained.port)));
      const ask = (connection: RawConnection): void => connection.write(putText('WaitForFunction', {fnc_id: callId, timeout: 60}));
      asks.forEach(ask);
      await until('both wait', async () => (await drained.get('/status')).json.counts.waiters === 2);
      drained.signal('SIGTERM');
      await drained.logged(/stopping/);
      signalProcess(Number(callId!.split(':')[1]), 'SIGKILL');
      for (const connection of asks) {
        const [answer] = await connection.answers(1);
        expect(answer!.status).to.equal(200);
        expect(answer!.headers.connection).to.equal('close');
        expect(JSON.parse(answer!.body)).to.have.nested.property('call.outcome', 'signaled');
        await connection.end();
      }
      expect(await drained.exited).to.deep.equal({code: 0, signal: null});
    } finally {
      await drained.dispose();
    }
  });

  it('over TLS serve one request right after the other: none of them is taken for two at once', async () => {
    const shop = new CertificateShop();
    const site = shop.authority('site');
    const [own, client] = [site.issue({subject: '/CN=node', usage: 'serverAuth'}), site.issue({subject: '/CN=master'})];
    const secure = await NodedDaemon.start({functions, config: roleText('master', [fingerprintOf(client)]), tls: {...own, client}});
    try {
      const busy = Array.from({length: 4}, async () => {
        const connection = await RawConnection.open(secure.port, {ca: readFileSync(own.ca), cert: readFileSync(client.cert), key: readFileSync(client.key)});
        let [asked, refused] = [0, ''];
        connection.socket.on('data', (chunk: Buffer) => {
          // The very moment the answer is there.
          if (!chunk.includes('HTTP/1.1 200 ')) refused ||= chunk.toString();
          if (asked++ < 40) connection.write(putText('StartFunction', {fn_name: 'cat', fn_args: asked, timeout: 20}));
        });
        connection.write('GET /status HTTP/1.1\r\nHost: noded\r\n\r\n');
        await until('all are answered', () => asked > 40 || refused !== '' || connection.closed, 25_000);
        connection.destroy();
        expect(refused).to.equal('');
        expect(asked).to.equal(41);
      });
      await Promise.all(busy);
    } finally {
      await secure.dispose();
      shop.dispose();
    }
  });
});
