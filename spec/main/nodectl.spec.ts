import {once} from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import {expect} from 'chai';
import {exitCodes, worstExit} from '../../lib/main/nodectl-exit';
import {parseNodes} from '../../lib/main/nodectl-options';
import {commandUsages, usageText} from '../../lib/main/nodectl-usage';
import {ScriptedNode, cutsOff} from '../rpc/scripted-node';
import {RunningNoded, nodectl, nodectlOnTerminal, until} from './running-noded';
import type {Ended, RunOptions} from './running-noded';

interface Line {
  readonly node: string;
  readonly outcome: string | null;
  readonly result: unknown;
  readonly call: {readonly id: string; readonly state: string; readonly duplicate: boolean; readonly request_id: string; readonly stderr: {readonly text: string}} | null;
  readonly calls?: readonly {readonly id: string}[];
  readonly error: {readonly code: string; readonly message: string; readonly outcome?: string; readonly health?: string} | null;
}

const lines = ({stdout}: Ended): Line[] => stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as Line);
const line = (ended: Ended): Line => lines(ended)[0]!;

describe('nodectl', function () {
  // The first run compiles the programs, and some wait for functions.
  this.timeout(60_000);

  describe('its command line', () => {
    it('lists all commands with --help', async () => {
      const {code, stdout} = await nodectl(['--help']);
      expect(code).to.equal(0);
      expect(stdout).to.equal(usageText());
      for (const name of Object.keys(commandUsages)) expect(stdout).to.match(new RegExp(`^  ${name} `, 'm'));
    });

    it('tells the usage of a command in the first line of its help, and every option below', async () => {
      const {code, stdout} = await nodectl(['abort', '--help']);
      expect(code).to.equal(0);
      expect(stdout.split('\n')[0]).to.equal(`usage: ${commandUsages.abort.synopsis}`);
      for (const [option] of commandUsages.abort.synopsis.matchAll(/--?[a-z][a-z-]*/gi)) expect(stdout.slice(stdout.indexOf('\n'))).to.include(`${option}`);
    });

    const mistakes: readonly (readonly [string, readonly string[]])[] = [
      ['no command', []],
      ['an unknown command', ['frobnicate']],
      ['an unknown option', ['call', '--frobnicate', 'echo']],
      ['no function', ['call', '--no-ssl']],
      ['too many arguments', ['call', '--no-ssl', 'echo', '1', '2']],
      ['arguments that are no JSON', ['call', '--no-ssl', 'echo', '{a: 1}']],
      ['arguments that are nothing', ['call', '--no-ssl', 'echo', '']],
      ['a timeout that is no number', ['call', '--no-ssl', '-t', '5m', 'echo']],
      ['a negative timeout', ['call', '--no-ssl', '--timeout=-1', 'echo']],
      ['a request ID that is too short', ['call', '--no-ssl', '--request-id', 'short', 'echo']],
      ['neither an ID nor a request ID', ['wait', '--no-ssl']],
      ['both an ID and a request ID', ['wait', '--no-ssl', '--request-id', 'long.enough', '1:2:3.000:0']],
      ['no node', ['status', '--no-ssl', '-n', ',']],
      ['a port that is none', ['status', '--no-ssl', '-p', '70000']],
      ['plain HTTP to another machine', ['status', '--no-ssl', '-n', '192.0.2.1']],
      ['a certificate that is not there', ['status', '-C', '/nonexistent/master.crt']],
    ];
    for (const [what, args] of mistakes) {
      it(`${what} is one line on stderr and exit 2`, async () => {
        const {code, stdout, stderr} = await nodectl(args);
        expect(stderr).to.match(/^nodectl: [^\n]+\n$/);
        expect(stdout).to.equal('');
        expect(code).to.equal(exitCodes.usage);
      });
    }

    it('reads nodes as hosts, ports and addresses of both kinds', () => {
      const parsed = parseNodes('a,b:1812, 10.0.0.1 ,[::1]:1813,::1,[fe80::1%eth0],a', '99').map(({host, port}) => [host, port]);
      expect(parsed).to.deep.equal([['a', 99], ['b', 1812], ['10.0.0.1', 99], ['::1', 1813], ['::1', 99], ['fe80::1%eth0', 99]]);
      for (const text of ['a:', 'a:b', 'a:0', 'a/b', 'a b', '[::1', '[::1]x']) expect(() => parseNodes(text), text).to.throw();
    });

    it('ends with the worst of all nodes', () => {
      const {ok, stillRunning, notOk, refused, notStarted, unknown} = exitCodes;
      const order = [ok, stillRunning, notOk, refused, notStarted, unknown];
      for (const [position, code] of order.entries()) expect(worstExit([...order.slice(0, position + 1)].reverse())).to.equal(code);
      expect(worstExit([])).to.equal(ok);
    });
  });

  describe('at a node whose answers are cut off', () => {
    const node = new ScriptedNode();
    before(() => node.listen());
    after(() => node.close());

    it('ends when -t is over, and tells how to ask for what may have been started', async () => {
      for (const path of ['/StartFunction', '/WaitForFunction', '/AbortFunction', '/status']) node.on(path, cutsOff);
      const at = ['--no-ssl', '-p', String(node.port), '-t', '1', '--request-id', 'cut:cut:cut'];
      const commands = [['call', ...at, 'echo'], ['start', ...at, 'echo'], ['wait', ...at], ['abort', ...at]];
      // Without it they would go on for a minute, at least.
      const all = await Promise.all(commands.map((command) => nodectl(command)));
      expect(all.map(({code}) => code)).to.deep.equal(commands.map(() => exitCodes.unknown));
      for (const {stderr} of all.slice(0, 2)) expect(stderr).to.match(/^nodectl: 127\.0\.0\.1: perhaps started\nnodectl: to wait again: nodectl wait .*--request-id cut:cut:cut$/m);
    }).timeout(50_000);
  });

  describe('with a node', () => {
    const functions = {
      cat: 'exec cat',
      fail3: 'echo \'{"why":"no"}\'; echo oops >&2; exit 3',
      ponder: 'echo "line 1" >&2; echo "line 2" >&2; sleep 3; echo true',
      talk: 'for i in 1 2 3; do echo "line $i" >&2; sleep 0.4; done; echo true',
      sleep30: 'exec sleep 30',
      vanishes: 'exit 0',
      explains: `echo '{"error": "${'the disk is full, '.repeat(20)}and that is all"}'; exit 1`,
      babbles: `printf 'not JSON %0300d.' 0`,
      rude: 'printf \'\\033[2Jrude\\n\' >&2; exit 1',
      pretty: 'printf \'{\\n  "n": 12345678901234567890,\\r\\n  "s": "a\\\\nb"\\n}\\n\'',
    };
    const noded = new RunningNoded(functions);
    let closedPort = 0;

    const on = (command: string, ...args: string[]): string[] => [command, '--no-ssl', '-p', String(noded.port), ...args];
    const run = (command: string, ...args: string[]): Promise<Ended> => nodectl(on(command, ...args));
    const startSleeper = async (): Promise<string> => line(await run('start', 'sleep30')).call!.id;

    before(async () => {
      await noded.start();
      const server = net.createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      closedPort = (server.address() as net.AddressInfo).port;
      server.close();
    });
    after(() => noded.remove());

    it('passes arguments and result byte for byte, as one line for a program', async () => {
      const args = '{"n":1764670000123456789,"f":1.0,"z":-0,"e":1e999,"s":"\\u00e9"}';
      const ended = await run('call', 'cat', args);
      expect(ended).to.include({code: 0, stderr: ''});
      expect(ended.stdout).to.match(/^\{"node":"127\.0\.0\.1","outcome":"ok","result":\{.*\}\n$/);
      expect(ended.stdout).to.include(`"result":${args},"call":{"id":`);
    });

    it('keeps a result of many lines on one, with all its digits', async () => {
      const {stdout} = await run('call', 'pretty');
      expect(stdout.trimEnd().split('\n')).to.have.length(1);
      expect(stdout).to.include('12345678901234567890').and.to.include('"a\\nb"');
    });

    it('sends null without arguments, and what standard input says for -', async () => {
      expect(line(await run('call', 'cat')).result).to.equal(null);
      expect(line(await nodectl(on('call', 'cat', '-'), {stdin: '[1,\n 2]\n'})).result).to.deep.equal([1, 2]);
      expect((await nodectl(on('call', 'cat', '-'), {stdin: '[1,'})).code).to.equal(exitCodes.usage);
    });

    it('a function that fails is exit 1, with its result and the end of its stderr', async () => {
      const ended = await run('call', 'fail3');
      expect(ended.code).to.equal(exitCodes.notOk);
      expect(line(ended)).to.deep.include({outcome: 'failed', result: {why: 'no'}});
      expect(ended.stderr).to.match(/^oops\nnodectl: 127\.0\.0\.1: failed: [^\n]+\n$/);
    });

    it('what a function said of its failure is in the message, and what it wrote in its place', async () => {
      const explained = await run('call', 'explains');
      expect(line(explained).error?.message).to.match(/^the function exited with code 1: the disk is full, .*and that is all$/);
      expect(explained.stderr).to.match(/^nodectl: 127\.0\.0\.1: failed: .*: the disk is full, .*and that is all\n$/);
      expect((await run('call', 'babbles')).stderr).to.match(/^nodectl: 127\.0\.0\.1: invalid_output: .* stdout begins with "not JSON 0{300}\."\n$/);
    });

    it('a function that could not be started is exit 4', async () => {
      fs.rmSync(path.join(noded.functionsDirectory, 'vanishes')); // after noded has found it
      const ended = await run('call', 'vanishes');
      expect(line(ended).outcome).to.equal('start_failed');
      expect(ended.code).to.equal(exitCodes.notStarted);
    });

    it('a node that cannot be reached is exit 4 for a start, and 5 for everything else', async () => {
      const node = ['--no-ssl', '-n', `127.0.0.1:${closedPort}`];
      const ended = await nodectl(['call', ...node, 'cat']);
      expect(ended.code).to.equal(exitCodes.notStarted);
      expect(line(ended).error).to.include({code: 'ECONNREFUSED', health: 'down'});
      expect(ended.stderr).to.match(/^nodectl: [^\n]*down: [^\n]+\n$/);
      expect((await nodectl(['status', ...node])).code).to.equal(exitCodes.unknown);
    });

    it('a refusal is exit 6', async () => {
      const ended = await run('call', 'no_such_function');
      expect(ended.code).to.equal(exitCodes.refused);
      expect(line(ended)).to.deep.include({outcome: null, result: null, call: null});
      expect(line(ended).error?.code).to.equal('unknown_function');
    });

    it('many nodes make a line each, and the worst of them the exit code', async () => {
      const nodes = `127.0.0.1,localhost,127.0.0.1:${closedPort}`;
      const ended = await run('call', '-n', nodes, 'cat', '1');
      expect(lines(ended).map(({node}) => node)).to.have.members(nodes.split(','));
      expect(lines(ended).map(({outcome}) => outcome)).to.have.members(['ok', 'ok', null]);
      expect(ended.code).to.equal(exitCodes.notStarted);
    });

    it('more nodes than are asked at once all get their turn', async () => {
      const nodes = Array.from({length: 70}, (_, position) => `127.0.0.${position + 1}:${position === 0 ? noded.port : closedPort}`);
      const ended = await run('call', '-n', nodes.join(','), 'cat', '1');
      expect(lines(ended).map(({node}) => node)).to.have.members(nodes);
      expect(lines(ended).filter(({outcome}) => outcome === 'ok')).to.have.length(1);
      expect(ended.stderr.trimEnd().split('\n').filter((said) => !said.startsWith('nodectl: 127.'))).to.deep.equal([]);
    });

    it('the same request ID is the same call', async () => {
      const first = line(await run('call', '--request-id', 'nodectl.spec:1', 'cat', '1'));
      const second = line(await run('call', '--request-id', 'nodectl.spec:1', 'cat', '1'));
      expect(second.call).to.include({id: first.call!.id, duplicate: true, request_id: 'nodectl.spec:1'});
      expect(line(await run('wait', '--request-id', 'nodectl.spec:1')).result).to.equal(1);
      expect((await run('call', '--request-id', 'nodectl.spec:1', 'cat', '2')).code).to.equal(exitCodes.refused);
    });

    it('gives up waiting after --timeout, is exit 3, and the words it prints wait again', async () => {
      const ended = await run('call', '-t', '0.2', 'ponder');
      expect(ended.code).to.equal(exitCodes.stillRunning);
      const {id} = line(ended).call!;
      expect(ended.stderr).to.include(id);
      const again = /nodectl: to wait again: nodectl (.*)\n/.exec(ended.stderr)![1]!.split(' ');
      const result = await nodectl(again);
      expect(result.code).to.equal(0);
      expect(line(result)).to.deep.include({outcome: 'ok', result: true});
      expect(line(result).call!.id).to.equal(id);
    });

    it('a call is started, listed, looked at, stopped and forgotten', async () => {
      const started = await run('start', 'sleep30');
      expect(started.code).to.equal(0);
      const {id} = line(started).call!;
      expect((await run('ps')).stdout).to.include(id);
      expect((await run('wait', '-t', '0', id)).code).to.equal(exitCodes.stillRunning);
      expect((await run('forget', id)).code).to.equal(exitCodes.stillRunning);
      const aborted = await run('abort', id);
      expect(aborted).to.include({code: 0, stderr: ''});
      expect(line(aborted).outcome).to.equal('aborted');
      expect((await run('wait', id)).code).to.equal(exitCodes.notOk);
      expect((await run('ps')).stdout).to.not.include(id);
      expect((await run('ps', '-a')).stdout).to.include(id);
      expect((await run('forget', id)).code).to.equal(0);
      const gone = await run('wait', id);
      expect(gone.code).to.equal(exitCodes.unknown);
      expect(line(gone).error).to.include({code: 'call_expired', outcome: 'aborted'});
      expect((await run('wait', '1:2:3.000:00000000deadbeef')).code).to.equal(exitCodes.unknown);
    });

    it('--abort-after stops a function at the node', async () => {
      const ended = await run('call', '--abort-after', '0.2', 'sleep30');
      expect(line(ended).outcome).to.equal('deadline');
      expect(ended.code).to.equal(exitCodes.notOk);
    });

    it('tells functions and status for programs', async () => {
      const functionsLine = JSON.parse((await run('functions')).stdout) as {functions: {fn_name: string}[]};
      expect(functionsLine.functions.map(({fn_name: name}) => name)).to.include.members(['cat', 'fail3', 'talk']);
      expect(JSON.parse((await run('status')).stdout)).to.have.nested.property('status.instance');
    });

    it('logs prints the stderr of a call, and with -f all that follows', async () => {
      const {id} = line(await run('start', 'talk')).call!;
      const followed = await run('logs', '-f', id);
      expect(followed).to.deep.equal({code: 0, stdout: 'line 1\nline 2\nline 3\n', stderr: ''});
      expect((await run('logs', id)).stdout).to.equal(followed.stdout);
      expect((await run('logs', '-n', 'localhost,127.0.0.1', id)).code).to.equal(exitCodes.usage);
      expect((await run('logs', '1:2:3.000:00000000deadbeef')).code).to.equal(exitCodes.unknown);
    });

    it('Ctrl-C leaves the call running, and prints its ID and how to wait for it', async () => {
      const whileRunning: RunOptions['whileRunning'] = async (child, said) => {
        await until('the call is seen to run', () => said().includes('running'));
        child.stdin?.write('\x03');
      };
      const ended = await nodectlOnTerminal(on('call', '--request-id', 'ctrl-c:1', 'sleep30'), {whileRunning});
      expect(ended.code).to.equal(exitCodes.stillRunning);
      const [, id] = /still running: (\S+)/.exec(ended.stdout)!;
      expect(ended.stdout).to.include('nodectl wait -n 127.0.0.1').and.to.include('--request-id ctrl-c:1').and.to.not.include('    at ');
      expect(line(await run('ps')).calls?.map((call) => call.id)).to.deep.equal([id]);
      await run('abort', '--request-id', 'ctrl-c:1');
    });

    it('goes on when noded was killed and comes back', async () => {
      const {id} = line(await run('call', 'cat', '"kept"')).call!;
      const sleeper = await startSleeper();
      const whileRunning: RunOptions['whileRunning'] = async (_child, said) => {
        await until('the wait is open', async () => ((await noded.status()).counts as {waiters: number}).waiters > 0);
        await noded.kill('SIGKILL');
        await until('nodectl says so', () => said().includes('cannot be reached'));
        await noded.start();
        await run('abort', sleeper);
      };
      const ended = await nodectl(on('wait', sleeper), {whileRunning});
      expect(ended.stderr).to.match(/^nodectl: 127\.0\.0\.1 cannot be reached$/m).and.to.match(/^nodectl: 127\.0\.0\.1 was restarted$/m);
      expect(line(ended).call).to.include({id: sleeper, state: 'ended'});
      expect(line(await run('wait', id)).result).to.equal('kept');
    });

    describe('on a terminal', () => {
      const show = (command: string, ...args: string[]): Promise<Ended> => nodectlOnTerminal(on(command, ...args));
      /** What is left on the screen: what was drawn over is gone. */
      const screen = ({stdout}: Ended): string => stdout.split('\x1b[J').at(-1)!.replaceAll('\r\n', '\n');

      it('prints the bare result of one node', async () => {
        const ended = await show('call', 'cat', '{"a": 1}');
        expect(screen(ended)).to.equal('{"a": 1}\n');
        expect(ended.code).to.equal(0);
      });

      it('cuts nothing of what one node says', async () => {
        const [, row] = screen(await show('call', 'explains')).split('NODE ');
        expect(row).to.include('"}').and.to.include('and that is all');
        expect(screen(await show('call', 'babbles')).split('NODE ')[1]).to.match(/not JSON 0{300}\./);
      });

      it('shows while it waits that the node is alive, and what the function says', async () => {
        const {stdout} = await show('call', 'ponder');
        expect(stdout).to.match(/127\.0\.0\.1 {2}\d+\.\ds {2}running {2}line 2\r\n/);
      });

      it('prints a table of many nodes', async () => {
        const ended = await show('call', '-n', `127.0.0.1,localhost,127.0.0.1:${closedPort}`, 'cat', '[1]');
        const rows = screen(ended).trimEnd().split('\n').map((row) => row.split(/ {2,}/));
        expect(rows).to.deep.include(['NODE', 'OUTCOME', 'EXIT', 'ELAPSED', 'RESULT']);
        expect(rows.find(([node]) => node === 'localhost')?.slice(1, 3)).to.deep.equal(['ok', '0']);
        expect(rows.find(([node]) => node === `127.0.0.1:${closedPort}`)?.slice(1, 4)).to.deep.equal(['down', '-', '-']);
        expect(ended.code).to.equal(exitCodes.notStarted);
      });

      it('prints JSON there with --json', async () => {
        const ended = await show('call', '--json', '-n', '127.0.0.1,localhost', 'talk');
        const results = [...ended.stdout.matchAll(/\{"node".*\}\r$/gm)].map(([text]) => (JSON.parse(text) as Line).result);
        expect(results).to.deep.equal([true, true]);
      });

      it('lets no function write to the terminal as it likes', async () => {
        const {stdout} = await show('call', 'rude');
        expect(stdout).to.include('rude').and.not.include('\x1b[2J');
      });

      it('prints the ID of a call that was started, and tables of calls, functions and status', async () => {
        const started = await show('start', 'sleep30');
        const id = screen(started).trim();
        expect(id).to.match(/^\d+:\d+:\d+\.\d+:[0-9a-f]+$/);
        expect((await show('ps')).stdout).to.match(new RegExp(`^127\\.0\\.0\\.1 +${id} +running .*sleep30`, 'm'));
        expect((await show('functions')).stdout).to.match(/^127\.0\.0\.1 +cat +-/m);
        expect((await show('status')).stdout).to.match(/^127\.0\.0\.1 +counts\.running +1/m);
        await run('abort', id);
      });
    });
  });
});
