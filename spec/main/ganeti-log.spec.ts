/** The log of ganeti-noded: Ganeti's lines, in its file and in syslog. */
import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {createLog} from '../../lib/base/log';
import {GanetiSink, ganetiLine} from '../../lib/main/ganeti-log';
import {describeIf, describeWithMounts} from '../support/as-root';
import {GanetiNoded, ganetiProgram} from '../support/ganeti-noded';
import {ganetiProblem} from '../support/ganeti-node';
import {until} from '../support/until';

describe('a line of Ganeti\'s log', () => {
  const line = (entry: object): string => ganetiLine(JSON.stringify({level: 30, time: new Date(2026, 10, 2, 7, 2, 4, 30).getTime(), msg: 'm', ...entry}));

  it('has the time of this place, the process and the level', () => {
    expect(line({})).to.equal(`2026-11-02 07:02:04,030: ganeti-noded pid=${process.pid} INFO m\n`);
    expect([20, 30, 40, 50, 60, 70].map((level) => line({level}).split(' ')[4])).to.deep.equal(['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL', 'CRITICAL']);
  });

  it('has the facts after the message, and stays one line', () => {
    expect(line({msg: 'a\nb', port: 1, why: 'c\nd', list: ['x y']})).to.match(/ INFO a b port=1 why=c d list=\["x y"\]\n$/);
  });
});

describe('the places of Ganeti\'s log', () => {
  let directory: string;
  beforeEach(() => (directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-log-'))));
  afterEach(() => fs.rmSync(directory, {recursive: true}));

  it('is the file, opened again when it was rotated', async () => {
    const file = join(directory, 'log');
    const sink = new GanetiSink({file, syslog: 'no', foreground: false, debug: false});
    const log = createLog(sink, {debug: false});
    const linesOf = (path: string): string => fs.readFileSync(path, 'utf8').replace(/^.* (INFO|WARNING)/, '$1');
    log.info({}, 'one');
    await until('the line is written', () => linesOf(file) !== '');
    fs.renameSync(file, `${file}.1`);
    sink.reopen();
    log.debug({}, 'left out');
    log.warn({}, 'two');
    await until('the line is written', () => linesOf(file) !== '');
    expect([`${file}.1`, file].map(linesOf)).to.deep.equal(['INFO one\n', 'WARNING two\n']);
  });

  it('must be there for a daemon that has no other', () => {
    expect(() => new GanetiSink({file: join(directory, 'no/log'), syslog: 'no', foreground: false, debug: false})).to.throw(/^ENOENT/);
  });
});

describeIf('syslog', ganetiProblem(), () => {
  describeWithMounts('in a /dev of its own', () => {
    before(function () {
      this.timeout(60_000);
      ganetiProgram();
    });

    for (const [use, hasFile] of [['yes', true], ['only', false]] as const) {
      it(`gets every line but debug messages with --syslog ${use}, the file ${hasFile ? 'too' : 'none'}`, async function () {
        this.timeout(60_000);
        const node = new GanetiNoded();
        try {
          const [devices, received] = [join(node.directory, 'dev'), join(node.directory, 'syslog')];
          fs.mkdirSync(devices);
          fs.writeFileSync(received, '');
          const script = `mount -t tmpfs none ${devices} && cp -a /dev/null /dev/zero /dev/random /dev/urandom ${devices} && mount --move ${devices} /dev &&
            { socat -u UNIX-RECV:/dev/log OPEN:${received},append </dev/null >/dev/null 2>&1 & } && until [ -S /dev/log ]; do sleep 0.01; done && exec "$@"`;
          const started = node.start(['-d', '--syslog', use], ['unshare', '--mount', 'sh', '-c', script, 'sh']).catch(() => undefined);
          const port = await until('it is in syslog', () => /INFO noded is ready port=(\d+)/.exec(fs.readFileSync(received, 'utf8'))?.[1], 25_000);
          node.port = Number(port);
          expect((await node.ask('/version', '[]')).status).to.equal(200);
          const text = await until('the request is there', () => /^[^]*POST \/version HTTP\/1\.1 200/.exec(fs.readFileSync(received, 'latin1'))?.[0]);
          expect(text).to.match(/<30>.* ganeti-noded\[\d+\]: INFO noded is ready/);
          expect(text).to.not.include('DEBUG');
          expect(/ INFO noded is ready/.test(node.log)).to.equal(hasFile);
          node.signal('SIGTERM');
          await until('its last line is there', () => fs.readFileSync(received, 'latin1').includes('INFO noded ends'));
          expect(await node.exited).to.deep.equal({code: 0, signal: null});
          await started;
        } finally {
          await node.dispose();
        }
      });
    }
  });
});
