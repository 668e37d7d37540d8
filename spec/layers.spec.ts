import {expect} from 'chai';
import ts from 'typescript';
import {modulesNamedBy, nodesOf, parseSource, readSources} from './support/source-files';
import type {SourceFile} from './support/source-files';

/** The folders and what each may import besides itself (DESIGN.md section 2). */
const layers: Readonly<Record<string, readonly string[]>> = {
  base: [],
  call: ['base'],
  proc: ['base', 'call'],
  rpc: ['base', 'call'],
  main: ['base', 'call', 'proc', 'rpc'],
  '.': ['base', 'rpc'],
};

/** Within a folder an import points to a file above. A new file takes its place here, with its reason. */
const orders: Readonly<Record<string, readonly (readonly [file: string, why: string])[]>> = {
  base: [
    ['errors', 'codes are of no use to themselves'],
    ['read-if-there', 'tells one error of the system from the others'],
    ['limits', 'numbers alone'],
    ['duration', 'clamps to the limits'],
    ['boot-clock', 'the other clock, read against the monotonic one'],
    ['outcome', 'the outcomes, and when'],
    ['alarm', 'a timer for an instant on the monotonic clock'],
    ['log', 'its queue has a limit'],
    ['log-limit', 'so do the lines that strangers cause'],
  ],
  call: [
    ['spawner', 'types only: what is promised to a call'],
    ['call-id', 'names a call, and knows nothing else of it'],
    ['call-record', 'what is known of one call'],
    ['call', 'the life of one call'],
    ['acceptance', 'how a call begins'],
    ['journal', 'what of a call is on file'],
    ['tombstones', 'what is left of a call that is gone'],
    ['journaling', 'who writes what of it, and when'],
    ['slices', 'work in crowds, of whatever kind'],
    ['waiters', 'who waits for a call; settled in slices'],
    ['retention', 'which ended calls are kept'],
    ['expiry', 'and when they go'],
    ['slots', 'which calls take a slot'],
    ['call-order', 'calls one after the other'],
    ['call-index', 'finds calls, and the tombstones of those that are gone'],
    ['call-table', 'the many: brings all of them together'],
  ],
  proc: [
    ['safe-path', 'whom a path belongs to'],
    ['run-dir', 'a directory that is safe'],
    ['manifest', 'what lies beside a function'],
    ['args-schema', 'a part of a manifest that is compiled late'],
    ['environment', 'what a function process finds'],
    ['executable', 'whether the kernel would run a file'],
    ['catalog', 'functions with their manifests, from safe paths'],
    ['built-ins', 'functions of the catalog that need no program'],
    ['log-lines', 'the bytes of the log'],
    ['log-scan', 'what the log is about, unread'],
    ['group-sync', 'one sync for many'],
    ['sync-files', 'what is synced'],
    ['disk-work', 'work with files, now or on a thread'],
    ['segment-files', 'its files'],
    ['newest-segment', 'the one that is appended to'],
    ['line-queue', 'what is to be appended'],
    ['segment-sync', 'when they are on disk'],
    ['call-log', 'the log, in the run directory'],
    ['unread', 'reads of it what is asked for'],
    ['earlier-journals', 'what there was before it'],
    ['recent-outputs', 'memory alone'],
    ['spool-files', 'the files of a call'],
    ['spool', 'the log and the files of a call, together'],
    ['output', 'what stdout turned out to be'],
    ['ending', 'how a process ended and what it wrote, together'],
    ['process-tree', 'what a function left behind'],
    ['unspooled', 'pipes instead of the spool'],
    ['witness', 'the parent of a process that noded starts itself'],
    ['child-spawner', 'starts over the spool or pipes, sweeps the tree, examines the output'],
    ['fork-frames', 'what is said between noded and a fork server'],
    ['fork-server', 'finds or starts the process that frames go to'],
    ['fork-call', 'what is known of a call that a fork server has'],
    ['earlier-forker', 'writes the log for a fork server that does not'],
    ['fork-settlement', 'reads ends from the log that a fork server did not tell any more'],
    ['fork-spawner', 'starts over a fork server'],
    ['disk-spawner', 'between the table and any spawner'],
    ['recovery', 'the spool of an earlier noded'],
  ],
  rpc: [
    ['protocol', 'requests on the wire'],
    ['protocol-answer', 'answers on the wire'],
    ['json-scan', 'members and validity of a text'],
    ['json-members', 'cuts what the scan has found'],
    ['tls-files', 'certificates and keys as they lie on disk'],
    ['tls', 'both sides of a connection, and roles'],
    ['client-transport', 'one request over one connection'],
    ['client-answers', 'what came back over it'],
    ['client-requests', 'what a master asks'],
    ['client-health', 'whether a node lives'],
    ['client-follow', 'waits again and again'],
    ['client', 'one node, all of the above'],
    ['reply', 'an answer in pieces, whatever the binding'],
    ['operations', 'what masters ask for, whatever the binding'],
    ['queries', 'operations that only look'],
    ['handshake-shares', 'how many may come at once, and from where'],
    ['http-handshakes', 'who came to the door, and why he was not let in'],
    ['http-request', 'what came in over HTTP'],
    ['http-reply', 'what goes out over HTTP'],
    ['http', 'operations over HTTP'],
    ['luxi', 'operations over the local socket'],
    ['ganeti', 'the classic protocol of Ganeti, beside the operations over HTTP'],
    ['ganeti-candidates', 'roles as Ganeti has them'],
  ],
  main: [
    ['version', 'one word'],
    ['absolute-path', 'paths of command lines'],
    ['config-error', 'why a configuration is none'],
    ['listen-address', 'where to listen'],
    ['config', 'the file and the command line'],
    ['trust', 'certificates and roles of the configuration'],
    ['notify', 'tells systemd'],
    ['instruments', 'loaded late, by metrics alone'],
    ['loop-monitor', 'how late the loop comes'],
    ['metrics', 'counts what happens'],
    ['spawner-choice', 'the one spawner that is configured and there'],
    ['take-over', 'calls of an earlier noded; running ones go to the spawner'],
    ['stop', 'how noded ends; is given all that it stops'],
    ['listen', 'the port, tried and then had'],
    ['daemon', 'the composition of all parts'],
    ['detach', 'away from whoever started it'],
    ['pid-file', 'which process it is'],
    ['program', 'a daemon, its signals and its end'],
    ['noded', 'the program: command line and configuration'],
    ['ganeti-paths', 'where Ganeti has its files'],
    ['ganeti-options', 'what Ganeti says to its daemon'],
    ['ganeti-log', 'how Ganeti wants it told'],
    ['ganeti-trust', 'certificates and roles of Ganeti'],
    ['ganeti-config', 'the configuration that all of this comes to'],
    ['ganeti-noded', 'the program in a Ganeti cluster'],
    ['nodectl-exit', 'exit codes of nodectl'],
    ['nodectl-stdout', 'whether what it prints arrives'],
    ['keygen', 'a command of nodectl that needs no node'],
    ['nodectl-options', 'what its command line says'],
    ['nodectl-output', 'what it prints'],
    ['nodectl-nodes', 'whom it asks'],
    ['nodectl-context', 'options, nodes and output of one run'],
    ['nodectl-progress', 'what it prints while it waits'],
    ['nodectl-stderr', 'follows stderr, with the terminal of the progress'],
    ['nodectl-look', 'commands that only look'],
    ['nodectl-call', 'commands that start, wait and stop'],
    ['nodectl-usage', 'the text of --help'],
    ['nodectl', 'the program: its commands'],
  ],
  '.': [['index', 'the public door']],
};

/** What both ends of the wire are made of. */
const wire = ['rpc/protocol', 'rpc/protocol-answer', 'rpc/json-scan', 'rpc/json-members', 'rpc/tls', 'rpc/tls-files'];
const isClientHalf = (name: string): boolean => /^rpc\/client(-|$)/.test(name) || wire.includes(name);
const maxFileLines = 300;

const sources = readSources();
const byName = new Map(sources.map((file) => [file.name, file]));

/** A file and all that it needs, directly or not. */
function closureOf(name: string): Set<string> {
  const found = new Set<string>();
  const queue = [name];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    if (found.has(next)) continue;
    found.add(next);
    queue.push(...(byName.get(next)?.imports ?? []));
  }
  return found;
}

/** `FILE:LINE` of every node that is what nobody wants. */
function placesOf(unwanted: (node: ts.Node, file: SourceFile) => boolean): string[] {
  return sources.flatMap((file) =>
    [...nodesOf(file.source)].filter((node) => unwanted(node, file)).map((node) => `${file.name}:${file.source.getLineAndCharacterOfPosition(node.getStart()).line + 1}`),
  );
}

describe('the layers', () => {
  it('are read with all kinds of imports, type-only ones too', () => {
    const text = `import a from './a'; import type {B} from './b'; import './c'; export * from './d'; export type {E} from './e';
      const f = require('./f') as typeof import('./g'); void import('./h'); let i: import('./i').I; const text = "import './no'"; // import './no'`;
    expect(modulesNamedBy(parseSource('x.ts', text)).sort()).to.deep.equal(['./a', './b', './c', './d', './e', './f', './g', './h', './i']);
  });

  it('know every file of lib/, and no other', () => {
    const listed = Object.entries(orders).flatMap(([folder, files]) => files.map(([file]) => (folder === '.' ? file : `${folder}/${file}`)));
    expect(sources.map(({name}) => name)).to.have.members(listed);
  });

  for (const file of sources) {
    describe(file.name, () => {
      it('imports only from layers to its left, and from files above in its own', () => {
        const order = (orders[file.folder] ?? []).map(([name]) => (file.folder === '.' ? name : `${file.folder}/${name}`));
        for (const imported of file.imports) {
          const target = byName.get(imported);
          expect(target, `${imported} is a file of lib/`).to.not.equal(undefined);
          if (target!.folder !== file.folder) expect(layers[file.folder], `${file.name} → ${imported}`).to.include(target!.folder);
          else expect(order.indexOf(imported), `${file.name} → ${imported}: only a file above`).to.be.below(order.indexOf(file.name));
        }
      });

      if (isClientHalf(file.name) || file.name === 'index') {
        it('needs nothing but the client half and base/, directly or not', () => {
          const beyond = [...closureOf(file.name)].filter((name) => name !== file.name && !name.startsWith('base/') && !isClientHalf(name));
          expect(beyond).to.deep.equal([]);
        });
      }

      it(`is at most ${maxFileLines} lines long`, () => {
        expect(file.text.split('\n').length - 1).to.be.at.most(maxFileLines);
      });
    });
  }

  it('hold on their own: no file needs itself, by whatever way', () => {
    const circular = sources.filter(({name, imports}) => imports.some((imported) => closureOf(imported).has(name)));
    expect(circular.map(({name}) => name)).to.deep.equal([]);
  });

  it('are imported from by nobody in main/', () => {
    expect(sources.filter(({folder, imports}) => folder !== 'main' && imports.some((name) => name.startsWith('main/')))).to.deep.equal([]);
  });
});

describe('the sources', () => {
  it('export by name only', () => {
    expect(placesOf((node) => ts.isExportAssignment(node) || node.kind === ts.SyntaxKind.DefaultKeyword && ts.isModifier(node))).to.deep.equal([]);
  });

  it('have no enums, and no `any`', () => {
    expect(placesOf((node) => ts.isEnumDeclaration(node) || node.kind === ts.SyntaxKind.AnyKeyword)).to.deep.equal([]);
  });

  it('end the process in main/ only', () => {
    const exits = placesOf((node, {folder}) => folder !== 'main' && ts.isPropertyAccessExpression(node) && /^process\.(exit|abort|reallyExit)$/.test(node.getText()));
    expect(exits).to.deep.equal([]);
  });

  it('have functions of under 40 lines', () => {
    const linesOf = (node: ts.Node, {source}: SourceFile): number =>
      source.getLineAndCharacterOfPosition(node.end).line - source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
    expect(placesOf((node, file) => ts.isFunctionLike(node) && linesOf(node, file) >= 40)).to.deep.equal([]);
  });

  it('are in files of kebab-case, and none is a drawer for everything', () => {
    for (const {name} of sources) {
      expect(name).to.match(/^[a-z]+(\/[a-z0-9]+(-[a-z0-9]+)*)?$/);
      expect(name).to.not.match(/utils?|helpers?|manager|common|misc/);
    }
  });
});
