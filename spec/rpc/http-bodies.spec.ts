/** Bodies of requests: their types, their sizes, and those that never come to an end. */
import {expect} from 'chai';
import {existsSync} from 'node:fs';
import {join} from 'node:path';
import {gzipSync} from 'node:zlib';
import {NodedDaemon} from '../support/daemon';
import {programs} from '../support/programs';
import {RawConnection, putText} from '../support/raw-http';

const maxRequestBytes = 1_048_576;

describe('a body', () => {
  let node: NodedDaemon;
  let mark = '';
  const head = (...lines: string[]): string => `${['PUT /StartFunction HTTP/1.1', 'Host: noded', ...lines].join('\r\n')}\r\n\r\n`;
  const start = (): string => JSON.stringify({fn_name: 'tally', fn_args: mark, timeout: 5});

  before(async () => {
    node = await NodedDaemon.start({functions: {cat: programs.cat, tally: programs.tally}, config: `[limits]\nmax_request = ${maxRequestBytes}\n`});
    mark = join(node.root, 'started');
  });
  after(() => node.dispose());
  afterEach('nothing was started, and the daemon goes on', async () => {
    expect((await node.startFunction('cat', 'served', 20)).json.result).to.equal('served');
    expect((await node.get('/calls?fn_name=tally')).json).to.deep.include({calls: []});
    expect(existsSync(mark), 'a function was started').to.equal(false);
  });

  async function onConnection<T>(run: (connection: RawConnection) => Promise<T>): Promise<T> {
    const connection = await RawConnection.open(node.port);
    try {
      return await run(connection);
    } finally {
      connection.destroy();
    }
  }

  const body = JSON.stringify({fn_name: 'cat', fn_args: 'x', timeout: 20});
  for (const type of ['application/json', 'application/json; charset=utf-8', 'Application/JSON', 'application/x-www-form-urlencoded']) {
    it(`of the type ${type} is taken`, async () => {
      expect((await node.request('PUT', '/StartFunction', body, {headers: {'content-type': type}})).json.result).to.equal('x');
    });
  }

  it('of no type is taken', () =>
    onConnection(async (connection) => {
      connection.write(head(`Content-Length: ${body.length}`) + body);
      const [answer] = await connection.answers(1);
      expect(JSON.parse(answer!.body)).to.include({result: 'x'});
    }));

  for (const headers of [{'content-type': 'text/plain'}, {'content-type': 'application/jsonp'}, {'content-type': ''}, {'content-encoding': 'gzip'}, {'content-encoding': 'br'}]) {
    it(`with ${JSON.stringify(headers)} is refused`, async () => {
      const {status, json} = await node.request('PUT', '/StartFunction', start(), {headers});
      expect({...json, status}).to.include({status: 415, code: 'unsupported_media_type', started: 'no'});
    });
  }

  it('that is compressed is refused, also without saying so', async () => {
    const {json} = await node.request('PUT', '/StartFunction', gzipSync(start()));
    expect(json.code).to.equal('bad_json');
  });

  it('of exactly max_request is taken, in one piece and in chunks of any size; one byte more is not', async () => {
    const frame = {fn_name: 'cat', fn_args: '', timeout: 20};
    const fill = maxRequestBytes - JSON.stringify(frame).length;
    const [fits, over] = [fill, fill + 1].map((length) => JSON.stringify({...frame, fn_args: 'x'.repeat(length)}));
    expect((await node.request('PUT', '/StartFunction', fits)).json.result).to.have.lengthOf(fill);
    expect((await node.request('PUT', '/StartFunction', over)).json.code).to.equal('request_too_large');
    for (const size of [7, 4_096, 300_000]) {
      await onConnection(async (connection) => {
        connection.write(head('Transfer-Encoding: chunked'));
        for (let at = 0; at < fits!.length; at += size) {
          const piece = fits!.slice(at, at + size);
          connection.write(`${piece.length.toString(16)}\r\n${piece}\r\n`);
        }
        connection.write('0\r\n\r\n');
        const [answer] = await connection.answers(1, 20_000);
        expect(JSON.parse(answer!.body).result).to.have.lengthOf(fill);
      });
    }
  });

  it('over max_request by its chunks is refused as soon as it is, and what still comes does not take the answer away', () =>
    onConnection(async (connection) => {
      connection.write(head('Transfer-Encoding: chunked'));
      const piece = `10000\r\n${' '.repeat(65_536)}\r\n`;
      for (let sent = 0; sent <= 4 * maxRequestBytes; sent += 65_536) connection.write(piece);
      const [answer] = await connection.answers(1);
      expect(answer!.status).to.equal(413);
      expect(answer!.headers.connection).to.equal('close');
      connection.write('0\r\n\r\n');
      await connection.end();
      expect(connection.socket.errored, 'a reset').to.equal(null);
      expect(connection.bytes.toString().match(/HTTP\/1\.1/g)).to.have.lengthOf(1);
    }));

  it('that is too large by its Content-Length is refused before it comes', () =>
    onConnection(async (connection) => {
      connection.write(head(`Content-Length: ${maxRequestBytes + 1}`, 'Content-Type: application/json'));
      const [answer] = await connection.answers(1);
      expect(answer!.status).to.equal(413);
    }));

  it('that waits for 100 Continue is told to come, once', () =>
    onConnection(async (connection) => {
      connection.write(head(`Content-Length: ${body.length}`, 'Expect: 100-continue'));
      expect((await connection.answers(1)).map(({status}) => status)).to.deep.equal([100]);
      connection.write(body);
      const [, answer] = await connection.answers(2);
      expect(JSON.parse(answer!.body)).to.include({result: 'x'});
    }));

  for (const [what, lines, status] of [
    ['too large', [`Content-Length: ${maxRequestBytes + 1}`], 413],
    ['of a wrong type', ['Content-Length: 10', 'Content-Type: text/plain'], 415],
    ['under two Hosts', ['Content-Length: 10', 'Host: other'], 400],
  ] as const) {
    it(`that waits for 100 Continue and is ${what} gets its refusal and no 100`, () =>
      onConnection(async (connection) => {
        connection.write(head(...lines, 'Expect: 100-continue'));
        await connection.end();
        expect((await connection.answers(1)).map((answer) => answer.status)).to.deep.equal([status]);
      }));
  }

  it('that is cut short starts nothing, wherever the cut is', async () => {
    const text = putText('StartFunction', {fn_name: 'tally', fn_args: mark, timeout: 5});
    const from = text.indexOf('\r\n\r\n') + 4;
    for (let at = from; at < text.length; at += 9) {
      for (const cut of ['destroy', 'reset', 'end'] as const) {
        await onConnection(async (connection) => {
          connection.write(text.slice(0, at));
          if (cut === 'end') {
            connection.socket.end();
            await connection.end();
            for (const {status} of await connection.answers(1)) expect(status).to.equal(400);
          } else {
            connection[cut]();
          }
        });
      }
    }
  });

  it('that is cut short in a chunk starts nothing, even if what came is a whole request', async () => {
    for (const rest of ['', '0', '0\r\n', '0\r\n\r']) {
      await onConnection(async (connection) => {
        connection.write(`${head('Transfer-Encoding: chunked')}${start().length.toString(16)}\r\n${start()}\r\n${rest}`);
        connection.socket.end();
        await connection.end();
        expect((await connection.answers(1)).map(({status}) => status)).to.deep.equal([400]);
      });
    }
  });
});
