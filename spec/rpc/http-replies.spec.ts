/** When a reply counts as sent: once all of it is with the kernel, and not when the connection broke before. */
import {expect} from 'chai';
import type {AddressInfo} from 'node:net';
import {Duplex, Readable} from 'node:stream';
import {errorKind} from '../../lib/base/errors';
import {limits} from '../../lib/base/limits';
import type {HttpBinding} from '../../lib/rpc/http';
import type {Piece} from '../../lib/rpc/reply';
import {listen} from '../support/bare-binding';
import {RawConnection, putText} from '../support/raw-http';
import {until} from '../support/until';

const chunk = Buffer.alloc(300_000, '1');
const chunks = 100;
const size = chunks * chunk.length;

describe('a reply', () => {
  let binding: HttpBinding;
  let connection: RawConnection;
  let pieces: readonly Piece[] = [];
  let sent = 0;
  const logged: string[] = [];
  const log = {debug: () => undefined, info: () => undefined, warn: () => undefined, error: (_fields: object, message: string) => void logged.push(message)};

  before(async () => {
    const give = (): Promise<{contentType: 'application/json'; pieces: readonly Piece[]; sent: () => void}> => Promise.resolve({contentType: 'application/json', pieces, sent: () => void (sent += 1)});
    binding = await listen({Give: give}, log, () => undefined);
  });
  beforeEach(async () => {
    sent = 0;
    connection = await RawConnection.open((binding.server.address() as AddressInfo).port);
  });
  afterEach(() => {
    connection.destroy();
    expect(logged).to.deep.equal([]);
  });
  after(() => binding.close(0));

  const inMemory = (): readonly Piece[] => [Buffer.alloc(size, '1')];
  const inFile = (count = chunks): readonly Piece[] => [Buffer.from('"'), {byteLength: size, open: () => Readable.from(Array.from({length: count}, () => chunk))}, Buffer.from('"')];
  const gone = (): Promise<boolean> => until('the connection is gone', () => new Promise((resolve) => binding.server.getConnections((_error, count) => resolve(count === 0))));

  for (const [what, make] of [['in memory', inMemory], ['in a file', () => inFile()]] as const) {
    it(`${what} counts as sent once, when it has been read`, async () => {
      pieces = make();
      connection.write(putText('Give', {}));
      await until('it has come', () => connection.bytes.length >= size, 20_000);
      await until('it is sent', () => sent > 0);
      connection.destroy();
      await gone();
      expect(sent).to.equal(1);
    });

    for (const how of ['reset', 'destroy', 'end'] as const) {
      it(`${what} does not count as sent if its reader stops and is gone (${how})`, async () => {
        pieces = make();
        connection.socket.once('data', () => connection.socket.pause());
        connection.write(putText('Give', {}));
        await until('it has begun', () => connection.socket.isPaused());
        if (how === 'end') connection.socket.destroySoon();
        else connection[how]();
        await gone();
        expect(sent).to.equal(0);
      });
    }
  }

  it('whose file is shorter than was promised ends with its connection, and does not count as sent', async () => {
    pieces = inFile(chunks - 1);
    connection.write(putText('Give', {}));
    await connection.end();
    expect(connection.bytes.length).to.be.below(size);
    expect(sent).to.equal(0);
  });

  it('whose file cannot be opened ends with its connection, and the next one is served', async () => {
    pieces = [Buffer.from('"'), {byteLength: size, open: () => new Readable({read() { this.destroy(new Error('no such file')); }})}, Buffer.from('"')];
    connection.write(putText('Give', {}));
    await connection.end();
    expect(sent).to.equal(0);
    connection = await RawConnection.open((binding.server.address() as AddressInfo).port);
    pieces = [Buffer.from('7')];
    connection.write(putText('Give', {}));
    expect((await connection.answers(1))[0]).to.include({status: 200, body: '7'});
  });
});

describe('replies that do not leave', () => {
  /** A connection whose other side takes nothing until it is told to: what the kernel does once its buffers are full. */
  class Stuck extends Duplex {
    taken = '';
    private waiting: (() => void)[] | null = [];
    constructor() {
      super({writableHighWaterMark: 1 << 20}); // Node's own brake begins there
    }
    setTimeout(): this {
      return this;
    }
    override _read(): void {}
    override _write(bytes: Buffer, _encoding: string, done: () => void): void {
      this.taken += bytes.toString('latin1');
      if (this.waiting === null) done();
      else this.waiting.push(done);
    }
    flow(): void {
      const {waiting} = this;
      this.waiting = null;
      for (const done of waiting ?? []) done();
    }
  }

  it('are two at most: a third request is refused, and nothing done for it', async () => {
    let done = 0;
    const refused: string[] = [];
    const give = (): Promise<{contentType: 'application/json'; pieces: readonly Piece[]}> => Promise.resolve({contentType: 'application/json', pieces: [Buffer.from(String(++done))]});
    const log = {debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined};
    const binding = await listen({Give: give}, log, (code) => refused.push(code));
    const connection = new Stuck();
    try {
      binding.server.emit('connection', connection);
      for (const count of [1, 2]) {
        connection.push(putText('Give', {}));
        await until(`${count} are answered`, () => done === count);
      }
      connection.push(putText('Give', {}));
      await until('one is refused', () => refused.length > 0);
      expect([refused, done]).to.deep.equal([['too_many_in_flight'], 2]);
      connection.flow();
      const statuses = (): number[] => [...connection.taken.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status));
      await until('all has come', () => statuses().length === 3, 4 * limits.closeGraceMs);
      expect(statuses()).to.deep.equal([200, 200, errorKind('too_many_in_flight').status]);
      expect(connection.taken).to.match(/^connection: close\r$/im);
    } finally {
      connection.destroy();
      await binding.close(0);
    }
  });
});
