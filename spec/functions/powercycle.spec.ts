// Every configuration here that enables the function has a command: without one it would reset this machine.
import * as fs from 'node:fs';
import * as path from 'node:path';
import {expect} from 'chai';
import {describeManifest, errorOf, makeDirectory, readManifest, resultOf, startFunction, until} from './run-function';

describe('the function powercycle', () => {
  let directory: string;
  let marker: string;

  beforeEach(() => {
    directory = makeDirectory();
    marker = path.join(directory, 'marker');
  });

  afterEach(() => fs.rmSync(directory, {recursive: true}));

  const harmless = (delay: number): Record<string, unknown> =>
    ({enabled: true, delay, command: ['/usr/bin/env', 'touch', marker]});

  it('refuses without configuration', async () => {
    expect(await errorOf('powercycle', null)).to.contain('not enabled');
  });

  for (const enabled of [false, 'true', 1, null, {}]) {
    it(`refuses if enabled is ${JSON.stringify(enabled)}`, async () => {
      const config = {...harmless(0), enabled};
      expect(await errorOf('powercycle', [], {config})).to.contain('not enabled');
      expect(fs.existsSync(marker)).to.equal(false);
    });
  }

  it('answers, and runs the configured command afterwards', async () => {
    const result = await resultOf('powercycle', [], {config: harmless(0.1)});
    expect(result).to.deep.equal({method: 'command', delay_seconds: 0.1});
    await until('the command has run', () => fs.existsSync(marker));
  });

  it('waits for five seconds unless told otherwise', async () => {
    const command = [writeProgram('cycle', 'exit 0\n')];
    const result = await resultOf('powercycle', [], {config: {enabled: true, command}});
    expect(result).to.deep.equal({method: 'command', delay_seconds: 5});
  });

  it('runs the command in a session of its own, without open files of noded and without its environment', async () => {
    // In $(...) the streams of the shell itself, $$, are still as they were given to it.
    const facts = 'facts=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2; cut -d" " -f5,6 /proc/$$/stat; env)';
    const program = writeProgram('cycle', `${facts}\necho "$facts" >${marker}.new\nmv ${marker}.new ${marker}\n`);
    const running = startFunction('powercycle', '{}', {config: {enabled: true, delay: 0, command: [program]}});
    expect(await running.ended).to.include({code: 0, stderr: ''});
    await until('the command has run', () => fs.existsSync(marker));
    const lines = fs.readFileSync(marker, 'utf8').trim().split('\n');
    expect(lines.slice(0, 3)).to.deep.equal(['/dev/null', '/dev/null', '/dev/null']);
    const [group, session] = (lines[3] ?? '').split(' ').map(Number);
    expect(session).to.equal(group);
    expect(session).not.to.equal(running.pid);
    expect(lines.filter((line) => line.startsWith('NODED_'))).to.deep.equal([]);
  });

  it('hands the words of the command on as they are', async () => {
    const program = writeProgram('cycle', `printf '%s\\n' "$@" >${marker}.new\nmv ${marker}.new ${marker}\n`);
    await resultOf('powercycle', [], {config: {enabled: true, delay: 0, command: [program, '$(id) `id`', '-x', '']}});
    await until('the command has run', () => fs.existsSync(marker));
    expect(fs.readFileSync(marker, 'utf8')).to.equal('$(id) `id`\n-x\n\n');
  });

  it('refuses arguments', async () => {
    expect(await errorOf('powercycle', [1], {config: harmless(0)})).to.contain('arguments');
    expect(fs.existsSync(marker)).to.equal(false);
  });

  it('refuses a delay that is none', async () => {
    for (const delay of [-1, 3601, '5', null]) {
      expect(await errorOf('powercycle', [], {config: {...harmless(0), delay}})).to.contain('delay');
    }
    expect(fs.existsSync(marker)).to.equal(false);
  });

  it('refuses a command that is wrong instead of doing without it', async () => {
    const bad = [['touch', marker], ['/usr/bin/env', 5], '/usr/bin/env', ['/nonexistent/reboot'], ['/dev/null']];
    for (const command of bad) {
      const error = await errorOf('powercycle', [], {config: {enabled: true, command}});
      expect(error).to.match(/configuration: |cannot power-cycle: /);
    }
  });

  it('is urgent, and what it leaves running is its work', () => {
    expect(readManifest('powercycle')).to.include({urgent: true, leave_running: true});
  });

  describeManifest('powercycle', [null, [], {}], [[1], {delay: 0}, 'now']);

  function writeProgram(name: string, body: string): string {
    const file = path.join(directory, name);
    fs.writeFileSync(file, `#!/bin/sh\n${body}`, {mode: 0o755});
    return file;
  }
});
