/** The man pages say what the code says. */
import {spawnSync} from 'node:child_process';
import {readFileSync, readdirSync, statSync} from 'node:fs';
import {join} from 'node:path';
import {expect} from 'chai';
import {errorCodes, errorKind} from '../lib/base/errors';
import {defaults, ganetiDefaults, limits} from '../lib/base/limits';
import {outcomes} from '../lib/base/outcome';
import {exitCodes as ganetiExitCodes} from '../lib/main/ganeti-noded';
import {usage as ganetiUsage} from '../lib/main/ganeti-options';
import {ganetiPaths} from '../lib/main/ganeti-paths';
import {exitCodes, usage} from '../lib/main/noded';
import {exitCodes as nodectlExitCodes} from '../lib/main/nodectl-exit';
import {commandUsages} from '../lib/main/nodectl-usage';
import {operations} from '../lib/rpc/operations';
import {ManPage, hasTool, root} from './support/man-page';
import {configDefaults, limitKeys, namesIn, sourceOf} from './support/sources';

const noded = new ManPage('noded.8');
const ganeti = new ManPage('ganeti-noded.8');
const nodedConf = new ManPage('noded.conf.5');
const protocol = new ManPage('noded-protocol.7');
const functions = new ManPage('noded-functions.7');
const nodectl = new ManPage('nodectl.1');

const units: Readonly<Record<string, number>> = {characters: 1, s: 1, h: 3600, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30};

/** `64 MiB` to its number. */
function amount(text: string): number {
  const [number, unit] = text.split(' ');
  return Number(number) * (unit === undefined ? 1 : (units[unit] ?? NaN));
}

/** Of both daemons; only what they are asked for differs. */
const handledSignals = new Set([readFileSync(join(root, 'bin/noded'), 'utf8'), sourceOf('main/program.ts')].flatMap((text) => text.match(/(?<=')SIG\w+(?=')/g) ?? []));

/** `.It Ic KEY No = Ar TYPE` to its key. */
const keyOf = (head: string): string | undefined => /^Ic (\w+) No = Ar /.exec(head)?.[1];

describe('every man page', () => {
  for (const name of readdirSync(join(root, 'man'))) {
    it(`${name} is clean in the eyes of mandoc`, () => {
      if (!hasTool('mandoc', name)) return;
      const {stdout, status} = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', join(root, 'man', name)], {encoding: 'utf8'});
      expect(stdout).to.equal('');
      expect(status).to.equal(0);
    });

    it(`${name} names only pages that are here or belong to the system`, () => {
      const ours = new Set(readdirSync(join(root, 'man')));
      const named = [...new ManPage(name).source.matchAll(/\.Xr (noded\S*|nodectl\S*) (\d)/g)].map(([, page, section]) => `${page}.${section}`);
      expect(named).to.not.be.empty;
      expect(named.filter((page) => !ours.has(page))).to.deep.equal([]);
    });
  }
});

describe('noded(8)', () => {
  it('has the usage of the program as its synopsis', () => {
    if (!hasTool('mandoc', 'the synopsis of noded(8)')) return;
    expect(noded.shown('SYNOPSIS')).to.equal(usage);
  });

  it('describes every option', () => {
    const options = [...sourceOf('main/noded.ts').matchAll(/\.(?:option|version)\([^-]*'(-\w)?(?:, )?--([\w-]+)/g)];
    const heads = noded.items('DESCRIPTION').map(({head}) => head);
    expect(options).to.have.length.above(10);
    for (const [, short, long] of options) {
      const head = heads.find((text) => text.split(/[ ,]+/).includes(`-${long}`)) ?? `--${long} is missing`;
      if (short !== undefined) expect(head.split(' ')).to.include(short.slice(1));
    }
    for (const [, , long] of options) expect(heads.some((text) => text.split(/[ ,]+/).includes(`-${long}`)), long).to.equal(true);
  });

  it('lists every exit code', () => {
    const listed = noded.items('EXIT STATUS').map(({head}) => Number(head));
    expect(listed).to.deep.equal(Object.values(exitCodes));
  });

  it('describes every signal that is handled', () => {
    const heads = noded.items('Signals').map(({head}) => head).join(' ');
    expect([...handledSignals]).to.have.length.above(4);
    for (const signal of handledSignals) expect(heads).to.include(signal);
  });

  it('quotes log lines that the code writes', () => {
    expect(checkQuotes(noded)).to.be.above(15);
  });
});

/** Whether the log lines of a page are those of the code; how many there are. */
function checkQuotes(page: ManPage): number {
  const code = readdirSync(join(root, 'lib'), {recursive: true, encoding: 'utf8'}).filter((file) => file.endsWith('.ts')).map(sourceOf).join('\n');
  const quoted = page.items('DIAGNOSTICS').map(({head}) => head.replace(/^Li /, ''));
  for (const line of quoted) {
    for (const piece of line.split('...')) expect(code, line).to.include(piece);
  }
  return quoted.length;
}

describe('nodectl(1)', () => {
  it('has the usage of the commands as its synopsis', () => {
    if (!hasTool('mandoc', 'the synopsis of nodectl(1)')) return;
    expect(nodectl.shown('SYNOPSIS')).to.equal(Object.values(commandUsages).map(({synopsis}) => synopsis).join(' '));
  });

  it('lists every exit code', () => {
    expect(nodectl.items('EXIT STATUS').map(({head}) => Number(head))).to.deep.equal(Object.values(nodectlExitCodes));
  });
});

describe('ganeti-noded(8)', () => {
  it('has the usage of the program as its synopsis', () => {
    if (!hasTool('mandoc', 'the synopsis of ganeti-noded(8)')) return;
    expect(ganeti.shown('SYNOPSIS')).to.equal(ganetiUsage);
  });

  it('describes every option, and no others', () => {
    const options = [...sourceOf('main/ganeti-options.ts').matchAll(/(?:[oO]ption|helpOption)\('(?:-(\w), )?--([\w-]+)/g)].map(([, short, long]) => [short, long]);
    const heads = ganeti.items('DESCRIPTION').map(({head}) => head);
    expect(heads.filter((head) => head.startsWith('Fl ')).map((head) => [/^Fl (\w) /.exec(head)?.[1], /Fl -([\w-]+)/.exec(head)?.[1]])).to.have.deep.members(options);
  });

  it('lists every exit code', () => {
    expect(ganeti.items('EXIT STATUS').map(({head}) => Number(head))).to.deep.equal(Object.values(ganetiExitCodes));
  });

  it('describes every signal that is handled', () => {
    const heads = ganeti.items('Signals').map(({head}) => head).join(' ');
    for (const signal of handledSignals) expect(heads).to.include(signal);
  });

  it('quotes log lines that the code writes', () => {
    expect(checkQuotes(ganeti)).to.equal(4);
  });

  it('names the files that the program looks for', () => {
    const listed = ganeti.items('FILES').map(({head}) => head);
    const paths = ganetiPaths({});
    for (const path of Object.values(paths)) expect(listed).to.include(`Pa ${path}`);
  });

  it('names the keys of its configuration', () => {
    const [file] = ganeti.items('FILES').filter(({head}) => head === 'Pa /etc/noded/ganeti-noded.conf');
    expect([...file!.body.matchAll(/^\.Ic (\w+)/gm)].map(([, key]) => key)).to.deep.equal(namesIn('main/ganeti-config.ts', 'const keys'));
  });

  it('tells which limits differ, and the time to drain', () => {
    const differing = (Object.keys(defaults) as (keyof typeof defaults)[]).filter((name) => ganetiDefaults[name] !== defaults[name]);
    expect(differing).to.have.members(['maxRequestBytes', 'maxOutputBytes', 'maxUrgentCalls']);
    const text = ganeti.section('CAVEATS').replace(/\s+/g, ' ');
    expect(text).to.include(`.Ic max_request and .Ic max_output are ${ganetiDefaults.maxRequestBytes / 2 ** 20} MiB`);
    expect(ganetiDefaults.maxOutputBytes).to.equal(ganetiDefaults.maxRequestBytes);
    expect(text).to.include(`is ${ganetiDefaults.maxUrgentCalls}.`);
    expect(ganeti.section('Stopping')).to.include(`${limits.ganetiDrainMs / 1000} s`);
  });
});

describe('noded.conf(5)', () => {
  const items = ['Network and TLS', 'Directories', 'Starting and stopping', 'Process and log', 'Limits'].flatMap((title) => nodedConf.items(title));
  const tables = ['limits', 'roles', 'function'];

  it('describes every key, and no others', () => {
    const top = namesIn('main/config.ts', 'const topKeys').filter((key) => !tables.includes(key));
    const keys = [...top, ...limitKeys().map(({key}) => key)];
    expect(items.map(({head}) => keyOf(head))).to.have.members(keys);
    expect(nodedConf.items('Roles').map(({head}) => keyOf(head))).to.deep.equal(['certificates', 'functions']);
  });

  for (const [key, value] of Object.entries(configDefaults())) {
    it(`tells the default of ${key}`, () => {
      const body = items.find(({head}) => keyOf(head) === key)?.body ?? '';
      const said = /^Default:(?: (none)\.|\n\.Li (.*) \.)$/m.exec(body);
      expect(said?.[1] === 'none' ? null : JSON.parse(said?.[2] ?? '"nothing"')).to.deep.equal(value);
    });
  }

  it('has all keys among those whose defaults are compared', () => {
    expect(Object.keys(configDefaults())).to.have.members(items.map(({head}) => keyOf(head)));
  });
});

describe('noded-protocol(7)', () => {
  it('tells HTTP status and started of every error, and of no others', () => {
    const told = protocol.items('Errors').filter(({head}) => head.startsWith('Er ')).map(({head}) => head);
    expect(told).to.have.members(errorCodes.map((code) => `Er ${code} Pq ${errorKind(code).status}, ${errorKind(code).started}`));
  });

  it('describes every outcome, and no others', () => {
    expect(protocol.items('Outcomes').map(({head}) => head)).to.deep.equal(outcomes.map((outcome) => `Li ${outcome}`));
  });

  for (const name of operations.keys()) {
    it(`describes ${name} with every member that it takes`, () => {
      expect(protocol.section('SYNOPSIS')).to.include(`.Li PUT /${name}\n`);
      const taken = namesIn('rpc/protocol.ts', `function read${name}(`);
      const described = protocol.items(name).map(({head}) => head);
      for (const member of taken) expect(described.some((head) => head.split(' ').includes(member)), member).to.equal(true);
    });
  }

  it('names every metric', () => {
    const metrics = sourceOf('main/instruments.ts').match(/(?<=')noded_\w+(?=')/g) ?? [];
    expect(metrics).to.have.length.above(10);
    expect([...new Set(protocol.source.match(/noded_\w+/g))]).to.have.members(metrics);
  });

  it('tells the default of every limit that can be configured', () => {
    const rows = [...protocol.section('Limits').matchAll(/Ta Ic (\w+) , No (.+?) Ta/g)];
    expect(rows).to.have.length(limitKeys().length - 1); // kill_after is no limit of the protocol
    for (const [, key, text] of rows) {
      const {name, isSeconds} = limitKeys().find((one) => one.key === key)!;
      expect(amount(text!), key).to.equal(isSeconds ? defaults[name] / 1000 : defaults[name]);
    }
  });

  it('tells the limits that are fixed', () => {
    const told = new Map([...protocol.section('Limits').matchAll(/^\.It ([^\n]+?) Ta (\d[^\n]*?) Ta /gm)].map(([, what, text]) => [what, text!] as const));
    const fixed: Readonly<Record<string, number>> = {
      'IDs of a WaitForFunctions': limits.maxWaitForCalls,
      'requests on one connection': 1,
      'TLS handshakes under way': limits.maxHandshakes,
      'those from one address, or one IPv6 network of 64 bits': limits.maxHandshakesPerAddress,
      'those from where nobody has shown a good certificate': limits.maxStrangerHandshakes,
      'addresses remembered for that': limits.maxKnownAddresses,
      'a TLS handshake': limits.handshakeTimeoutMs / 1000,
      'an idle connection': limits.keepAliveMs / 1000,
      'a reader that takes nothing': limits.stalledReaderMs / 1000,
      'header of a request': limits.maxHeaderBytes,
      'lines of a header': limits.maxHeaders,
      'nesting of JSON': limits.maxDepth,
      'standard error in an answer': limits.maxStderrTailBytes,
      'standard output in a message': limits.maxQuotedStdoutBytes,
      'Ic reason': limits.maxReasonChars,
      'page of GET /calls': limits.maxPageSize,
    };
    for (const [what, value] of Object.entries(fixed)) expect(amount(told.get(what) ?? 'nothing'), what).to.equal(value);
    expect(told.get('arrival of a request')).to.equal(`${limits.requestTimeoutMs / 1000} s, header ${limits.headersTimeoutMs / 1000} s`);
    expect(told.get('Ic request_id')).to.equal('8 to 128 characters');
    expect(told.size).to.equal(Object.keys(fixed).length + 2);
  });
});

describe('noded-functions(7)', () => {
  it('describes every key of a manifest, and no others', () => {
    expect(functions.items('MANIFEST').map(({head}) => keyOf(head))).to.have.members(namesIn('proc/manifest.ts', 'const keys'));
  });

  it('names every variable of the environment', () => {
    const own = [...sourceOf('proc/environment.ts').matchAll(/\b([A-Z][A-Z_]+)(?=: )/g)].map(([, name]) => name!).filter((name) => !name.startsWith('E'));
    expect(own).to.include.members(['PATH', 'NODED_CALL_KEY', 'NODED_FN_CONFIG', 'TRACEPARENT']);
    expect(functions.items('What a function process gets').map(({head}) => head)).to.include.members(own.map((name) => `Ev ${name}`));
  });

  it('describes every function that comes along, and no others', () => {
    const directory = join(root, 'functions');
    const programs = readdirSync(directory).filter((name) => (statSync(join(directory, name)).mode & 0o111) !== 0);
    const described = functions.items('FUNCTIONS THAT COME ALONG').map(({head}) => /^Ic (\w+)$/.exec(head)?.[1]).filter((name) => name !== undefined);
    expect(described).to.include.members(programs);
    const arguments_ = programs.flatMap((name) => Object.keys(propertiesOf(name)));
    expect(described.filter((name) => !programs.includes(name) && !arguments_.includes(name))).to.deep.equal([]);
  });

  it('describes every argument of those functions', () => {
    const heads = functions.items('FUNCTIONS THAT COME ALONG').map(({head}) => head.replaceAll(',', '').split(' '));
    for (const name of ['hooks_runner', 'upload_file']) {
      expect(Object.keys(propertiesOf(name))).to.not.be.empty;
      for (const argument of Object.keys(propertiesOf(name))) expect(heads.some((words) => words.includes(argument)), argument).to.equal(true);
    }
  });
});

function propertiesOf(name: string): object {
  const manifest = readFileSync(join(root, 'functions', `${name}.toml`), 'utf8');
  const names = [...manifest.matchAll(/^\[args\.properties\.(\w+)\]$/gm)].map(([, property]) => [property!, true] as const);
  return Object.fromEntries(names);
}
