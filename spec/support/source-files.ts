/** The sources of noded as the compiler reads them: what each file imports, and what is in it. */
import {readFileSync, readdirSync} from 'node:fs';
import {join, posix} from 'node:path';
import ts from 'typescript';

const root = join(__dirname, '../..');

/** Every module that a text names: imports, exports from, types of `import()`, and `require`; type-only ones too. */
export function modulesNamedBy(source: ts.SourceFile): string[] {
  const names: string[] = [];
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined) names.push((node.moduleSpecifier as ts.StringLiteral).text);
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) names.push((node.argument.literal as ts.StringLiteral).text);
    if (ts.isCallExpression(node)) {
      const [argument] = node.arguments;
      const loads = node.expression.kind === ts.SyntaxKind.ImportKeyword || node.expression.getText(source) === 'require';
      if (loads && argument !== undefined && ts.isStringLiteralLike(argument)) names.push(argument.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return names;
}

export function parseSource(path: string, text: string): ts.SourceFile {
  return ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true);
}

/** One file of lib/, named as `call/waiters`. */
export interface SourceFile {
  readonly name: string;
  readonly folder: string;
  readonly text: string;
  readonly source: ts.SourceFile;
  /** Files of lib/ that it imports, by name. */
  readonly imports: readonly string[];
}

/** All files of lib/, in the order of their names. */
export function readSources(): readonly SourceFile[] {
  const paths = readdirSync(join(root, 'lib'), {recursive: true, encoding: 'utf8'}).filter((path) => path.endsWith('.ts'));
  return paths.sort().map((path) => {
    const text = readFileSync(join(root, 'lib', path), 'utf8');
    const source = parseSource(path, text);
    const folder = posix.dirname(path);
    const own = modulesNamedBy(source).filter((module) => module.startsWith('.'));
    return {name: path.slice(0, -3), folder, text, source, imports: [...new Set(own.map((module) => posix.join(folder, module)))]};
  });
}

/** All nodes of a file. */
export function* nodesOf(source: ts.SourceFile): Generator<ts.Node> {
  const queue: ts.Node[] = [source];
  for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
    yield node;
    ts.forEachChild(node, (child) => void queue.push(child));
  }
}
