/** The files of etc/ and doc/ agree with the code. */
import {spawnSync} from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join} from 'node:path';
import {expect} from 'chai';
import {parse} from 'smol-toml';
import {readConfig} from '../lib/main/config';
import {exitCodes} from '../lib/main/noded';
import {hasTool, root} from './support/man-page';
import {configDefaults, limitKeys, namesIn} from './support/sources';

type Table = Readonly<Record<string, unknown>>;

const withFile = <T>(name: string, content: string, use: (path: string) => T): T => {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-spec-'));
  try {
    fs.writeFileSync(join(directory, name), content);
    return use(join(directory, name));
  } finally {
    fs.rmSync(directory, {recursive: true});
  }
};

describe('etc/noded.conf', () => {
  const text = fs.readFileSync(join(root, 'etc/noded.conf'), 'utf8');
  /** `# ` begins a comment, `#` and a key a key. */
  const uncommented = text.replace(/^#(?=[[\w])/gm, '');
  const {limits, roles, function: functions, ...top} = parse(uncommented) as Record<string, Table>;
  const withoutDefault = ['interface', 'pid_file', 'log_file'];

  it('changes nothing as it is', () => {
    expect(withFile('noded.conf', text, (config) => readConfig({config, ssl: true}))).to.deep.equal(readConfig({config: '/dev/null', ssl: true}));
  });

  it('has every key, and no others', () => {
    expect(Object.keys(top)).to.have.members(namesIn('main/config.ts', 'const topKeys').filter((key) => !['limits', 'roles', 'function'].includes(key)));
    expect(Object.keys(limits!)).to.have.members(limitKeys().map(({key}) => key));
    expect(Object.keys(roles!.master as Table)).to.deep.equal(['certificates', 'functions']);
  });

  for (const [key, value] of Object.entries(configDefaults())) {
    it(withoutDefault.includes(key) ? `says that ${key} has no default` : `tells the default of ${key}`, () => {
      if (withoutDefault.includes(key)) expect(text).to.match(new RegExp(`^# .*(No default\\.|Daemonized, the default is .*)\\n#${key} = `, 'm'));
      else expect({...top, ...limits}[key]).to.deep.equal(value);
    });
  }

  it('is a configuration with all keys in force', () => {
    const chosen = uncommented.replace(/^interface = .*\n/m, ''); // excludes bind, and this machine need not have it
    const config = withFile('noded.conf', chosen, (path) => readConfig({config: path, ssl: true}));
    const {pidFile, logFile, roles: readRoles, functionConfig, ...rest} = config;
    const {pidFile: _pidFile, logFile: _logFile, roles: _roles, functionConfig: _functionConfig, ...defaults} = readConfig({config: '/dev/null', ssl: true});
    expect(rest).to.deep.equal(defaults);
    expect([pidFile, logFile]).to.deep.equal(['/run/noded.pid', '/var/log/noded.log']);
    expect(readRoles.map(({name}) => name)).to.deep.equal(['master']);
    expect([...functionConfig.keys()]).to.deep.equal(Object.keys(functions!));
  });

  it('says something about every key', () => {
    const lines = text.split('\n');
    const keys = lines.flatMap((line, at) => (/^#\w+ = /.test(line) ? [at] : []));
    expect(keys.filter((at) => !lines[at - 1]!.startsWith('# '))).to.deep.equal([]);
  });
});

describe('etc/noded.service', () => {
  const text = fs.readFileSync(join(root, 'etc/noded.service'), 'utf8');

  it('is clean in the eyes of systemd', () => {
    if (!hasTool('systemd-analyze', 'etc/noded.service')) return;
    const {status, stdout, stderr} = withFile('noded.service', text.replace('@PREFIX@/sbin/noded', '/bin/true'), (path) =>
      // The page that it names need not be installed here.
      spawnSync('systemd-analyze', ['verify', '--man=no', path], {encoding: 'utf8'}));
    expect(stdout + stderr).to.equal('');
    expect(status).to.equal(0);
  });

  it('starts noded in the foreground from where it is installed', () => {
    expect(text.match(/^ExecStart=.*$/gm)).to.deep.equal(['ExecStart=@PREFIX@/sbin/noded -f']);
    expect(text.match(/@\w+@/g)).to.deep.equal(['@PREFIX@']);
  });

  it('does not start again after what does not get better by itself', () => {
    expect(text).to.include(`\nRestartPreventExitStatus=${exitCodes.usage} ${exitCodes.config}\n`);
  });

  it('makes the run directory of the configuration, with the mode that noded asks for', () => {
    expect(configDefaults().run_dir).to.equal(`/run/${/^RuntimeDirectory=(.*)$/m.exec(text)?.[1]}`);
    expect(text).to.include('\nRuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=yes\n');
  });
});

describe('doc/waiting.svg', () => {
  const dot = fs.readFileSync(join(root, 'doc/waiting.dot'), 'utf8');
  const svg = fs.readFileSync(join(root, 'doc/waiting.svg'), 'utf8').replaceAll('&quot;', '"').replaceAll('&#45;', '-');

  it('shows every label of its source', () => {
    const labels = [...dot.matchAll(/\blabel="((?:[^"\\]|\\.)*)"/g)].flatMap(([, label]) => label!.split(/\\[nl]/)).filter((line) => line !== '');
    expect(labels).to.have.length.above(15);
    for (const label of labels) expect(svg).to.include(`>${label.replaceAll('\\"', '"')}</text>`);
  });

  it('has a white background, to be read on a dark page', () => {
    expect(svg).to.match(/<polygon fill="white"/);
  });
});
