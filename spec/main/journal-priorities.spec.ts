/** The priorities that systemd's journal shows: where standard error is the journal's, and nowhere else. */
import {expect} from 'chai';
import {spawn} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {once} from 'node:events';
import {NodedDaemon} from '../support/daemon';
import {BuiltNoded} from '../support/built';
import {until} from '../support/until';

/** As systemd starts a service: JOURNAL_STREAM names what is standard error. */
const asService = 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"';
const inherited = 'JOURNAL_STREAM=8:15 exec "$@"';

describe('what noded says to the journal', () => {
  let built: BuiltNoded;
  let node: NodedDaemon;
  let child: ChildProcess | undefined;
  before(() => {
    built = new BuiltNoded();
    node = new NodedDaemon({program: built.program});
  });
  afterEach(() => child?.kill('SIGKILL'));
  after(async () => {
    await node.dispose();
    built.dispose();
  });

  function start(how: string, ...words: readonly string[]): {readonly child: ChildProcess; readonly lines: () => string[]} {
    let said = '';
    const started = (child = spawn('sh', ['-c', how, 'sh', ...words], {stdio: ['ignore', 'ignore', 'pipe']}));
    started.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
    return {child: started, lines: () => said.split('\n').slice(0, -1)};
  }

  it('has the priority of each line', async () => {
    const {child: noded, lines} = start(asService, built.program, ...node.commandLine());
    await until('it is ready', () => lines().some((line) => line.includes('noded is ready')));
    noded.kill('SIGTERM');
    await once(noded, 'exit');
    expect(lines()).not.to.be.empty;
    for (const line of lines()) expect(line).to.match(/^<6>\{"level":30,|^<4>\{"level":40,/);
  });

  it('has an error where noded cannot be started', async () => {
    const {child: noded, lines} = start(asService, built.program, '-c', '/nonexistent/noded.conf');
    expect((await once(noded, 'exit'))[0]).to.equal(78);
    await until('it says why', () => lines().length > 0);
    expect(lines()[0]).to.match(/^<3>noded: .*ENOENT/);
  });

  it('has none where standard error is not what JOURNAL_STREAM names', async () => {
    const {child: noded, lines} = start(inherited, built.program, '-c', '/nonexistent/noded.conf');
    await once(noded, 'exit');
    await until('it says why', () => lines().length > 0);
    expect(lines()[0]).to.match(/^noded: /);
  });
});
