/** noded as it is installed, JavaScript without ts-node, in the scratch directory; and daemons started from it. */
import {spawn, spawnSync} from 'node:child_process';
import type {ChildProcess} from 'node:child_process';
import {copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, symlinkSync, writeFileSync} from 'node:fs';
import {basename, dirname, join} from 'node:path';
import ts from 'typescript';
import {Peer} from './peer-process';
import {compileProgram, functionPath, makeFunctions} from './programs';
import type {MemoryHandlers} from './peers/memory-probe';
import type {Scratch} from './scratch';

const checkout = dirname(__dirname);
const readyMs = 30_000;

/** Compiles lib/ and translates bench/peers/ into the scratch directory. Throws if no daemon comes out of it. */
export function install(scratch: Scratch): void {
  const to = scratch.directory;
  const compiler = join(checkout, 'node_modules/typescript/bin/tsc');
  const {stdout} = spawnSync(process.execPath, [compiler, '-p', join(checkout, 'tsconfig.build.json'), '--outDir', join(to, 'lib')], {encoding: 'utf8'});
  if (!existsSync(join(to, 'lib/main/noded.js'))) throw new Error(`lib/ does not compile:\n${stdout}`);
  if (stdout !== '') process.stderr.write(`bench: the compiler complains, and the program is measured all the same:\n${stdout}`);
  cpSync(join(checkout, 'bin'), join(to, 'bin'), {recursive: true});
  copyFileSync(join(checkout, 'package.json'), join(to, 'package.json'));
  mkdirSync(join(to, 'libexec'));
  compileProgram(join(checkout, 'libexec/noded-forker.c'), join(to, 'libexec/noded-forker'), false);
  for (const part of ['noded-ganeti', 'noded_ganeti']) cpSync(join(checkout, 'libexec', part), join(to, 'libexec', part), {recursive: true, filter: (path) => !path.endsWith('__pycache__')});
  symlinkSync(realpathSync(join(checkout, 'node_modules')), join(to, 'node_modules'));
  translatePeers(join(to, 'bench/peers'));
  makeFunctions(to);
}

function translatePeers(to: string): void {
  mkdirSync(to, {recursive: true});
  const from = join(__dirname, 'peers');
  for (const name of readdirSync(from).filter((file) => file.endsWith('.ts'))) {
    const {outputText} = ts.transpileModule(readFileSync(join(from, name), 'utf8'), {fileName: name, compilerOptions: {target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.CommonJS, esModuleInterop: true}});
    writeFileSync(join(to, name.replace(/\.ts$/, '.js')), outputText);
  }
}

export interface NodedOptions {
  /** Lines of noded.conf, on top of what every daemon here gets. */
  readonly config?: string;
  readonly tls?: boolean;
  /** A new one on the tmpfs, unless told otherwise. */
  readonly runDir?: string;
  /** Who starts the functions: the fork server, unless told otherwise. */
  readonly spawner?: 'child' | 'forker';
  /** Loads a probe that collects garbage and tells the heap's size. */
  readonly probed?: boolean;
}

export interface RunningNoded {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly port: number;
  readonly memory: Peer<MemoryHandlers> | null;
  /** From the start of the process to its word that it is ready. */
  readonly readyMs: number;
}

function commandLine(scratch: Scratch, {config = '', tls = false, spawner = 'forker', probed = false, runDir = scratch.newRunDir()}: NodedOptions): string[] {
  const configFile = join(scratch.directory, `${basename(runDir)}.conf`);
  writeFileSync(configFile, `run_dir = ${JSON.stringify(runDir)}\nfunctions = [${JSON.stringify(dirname(functionPath(scratch.directory, 'trivial')))}]\nbind = "127.0.0.1"\nspawner = "${spawner}"\n${config}`);
  const probe = probed ? ['--expose-gc', '--require', join(scratch.directory, 'bench/peers/memory-probe.js')] : [];
  return [...probe, join(scratch.directory, 'bin/noded'), '-f', '-c', configFile, '-p', '0', ...(tls ? [] : ['--no-ssl'])];
}

/** Starts a daemon on a free port of loopback and resolves when its log says that it is ready. */
export function startNoded(scratch: Scratch, options: NodedOptions = {}): Promise<RunningNoded> {
  const args = commandLine(scratch, options);
  const probed = options.probed === true;
  const begin = performance.now();
  const child = spawn(process.execPath, args, {stdio: probed ? ['ignore', 'ignore', 'pipe', 'ipc'] : ['ignore', 'ignore', 'pipe']});
  scratch.own(child);
  return new Promise((resolve, reject) => {
    let log = '';
    const timer = setTimeout(() => reject(new Error(`noded is not ready after ${readyMs} ms: ${log}`)), readyMs);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`noded has ended (${signal ?? code}): ${log}`));
    });
    const onLog = (chunk: Buffer): void => {
      log += chunk.toString();
      const port = /"port":(\d+)[^\n]*"noded is ready"/.exec(log)?.[1];
      if (port === undefined) return;
      clearTimeout(timer);
      // From here on the log is only drained.
      child.stderr?.off('data', onLog).resume();
      resolve({child, pid: child.pid ?? 0, port: Number(port), memory: probed ? new Peer<MemoryHandlers>(child, 'noded') : null, readyMs: performance.now() - begin});
    };
    child.stderr?.on('data', onLog);
  });
}
