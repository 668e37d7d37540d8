import {expect} from 'chai';
import {execFileSync, spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {limits} from '../../lib/base/limits';
import {LogSink, createLog, forJournal, forTerminal, journalPrefix} from '../../lib/base/log';
import {until} from '../support/until';

const logModule = join(__dirname, '../../lib/base/log');

describe('the log', () => {
  let directory: string;
  let path: string;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-log-'));
    path = join(directory, 'log');
  });
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    fs.rmSync(directory, {recursive: true});
  });

  const text = (file = path): string => fs.readFileSync(file, 'utf8');
  const linesOf = (file = path): string[] => text(file).split('\n').slice(0, -1);

  it('writes lines whole and in order', async () => {
    const sink = new LogSink(path);
    const lines = Array.from({length: 2000}, (_, index) => `line ${index}`);
    for (const line of lines) sink.write(`${line}\n`);
    await until('all is written', () => linesOf().length >= lines.length);
    expect(linesOf()).to.deep.equal(lines);
  });

  it('makes a file that others cannot read, and appends to one that is there', async () => {
    fs.writeFileSync(path, 'old\n', {mode: 0o600});
    new LogSink(path).write('new\n');
    await until('it is written', () => text() === 'old\nnew\n');
    const fresh = join(directory, 'fresh');
    new LogSink(fresh).flush();
    expect(fs.statSync(fresh).mode & 0o777 & ~0o640).to.equal(0);
  });

  it('goes on in a new file after a rotation, and loses no line', async () => {
    const sink = new LogSink(path);
    for (let index = 0; index < 500; index += 1) {
      sink.write(`${index}\n`);
      if (index % 50 === 49) {
        fs.renameSync(path, `${path}.${index}`);
        sink.reopen();
      }
    }
    sink.write('last\n');
    const all = (): string[] => fs.readdirSync(directory).flatMap((name) => linesOf(join(directory, name)));
    await until('all is written', () => all().length === 501);
    expect(all().sort()).to.deep.equal([...Array.from({length: 500}, (_, index) => String(index)), 'last'].sort());
  });

  it('writes nothing of the log to a file that gets the number of a rotated one', async () => {
    const sink = new LogSink(path);
    for (let round = 0; round < 50; round += 1) {
      for (let index = 0; index < 100; index += 1) sink.write(`${'x'.repeat(200)}\n`);
      sink.reopen();
      const others = Array.from({length: 3}, (_, index) => join(directory, `other${round}.${index}`));
      const fds = others.map((other) => fs.openSync(other, 'w'));
      await new Promise((resolve) => setImmediate(resolve));
      for (const fd of fds) fs.closeSync(fd);
      for (const other of others) expect(text(other)).to.equal('');
    }
    await until('all is written', () => linesOf().length === 5000);
  });

  it('keeps the old file if the new one cannot be opened', async () => {
    const sink = new LogSink(path);
    fs.renameSync(path, `${path}.old`);
    fs.mkdirSync(path);
    expect(() => sink.reopen()).to.throw('EISDIR');
    sink.write('still here\n');
    await until('it is written', () => text(`${path}.old`) === 'still here\n');
  });

  it('throws if the file cannot be opened at all', () => {
    expect(() => new LogSink(join(directory, 'no/such/directory'))).to.throw('ENOENT');
  });

  it('writes what is queued before the process ends', () => {
    const sink = new LogSink(path);
    for (let index = 0; index < 100; index += 1) sink.write(`${index}\n`);
    sink.flush();
    // All but the first batch, which a thread writes meanwhile.
    expect(linesOf().filter((line) => line !== '0')).to.deep.equal(Array.from({length: 99}, (_, index) => String(index + 1)));
  });

  /** A process that logs to its standard error, and the script that it runs. */
  const logging = (script: string, stderr: 'pipe' | number): ChildProcess => {
    const program = `const {LogSink} = require(${JSON.stringify(logModule)}); const sink = new LogSink(null); ${script}`;
    const child = spawn(process.execPath, ['-r', 'ts-node/register/transpile-only', '-e', program], {stdio: ['ignore', 'pipe', stderr], cwd: join(__dirname, '../..')});
    children.push(child);
    return child;
  };
  /** Far more than a pipe and the queue hold. */
  const flood = `for (let i = 0; i < 40000; i += 1) sink.write('x'.repeat(99) + '\\n');`;
  const said = async (child: ChildProcess): Promise<string> => String((await once(child.stdout!, 'data'))[0]);

  it('drops and counts what a reader does not take that stands still, and says so when it goes on', async () => {
    const fifo = join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const fd = fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
    const script = `${flood} console.log(sink.droppedLines); setInterval(() => {}, 1000);`;
    const child = logging(script, fd);
    const dropped = Number(await said(child));
    expect(dropped).to.be.within(40_000 - limits.maxLogQueueBytes / 100 - 1000, 40_000);
    let read = '';
    const buffer = Buffer.alloc(65536);
    await until('the reader is told', () => {
      try {
        read += buffer.toString('utf8', 0, fs.readSync(fd, buffer, 0, buffer.length, null));
      } catch {
        // Nothing to read for the moment.
      }
      return read.includes(`${dropped} log lines were dropped`);
    });
    expect(read.split('\n').filter((line) => line === 'x'.repeat(99))).to.have.length(40_000 - dropped);
    fs.closeSync(fd);
  });

  it('keeps its order when it is flushed at the end while a line is being written', async () => {
    const path = join(directory, 'order');
    const fd = fs.openSync(path, 'w');
    const child = logging(`for (let n = 0; n < 3; n++) sink.write(n + '\\n'); sink.settle().then(() => { sink.write('3\\n'); sink.flush(); process.exit(3); });`, fd);
    await once(child, 'exit');
    fs.closeSync(fd);
    expect(fs.readFileSync(path, 'utf8')).to.equal('0\n1\n2\n3\n');
  });

  it('does not keep the process from ending when nobody reads a pipe', async () => {
    const fifo = join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const fd = fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
    const child = logging(`${flood} setTimeout(() => { ${flood} sink.flush(); process.exit(3); }, 50);`, fd);
    expect(await once(child, 'exit')).to.deep.equal([3, null]);
    fs.closeSync(fd);
  });

  it('does not keep the process from ending when nobody reads a socket', async () => {
    const child = logging(`${flood} setTimeout(() => { ${flood} sink.flush(); process.exit(3); }, 50);`, 'pipe');
    child.stderr!.pause();
    expect(await once(child, 'exit')).to.deep.equal([3, null]);
    child.stderr!.destroy();
  });

  it('survives a reader that is gone', async () => {
    const script = `setInterval(() => sink.write('again\\n'), 1); setTimeout(() => { console.log('alive'); }, 200);`;
    const child = logging(script, 'pipe');
    await once(child.stderr!, 'data');
    child.stderr!.destroy();
    expect(await said(child)).to.equal('alive\n');
    expect(child.exitCode).to.equal(null);
  });

  it('is JSON with its level and time, without process ID and host name', async () => {
    const log = createLog(new LogSink(path), {debug: false});
    log.debug({}, 'too much');
    log.warn({call: '1:2'}, 'look');
    await until('it is written', () => text() !== '');
    const {time, ...rest} = JSON.parse(text()) as Record<string, unknown>;
    expect(time).to.be.a('number');
    expect(rest).to.deep.equal({level: 40, call: '1:2', msg: 'look'});
  });

  it('holds debug lines if they are asked for', async () => {
    createLog(new LogSink(path), {debug: true}).debug({}, 'much');
    await until('it is written', () => text().includes('"msg":"much"'));
  });

  it('is a line for people on a terminal', () => {
    const line = JSON.stringify({level: 50, time: 1_764_670_000_123, errno: 'EIO', pids: [1, 2], msg: 'it broke'});
    expect(forTerminal(line)).to.equal('2025-12-02T10:06:40.123Z error: it broke errno=EIO pids=[1,2]\n');
    expect(forTerminal('{"level":35,"time":0,"msg":"x"}')).to.equal('1970-01-01T00:00:00.000Z 35: x\n');
  });
});

describe('a line for the journal', () => {
  const before = process.env.JOURNAL_STREAM;
  afterEach(() => {
    if (before === undefined) delete process.env.JOURNAL_STREAM;
    else process.env.JOURNAL_STREAM = before;
  });
  const say = (stream: string | undefined): void => {
    if (stream === undefined) delete process.env.JOURNAL_STREAM;
    else process.env.JOURNAL_STREAM = stream;
  };
  const {dev, ino} = fs.fstatSync(2);
  const lines = [[20, 7], [30, 6], [40, 4], [50, 3], [60, 2]] as const;

  it('has its priority before it', () => {
    say(`${dev}:${ino}`);
    for (const [level, priority] of lines) expect(forJournal(`{"level":${level},"msg":"x"}\n`)).to.equal(`<${priority}>{"level":${level},"msg":"x"}\n`);
    expect(forJournal('{"level":50}\n', 'in other words\n')).to.equal('<3>in other words\n');
    expect(journalPrefix()).to.equal('<3>');
  });

  for (const [what, stream] of [['is not there', undefined], ['is somebody else\'s', `${dev}:${ino + 1}`], ['is of another device', `${dev + 1}:${ino}`], ['is no stream', 'yes']] as const) {
    it(`is as it was where JOURNAL_STREAM ${what}`, () => {
      say(stream);
      expect([forJournal('{"level":50}\n'), journalPrefix()]).to.deep.equal(['{"level":50}\n', '']);
    });
  }
});
