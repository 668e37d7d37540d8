/** What noded refuses of HTTP (faults of parsers and proxies): exactly one answer, and nothing is started. */
import {expect} from 'chai';
import {existsSync} from 'node:fs';
import {join} from 'node:path';
import {NodedDaemon} from '../support/daemon';
import {programs} from '../support/programs';
import {RawConnection, exchange, putText} from '../support/raw-http';
import type {RawAnswer} from '../support/raw-http';
import {until} from '../support/until';

describe('HTTP that is not taken', () => {
  let node: NodedDaemon;
  let mark = '';
  let start = '';
  let length = 0;

  before(async () => {
    node = await NodedDaemon.start({functions: {cat: programs.cat, forever: programs.forever, tally: programs.tally}});
    mark = join(node.root, 'started');
    start = JSON.stringify({fn_name: 'tally', fn_args: mark, timeout: 5});
    length = Buffer.byteLength(start);
  });
  after(() => node.dispose());

  const chunked = (text: string, size = Buffer.byteLength(text).toString(16)): string => `${size}\r\n${text}\r\n0\r\n\r\n`;
  const head = (...lines: string[]): string => `${lines.join('\r\n')}\r\n\r\n`;
  /** A StartFunction that would leave a mark, and after it the headers and the body of a case. */
  const put = (headers: string[], body: string, first = 'PUT /StartFunction HTTP/1.1'): string => head(first, 'Host: noded', 'Content-Type: application/json', ...headers) + body;
  const framed = (...headers: string[]): string => put([...headers, `Content-Length: ${length}`], start);

  function expectRefusal([answer, ...more]: readonly RawAnswer[], status: number | readonly number[] = 400): void {
    expect(answer, 'an answer').to.be.an('object');
    expect([status].flat(), answer!.body).to.include(answer!.status);
    expect(more, 'more than one answer').to.deep.equal([]);
    expect(answer!.headers['content-type']).to.equal('application/problem+json');
    expect(answer!.headers['noded-protocol']).to.equal('1');
    expect(answer!.headers.connection).to.equal('close');
    expect(JSON.parse(answer!.body)).to.include({started: 'no', status: answer!.status}).and.to.have.property('code');
  }

  async function expectServed(): Promise<void> {
    expect((await node.startFunction('cat', 'served', 20)).json.result).to.equal('served');
    expect((await node.get('/calls?fn_name=tally')).json).to.deep.include({calls: []});
    expect(existsSync(mark), 'a function was started').to.equal(false);
  }

  const cases: Readonly<Record<string, () => string>> = {
    'Content-Length and Transfer-Encoding': () => put([`Content-Length: ${length}`, 'Transfer-Encoding: chunked'], chunked(start)),
    'Transfer-Encoding and Content-Length': () => put(['Transfer-Encoding: chunked', 'Content-Length: 5'], chunked(start)),
    'two Content-Lengths': () => put([`Content-Length: ${length}`, 'Content-Length: 5'], start),
    'the same Content-Length twice': () => put([`Content-Length: ${length}`, `Content-Length: ${length}`], start),
    'a list of Content-Lengths': () => put([`Content-Length: ${length}, ${length}`], start),
    'Content-Length with a sign': () => put([`Content-Length: +${length}`], start),
    'Content-Length in hexadecimal': () => put([`Content-Length: 0x${length.toString(16)}`], start),
    'a negative Content-Length': () => put(['Content-Length: -1'], start),
    'a Content-Length beyond all numbers': () => put([`Content-Length: ${'9'.repeat(30)}`], start),
    'Transfer-Encoding xchunked': () => put(['Transfer-Encoding: xchunked'], chunked(start)),
    'Transfer-Encoding chunked, identity': () => put(['Transfer-Encoding: chunked, identity'], chunked(start)),
    'Transfer-Encoding in HTTP/1.0': () => put(['Transfer-Encoding: chunked'], chunked(start), 'PUT /StartFunction HTTP/1.0'),
    'a blank before the colon': () => put(['Transfer-Encoding : chunked'], chunked(start)),
    'a header without a colon': () => framed('X-Nothing'),
    'a header with a NUL': () => framed('X-Zero: a\0b'),
    'lines that end in LF only': () => framed().replaceAll('\r\n', '\n'),
    'a header that goes on in the next line': () => put(['X-Long: begins', ' goes on', `Content-Length: ${length}`], start),
    'a chunk size that is too large for any number': () => put(['Transfer-Encoding: chunked'], chunked(start, 'f'.repeat(17))),
    'a chunk size that is no number': () => put(['Transfer-Encoding: chunked'], chunked(start, 'xyz')),
    'a chunk that is longer than it says': () => put(['Transfer-Encoding: chunked'], chunked(start, '5')),
    'no Host': () => framed().replace('Host: noded\r\n', ''),
    'two Hosts': () => framed('Host: other'),
    'an absolute target': () => framed().replace('/StartFunction', 'http://noded/StartFunction'),
    'CONNECT': () => head('CONNECT noded:1811 HTTP/1.1', 'Host: noded'),
    'Upgrade': () => framed('Connection: Upgrade', 'Upgrade: websocket'),
    'HTTP/0.9': () => 'GET /status\r\n\r\n',
    'HTTP/1.9': () => framed().replace('HTTP/1.1', 'HTTP/1.9'),
    'HTTP/2.0': () => framed().replace('HTTP/1.1', 'HTTP/2.0'),
    'the preface of HTTP/2': () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'a method that is none': () => framed().replace('PUT', 'STRAT'),
    'a method in small letters': () => framed().replace('PUT', 'put'),
    'no request but a TLS ClientHello': () => `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03${'x'.repeat(300)}`,
    'the asterisk target': () => head('OPTIONS * HTTP/1.1', 'Host: noded'),
    'two slashes': () => framed().replace('/StartFunction', '//StartFunction'),
    'a backslash': () => framed().replace('/StartFunction', '/\\noded/StartFunction'),
    'a fragment': () => framed().replace('/StartFunction', '/StartFunction#x'),
    'a target that is not ASCII': () => framed().replace('/StartFunction', '/StartFunctión'),
    'a blank in the target': () => framed().replace('/StartFunction', '/Start Function'),
    'a body where none belongs': () => head('GET /status HTTP/1.1', 'Host: noded', 'Content-Length: 2') + '{}',
    'a chunked body where none belongs': () => head('GET /status HTTP/1.1', 'Host: noded', 'Transfer-Encoding: chunked') + chunked('{}'),
    'a wrong escape in a call ID': () => head('GET /calls/%zz HTTP/1.1', 'Host: noded'),
    '65 headers': () => framed(...Array.from({length: 62}, (_, at) => `X-${at}: 1`)),
    '1,500 headers': () => framed(...Array.from({length: 1500}, (_, at) => `X${at}:`)),
    'an Expect that is not known': () => framed('Expect: 200-ok'),
  };

  for (const [what, text] of Object.entries(cases)) {
    it(`${what}: one answer, 400, and the connection is closed`, async () => {
      expectRefusal(await exchange(node.port, Buffer.from(text(), 'latin1')));
      await expectServed();
    });
  }

  for (const [what, text] of Object.entries<() => string>({
    'a header that is too large': () => framed(`X-Large: ${'x'.repeat(9_000)}`),
    '2,500 headers': () => framed(...Array.from({length: 2500}, (_, at) => `X${at}:`)),
    'a target that is too large': () => framed().replace('/StartFunction', `/calls/${'x'.repeat(16_384)}`),
    'headers that are too large together': () => framed(...Array.from({length: 50}, (_, at) => `X-${at}: ${'x'.repeat(400)}`)),
  })) {
    it(`${what}: one answer, 413, and the connection is closed`, async () => {
      expectRefusal(await exchange(node.port, text()), 413);
      await expectServed();
    });
  }

  it('a request behind a refused one on the same connection is not looked at', async () => {
    for (const first of ['two Hosts', 'HTTP/1.9', 'Upgrade', 'a header without a colon'] as const) {
      expectRefusal(await exchange(node.port, cases[first]!() + framed()));
    }
    await expectServed();
  });

  it('what is no request, right behind one: that one is refused with it, and nothing is started', async () => {
    expectRefusal(await exchange(node.port, `${framed()}this is no request\r\n\r\n`));
    await expectServed();
  });

  it('what is no request, behind one that waits, is not answered in its place: the wait is dropped, the call goes on', async () => {
    const {fnc_id: callId} = (await node.startFunction('forever', null, 0)).json;
    const connection = await RawConnection.open(node.port);
    try {
      connection.write(putText('WaitForFunction', {fnc_id: callId, timeout: 60}));
      const waiters = async (): Promise<number | undefined> => (await node.get('/status')).json.counts.waiters;
      await until('it waits', async () => (await waiters()) === 1);
      connection.write('this is no request\r\n\r\n');
      await connection.end();
      expect(connection.bytes.toString()).to.equal('');
      await until('the wait is dropped', async () => (await waiters()) === 0);
      expect((await node.waitForFunction(callId, 0)).json.call.state).to.equal('running');
    } finally {
      connection.destroy();
      await node.put('AbortFunction', {fnc_id: callId, timeout: 10});
    }
  });

  for (const [path, status] of Object.entries({
    '/x/../StartFunction': 404,
    '/./StartFunction': 404,
    '/%2e/StartFunction': 404,
    '/StartFunction/': 404,
    '/StartFunction%00': 404,
    '/%53tartFunction': 404,
    '/StartFunction;x=1': 404,
    '/StartFunction?': 400,
    '/StartFunction?timeout=1': 400,
    '/calls/..%2f..%2fetc%2fpasswd': 405,
    '/__proto__': 404,
  })) {
    it(`PUT ${path} is answered with ${status}: a path is that of an operation exactly, or not at all`, async () => {
      const [answer] = await exchange(node.port, framed('Connection: close').replace('/StartFunction', path));
      expect(answer!.status, answer!.body).to.equal(status);
      await expectServed();
    });
  }

  for (const path of ['/calls/%00', '/calls/..%2f..%2fetc%2fpasswd', '/calls/%E2%98%83']) {
    it(`GET ${path} is a call that nobody knows`, async () => {
      const {status, json} = await node.get(path);
      expect({...json, status}).to.include({status: 404, code: 'unknown_call'});
    });
  }

  it('HEAD, OPTIONS, DELETE, POST, PATCH and TRACE are not methods of any operation', async () => {
    for (const method of ['OPTIONS', 'DELETE', 'POST', 'PATCH', 'TRACE']) {
      const [operation] = await exchange(node.port, framed('Connection: close').replace('PUT', method));
      expect(operation!.status, method).to.equal(405);
      const [look] = await exchange(node.port, head(`${method} /status HTTP/1.1`, 'Host: noded', 'Connection: close'));
      expect(look!.status, method).to.equal(405);
    }
    expect((await node.request('HEAD', '/status')).status).to.equal(405);
    expect((await node.request('HEAD', '/StartFunction')).status).to.equal(405);
    await expectServed();
  });

  it('64 headers, and the same with HTTP/1.0, are taken', async () => {
    const text = head('GET /status HTTP/1.1', 'Host: noded', 'Connection: close', ...Array.from({length: 62}, (_, at) => `X-${at}: 1`));
    for (const request of [text, text.replace('HTTP/1.1', 'HTTP/1.0')]) {
      const answers = await exchange(node.port, request);
      expect(answers.map(({status}) => status)).to.deep.equal([200]);
    }
  });
});
