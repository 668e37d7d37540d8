import {expect} from 'chai';
import * as fs from 'node:fs';
import * as os from 'node:os';
import {join, resolve} from 'node:path';
import {defaults} from '../../lib/base/limits';
import {absolutePaths, defaultConfigPath, defaultFunctionDirectories, keysForRestart, readConfig} from '../../lib/main/config';
import type {CommandLine, Config} from '../../lib/main/config';
import {ConfigError, UsageError} from '../../lib/main/config-error';
import {describeAsRoot} from '../support/as-root';

describe('noded.conf', () => {
  let directory: string;
  let file: string;

  beforeEach(() => {
    directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-config-'));
    file = join(directory, 'noded.conf');
  });
  afterEach(() => fs.rmSync(directory, {recursive: true}));

  const read = (text: string, line: Partial<CommandLine> = {}): Config => {
    fs.writeFileSync(file, text);
    return readConfig({ssl: true, config: file, ...line});
  };
  const complaint = (text: string, line: Partial<CommandLine> = {}): string => {
    try {
      read(text, line);
    } catch (error) {
      expect(error).to.be.instanceOf(ConfigError);
      const {message} = error as Error;
      expect(message, 'one line').to.not.match(/\n/);
      return message;
    }
    throw new Error(`nothing is wrong with: ${text}`);
  };

  it('may be empty: everything has a default', () => {
    expect(read('')).to.deep.equal({
      port: 1811, address: '0.0.0.0', tls: {cert: '/etc/noded/node.crt', key: '/etc/noded/node.key', ca: '/etc/noded/ca.crt'}, tlsMinVersion: 'TLSv1.3',
      roles: [], runDir: '/run/noded', durable: false, functionDirectories: defaultFunctionDirectories, optionalDirectories: defaultFunctionDirectories, functionConfig: new Map(), limits: {...defaults},
      spawner: 'auto', onStop: 'terminate', stopKillAfterMs: 0, drainTimeoutMs: 300_000, daemonize: false, pidFile: null, logFile: null, debug: false,
    });
  });

  it('may be missing only where nobody named it', function () {
    expect(() => readConfig({ssl: true, config: join(directory, 'none')})).to.throw(ConfigError, 'ENOENT');
    if (!fs.existsSync(defaultConfigPath)) expect(readConfig({ssl: true}).port).to.equal(1811);
  });

  it('says every key', () => {
    const config = read(`
      port = 1812
      bind = "127.0.0.2"
      cert = "/c"
      key = "/k"
      ca = "/ca"
      tls_min_version = "TLSv1.2"
      run_dir = "/r"
      durable = true
      functions = ["/f", "/g"]
      spawner = "child"
      on_stop = "drain"
      stop_kill_after = 1.5
      drain_timeout = 25
      daemonize = true
      pid_file = "/p"
      log_file = "/l"
      debug = true
      [limits]
      max_calls = 1
      max_urgent_calls = 2
      max_waiters = 3
      max_connections = 4
      max_request = 5
      max_output = 6
      max_wait = 0.5
      kill_after = 7
      keep_result = 8
      max_results = 9
      max_spool = 10
      min_free = 11
      [roles.master]
      certificates = ["SHA256:${'AB:'.repeat(31)}AB", "CN=m"]
      functions = ["*"]
      [roles.watcher]
      functions = ["version"]
      [function.powercycle]
      enabled = true
    `);
    expect(config).to.deep.equal({
      port: 1812, address: '127.0.0.2', tls: {cert: '/c', key: '/k', ca: '/ca'}, tlsMinVersion: 'TLSv1.2', runDir: '/r', durable: true, functionDirectories: ['/f', '/g'], optionalDirectories: defaultFunctionDirectories,
      spawner: 'child', onStop: 'drain', stopKillAfterMs: 1500, drainTimeoutMs: 25_000, daemonize: true, pidFile: '/p', logFile: '/l', debug: true,
      limits: {
        maxCalls: 1, maxUrgentCalls: 2, maxWaiters: 3, maxConnections: 4, maxRequestBytes: 5, maxOutputBytes: 6, maxWaitMs: 500,
        killAfterMs: 7000, keepResultMs: 8000, maxResults: 9, maxSpoolBytes: 10, minFreeBytes: 11,
      },
      roles: [{name: 'master', certificates: ['ab'.repeat(32), 'CN=m'], functions: ['*']}, {name: 'watcher', certificates: [], functions: ['version']}],
      functionConfig: new Map([['powercycle', '{"enabled":true}']]),
    });
  });

  it('is overruled by the command line, key by key', () => {
    const text = 'port = 1\nbind = "127.0.0.3"\ncert = "/c"\nkey = "/k"\nca = "/a"\nrun_dir = "/r"\nfunctions = ["/f"]\npid_file = "/p"\ndebug = false\ndaemonize = false\n';
    const line = {port: '2', bind: '127.0.0.4', cert: '/C', key: '/K', ca: '/A', runDir: '/R', functions: ['/F', '/G'], pidFile: '/P', debug: true, daemonize: true};
    expect(read(text, line)).to.deep.include({
      port: 2, address: '127.0.0.4', tls: {cert: '/C', key: '/K', ca: '/A'}, runDir: '/R', functionDirectories: ['/F', '/G'], pidFile: '/P', debug: true, daemonize: true,
    });
    expect(read('daemonize = true\n', {foreground: true}).daemonize).to.equal(false);
    expect(read('bind = "127.0.0.3"\n', {ssl: false}).tls).to.equal(null);
    expect(read('interface = "none"\n', {bind: '127.0.0.4'}).address).to.equal('127.0.0.4');
  });

  it('takes relative paths of the command line from where it was typed', () => {
    const config = read('', {runDir: 'r', functions: ['f'], pidFile: 'p', cert: 'c', key: 'k', ca: 'a'});
    expect(config).to.deep.include({runDir: resolve('r'), functionDirectories: [resolve('f')], pidFile: resolve('p'), tls: {cert: resolve('c'), key: resolve('k'), ca: resolve('a')}});
  });

  it('takes a run directory in which a socket has room, by its path without links', () => {
    const real = join(fs.realpathSync(directory), 'd'.repeat(80 - fs.realpathSync(directory).length));
    const link = join(directory, 'link');
    fs.mkdirSync(real);
    fs.symlinkSync(real, link);
    const below = (path: string, bytes: number): string => join(path, 'r'.repeat(bytes - path.length - 1));
    expect(read('', {runDir: below(link, 95)}).runDir).to.equal(below(link, 95));
    expect(read('', {runDir: below(real, 95)}).runDir).to.equal(below(real, 95));
    expect(read('', {runDir: join(link, 'run')}).runDir).to.equal(join(real, 'run'));
    for (const runDir of [below(real, 96), `/${'é'.repeat(48)}`]) {
      const bytes = Buffer.byteLength(runDir);
      expect(complaint('', {runDir})).to.equal(`run_dir has ${bytes} bytes, and may have 95: the path of a socket cannot be longer: ${runDir}`);
      expect(complaint(`run_dir = "${runDir}"\n`)).to.match(new RegExp(`^run_dir has ${bytes} bytes`));
    }
  });

  it('is refused if systemd is to be told at a path that no socket can have', () => {
    const before = process.env.NOTIFY_SOCKET;
    try {
      process.env.NOTIFY_SOCKET = `/${'n'.repeat(107)}`;
      expect(complaint('')).to.match(/^NOTIFY_SOCKET has 108 bytes, and may have 107: /);
      process.env.NOTIFY_SOCKET = `/${'n'.repeat(106)}`;
      read('');
    } finally {
      if (before === undefined) delete process.env.NOTIFY_SOCKET;
      else process.env.NOTIFY_SOCKET = before;
    }
  });

  it('finds the address of an interface', () => {
    expect(read('interface = "lo"\n', {ssl: false}).address).to.equal('127.0.0.1');
    expect(read('', {interface: 'lo'}).address).to.equal('127.0.0.1');
    expect(complaint('interface = "no-such-interface"\n')).to.equal('the interface no-such-interface has no address');
  });

  it('takes an IPv6 address in brackets too, as nodectl does', () => {
    expect(read('', {bind: '[::1]'}).address).to.equal('::1');
    expect(read('bind = "[::1]"\n', {ssl: false}).address).to.equal('::1');
    expect(read('', {bind: '[fe80::1%lo]'}).address).to.equal('fe80::1%lo');
    expect(read('', {bind: '[name]'}).address).to.equal('[name]');
  });

  it('says that a link-local address needs its interface', () => {
    for (const bind of ['fe80::1', '[fe80::1]', 'FE80::1', 'febf::1']) {
      expect(complaint('', {bind})).to.match(/^fe\w+::1 is a link-local address, and needs the name of its interface: fe\w+::1%eth0, say$/i);
    }
    expect(read('', {bind: 'fe80::1%eth0'}).address).to.equal('fe80::1%eth0');
  });

  it('listens on loopback only without TLS', () => {
    expect(read('ssl = false\n').address).to.equal('127.0.0.1');
    for (const address of ['127.0.0.9', '::1', 'localhost']) expect(read(`ssl = false\nbind = "${address}"\n`).address).to.equal(address);
    for (const address of ['0.0.0.0', '::', '192.0.2.1', '127.0.0.1.example.org']) {
      expect(complaint(`ssl = false\nbind = "${address}"\n`)).to.equal(`without TLS noded listens on loopback only, not on ${address}`);
    }
  });

  it('logs to a file of its own when it detaches and nothing is said', () => {
    expect(read('daemonize = true\n').logFile).to.equal('/var/log/noded.log');
    expect(read('daemonize = true\nlog_file = "/l"\n').logFile).to.equal('/l');
    expect(read('', {daemonize: true}).logFile).to.equal('/var/log/noded.log');
  });

  const wrong: readonly (readonly [text: string, complaint: string | RegExp])[] = [
    ['prot = 1811', /: prot is not a key of noded\.conf$/],
    ['[limits]\nmax_cals = 1', 'limits.max_cals is not a key of noded.conf'],
    ['[roles.master]\nfunction = []', 'roles.master.function is not a key of noded.conf'],
    ['port = "1811"', 'port must be a whole number, 0 or more'],
    ['port = 65536', 'port must be a port, 0 to 65535'],
    ['port = 1.5', 'port must be a whole number, 0 or more'],
    ['port = -1', 'port must be a whole number, 0 or more'],
    ['bind = 1', 'bind must be a string'],
    ['bind = ""', 'bind must be a string'],
    ['ssl = "no"', 'ssl must be true or false'],
    ['debug = 1', 'debug must be true or false'],
    ['run_dir = "run"', 'run_dir must be an absolute path'],
    ['cert = "node.crt"', 'cert must be an absolute path'],
    ['functions = "/f"', 'functions must be an array of strings'],
    ['functions = ["/f", 1]', 'functions must be an array of strings'],
    ['functions = ["f"]', 'functions must be an absolute path'],
    ['spawner = "fork"', 'spawner must be one of auto, child, forker'],
    ['on_stop = "kill"', 'on_stop must be one of terminate, drain, leave'],
    ['tls_min_version = "TLSv1.1"', 'tls_min_version must be one of TLSv1.2, TLSv1.3'],
    ['stop_kill_after = "1"', 'stop_kill_after must be a number of seconds, 0 or more'],
    ['drain_timeout = -1', 'drain_timeout must be a number of seconds, 0 or more'],
    ['drain_timeout = inf', 'drain_timeout must be a number of seconds, 0 or more'],
    ['drain_timeout = nan', 'drain_timeout must be a number of seconds, 0 or more'],
    ['limits = 1', 'limits must be a table'],
    ['[limits]\nmax_calls = 1.5', 'limits.max_calls must be a whole number, 0 or more'],
    ['[limits]\nmax_wait = true', 'limits.max_wait must be a number of seconds, 0 or more'],
    ['roles = []', 'roles must be a table'],
    ['[roles]\nmaster = 1', 'roles.master must be a table'],
    ['[roles.local]\nfunctions = []', /^roles\.local: /],
    ['[roles."a b"]\nfunctions = []', /^roles\.a b: /],
    ['[roles.master]\ncertificates = [1]', 'roles.master.certificates must be an array of strings'],
    ['function = 1', 'function must be a table'],
    ['[function]\nx = 1979-05-27', 'function.x must be a table'],
    ['bind = "::1"\ninterface = "lo"', 'bind and interface exclude each other'],
    ['port = 1\nport = 2', /noded\.conf: /],
    ['port = ', /noded\.conf: /],
    ['\u0000', /noded\.conf: /],
  ];
  for (const [text, expected] of wrong) {
    it(`complains in one line of: ${JSON.stringify(text)}`, () => {
      if (typeof expected === 'string') expect(complaint(text)).to.equal(expected);
      else expect(complaint(text)).to.match(expected);
    });
  }

  it('complains of what is wrong on the command line', () => {
    for (const port of ['x', '70000', '-1', '1.5', '']) expect(complaint('', {port})).to.match(/^--port must be /);
    expect(complaint('', {bind: '::1', interface: 'lo'})).to.equal('give an address or an interface to listen on, not both');
  });

  it('tells a wrong command line from a wrong file', () => {
    expect(() => read('', {port: 'x'})).to.throw(UsageError);
    expect(() => read('', {bind: '::1', interface: 'lo'})).to.throw(UsageError);
    expect(() => read('port = "x"\n')).to.throw(ConfigError).and.not.to.be.instanceOf(UsageError);
  });

  it('knows what a reload does not take over, by the names of its keys', () => {
    const old = read('');
    const changed = 'port = 1\nbind = "127.0.0.2"\nrun_dir = "/r"\ndurable = true\nspawner = "child"\non_stop = "leave"\nstop_kill_after = 1\ndrain_timeout = 1\ndaemonize = true\npid_file = "/p"\nlog_file = "/l"\ndebug = true\n[limits]\nmax_calls = 1\nmax_wait = 2\n';
    expect(keysForRestart(old, read(changed))).to.deep.equal([
      'port', 'bind', 'run_dir', 'durable', 'spawner', 'on_stop', 'stop_kill_after', 'drain_timeout', 'daemonize', 'pid_file', 'log_file', 'debug', 'limits.max_calls', 'limits.max_wait',
    ]);
    const taken = 'cert = "/c"\nkey = "/k"\nca = "/ca"\ntls_min_version = "TLSv1.2"\nfunctions = ["/f"]\n[limits]\nmax_output = 1\n[roles.master]\n[function.f]\nx = 1\n';
    expect(keysForRestart(old, read(taken))).to.deep.equal([]);
  });

  it('can be read again from another directory with the same command line', () => {
    const line = {ssl: true, config: 'noded.conf', runDir: 'r', functions: ['f'], port: '1'};
    expect(absolutePaths(line)).to.deep.equal({ssl: true, config: resolve('noded.conf'), runDir: resolve('r'), functions: [resolve('f')], port: '1'});
  });

  it('complains of a file that cannot be a configuration', () => {
    fs.writeFileSync(file, Buffer.alloc((1 << 20) + 1, '#'));
    expect(() => readConfig({ssl: true, config: file})).to.throw(ConfigError, 'is too large');
    expect(() => readConfig({ssl: true, config: directory})).to.throw(ConfigError, 'EISDIR');
  });
});

describeAsRoot('noded.conf of a noded that is root', () => {
  let directory: string;
  let file: string;
  beforeEach(() => {
    directory = fs.mkdtempSync(join(os.tmpdir(), 'noded-config-'));
    file = join(directory, 'noded.conf');
    fs.writeFileSync(file, 'port = 1\n');
  });
  afterEach(() => fs.rmSync(directory, {recursive: true}));

  const spoilers: readonly (readonly [title: string, spoil: () => void, complaint: RegExp])[] = [
    ['may be written by everyone', () => fs.chmodSync(file, 0o666), /noded\.conf may be written by everyone$/],
    ['belongs to somebody else', () => fs.chownSync(file, 1, 1), /belongs to uid 1, not to root/],
    ['lies where everyone may write', () => fs.chmodSync(directory, 0o777), /may be written by everyone$/],
  ];
  for (const [title, spoil, complaint] of spoilers) {
    it(`is refused if it ${title}: it names programs that run as root`, () => {
      expect(readConfig({ssl: true, config: file}).port).to.equal(1);
      spoil();
      expect(() => readConfig({ssl: true, config: file})).to.throw(ConfigError, complaint);
    });
  }
});
