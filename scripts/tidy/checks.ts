/**
 * What keeps the house tidy and no linter rule says: pure functions from file texts to findings, run over the repository by
 * test/tidy.test.ts and shown failing there on made-up texts.
 */
import { posix } from "node:path";
import { IMPURE_GLOBALS, isPure, visibleFrom } from "./floors.ts";

/** Text by path relative to the repository, with forward slashes. */
export type Files = ReadonlyMap<string, string>;

export interface Import {
  specifier: string;
  /** True for `import type` and `export type`: gone at run time. */
  typeOnly: boolean;
  /** True for `import()` and `require()`: loaded when it is run, if ever. */
  lazy: boolean;
}

/** Longest a hand-written source file may be, in lines. */
export const MAX_LINES = 600;

/** Every module a source names, by static and dynamic imports and re-exports. */
export function importsOf(source: string): Import[] {
  const found: Import[] = [];
  for (const match of source.matchAll(/^\s*(?:import|export)\s+(type\s+)?(?:[^"'`;()]*?\sfrom\s+)?["']([^"'\n]+)["']/gm)) {
    found.push({ specifier: match[2] ?? "", typeOnly: match[1] !== undefined, lazy: false });
  }
  for (const match of source.matchAll(/\b(?:import|require)\(\s*["']([^"'\n]+)["']\s*[),]/g))
    found.push({ specifier: match[1] ?? "", typeOnly: false, lazy: true });
  return found;
}

/** The source file an import names, or undefined for a package or a node: module. */
export function resolveImport(from: string, specifier: string): string | undefined {
  return specifier.startsWith(".") ? posix.normalize(posix.join(posix.dirname(from), specifier)) : undefined;
}

/** Imports that go sideways or up, and folders of src that are on no floor. */
export function floorFindings(files: Files): string[] {
  const findings: string[] = [];
  for (const [path, source] of files) {
    const folder = roomOf(path);
    if (folder === undefined) continue;
    const visible = visibleFrom(folder);
    if (visible === undefined) {
      findings.push(`${path}: src/${folder} is on no floor (scripts/tidy/floors.ts)`);
      continue;
    }
    for (const { specifier } of importsOf(source)) {
      const target = resolveImport(path, specifier);
      if (target === undefined) continue;
      const room = roomOf(target);
      if (!target.startsWith("src/")) findings.push(`${path}: imports ${specifier}, outside src`);
      else if (room === undefined) findings.push(`${path}: imports ${specifier}, the top floor`);
      else if (room !== folder && !visible.includes(room)) findings.push(`${path}: ${folder} does not see ${room} (${specifier})`);
    }
  }
  return findings;
}

/** The folder of src a path lies in; undefined for main.ts and for files elsewhere. */
function roomOf(path: string): string | undefined {
  const match = /^src\/([^/]+)\//.exec(path);
  return match?.[1];
}

/** Not fields that are called so: `{ async: true }`, `ready.async`. */
const ASYNC = /(?<![.\w$])(?:async(?=\s*[(*]|\s+[\w$#])|await(?=\s*[([`]|\s+[\w$]))/;
const IMPURE_WORDS = new RegExp(`(?<![.\\w$])(${IMPURE_GLOBALS.join("|")})(?![\\w$]*\\s*:)\\b`);

/** Time, chance, effects, async and node: modules in pure rooms, the last also through other modules. */
export function purityFindings(files: Files): string[] {
  const findings: string[] = [];
  for (const [path, source] of files) {
    if (!path.startsWith("src/") || !isPure(path.slice("src/".length))) continue;
    const code = withoutTexts(source).split("\n");
    for (const [index, line] of code.entries()) {
      const word = ASYNC.exec(line)?.[0] ?? IMPURE_WORDS.exec(line)?.[1] ?? /\bMath\.random\b/.exec(line)?.[0];
      if (word !== undefined) findings.push(`${path}:${index + 1}: ${word} in a pure room`);
    }
    for (const module of nodeModulesReached(files, path)) findings.push(`${path}: reaches ${module} in a pure room`);
  }
  return findings;
}

/** node: modules that `entry` loads at run time, with the file that does it. */
function nodeModulesReached(files: Files, entry: string): string[] {
  const reached: string[] = [];
  const seen = new Set([entry]);
  for (const path of seen) {
    for (const { specifier, typeOnly } of importsOf(files.get(path) ?? "")) {
      if (typeOnly) continue;
      if (specifier.startsWith("node:")) reached.push(path === entry ? specifier : `${specifier} (by ${path})`);
      const target = resolveImport(path, specifier);
      if (target !== undefined) seen.add(target);
    }
  }
  return reached;
}

/** Packages that are loaded as soon as `entry` is, with the file that does it: what a short-lived or small process must not pay for. */
export function eagerPackages(files: Files, entry: string): string[] {
  const found: string[] = [];
  const seen = new Set([entry]);
  for (const path of seen) {
    for (const { specifier, typeOnly, lazy } of importsOf(files.get(path) ?? "")) {
      if (typeOnly || lazy || specifier.startsWith("node:")) continue;
      const target = resolveImport(path, specifier);
      if (target === undefined) found.push(`${specifier} (by ${path})`);
      else seen.add(target);
    }
  }
  return found;
}

/** The code with comments and literal texts blanked out, line numbers kept; code inside `${}` stays. */
export function withoutTexts(source: string): string {
  let out = "";
  let at = 0;
  /** Open `${` of templates, each with its count of open braces. */
  const templates: number[] = [];
  const blank = (end: number): void => {
    out += source.slice(at, end).replace(/[^\n]/g, " ");
    at = end;
  };
  const template = (start: number): void => {
    let end = start;
    while (end < source.length && source[end] !== "`" && !source.startsWith("${", end)) end += source[end] === "\\" ? 2 : 1;
    if (source.startsWith("${", end)) {
      templates.push(0);
      blank(end + 2);
    } else blank(end + 1);
  };
  while (at < source.length) {
    const char = source[at] ?? "";
    if (source.startsWith("//", at)) blank(endOf(source, "\n", at));
    else if (source.startsWith("/*", at)) blank(endOf(source, "*/", at) + 2);
    else if (char === '"' || char === "'") {
      let end = at + 1;
      while (end < source.length && source[end] !== char && source[end] !== "\n") end += source[end] === "\\" ? 2 : 1;
      blank(end + 1);
    } else if (char === "`") template(at + 1);
    else if (char === "}" && templates.at(-1) === 0) {
      templates.pop();
      template(at + 1);
    } else {
      if (templates.length > 0 && char === "{") templates.push((templates.pop() ?? 0) + 1);
      if (templates.length > 0 && char === "}") templates.push((templates.pop() ?? 0) - 1);
      out += char;
      at += 1;
    }
  }
  return out;
}

function endOf(source: string, mark: string, from: number): number {
  const end = source.indexOf(mark, from);
  return end < 0 ? source.length : end;
}

export function isGenerated(path: string): boolean {
  return path.startsWith("src/gen/") || path.endsWith(".gen.ts");
}

/** Hand-written source files that have grown out of one person's head. */
export function sizeFindings(files: Files): string[] {
  return [...files]
    .filter(([path]) => path.endsWith(".ts") && !isGenerated(path))
    .map(([path, source]) => ({ path, lines: source.split("\n").length - 1 }))
    .filter(({ lines }) => lines > MAX_LINES)
    .map(({ path, lines }) => `${path}: ${lines} lines, more than ${MAX_LINES}`);
}

/** Relative links and images in Markdown that lead nowhere; `exists` takes a path relative to the repository. */
export function linkFindings(files: Files, exists: (path: string) => boolean): string[] {
  const findings: string[] = [];
  for (const [path, text] of files) {
    if (!path.endsWith(".md")) continue;
    const prose = text.replace(/^```[\s\S]*?^```/gm, "").replace(/`[^`\n]*`/g, "");
    for (const match of prose.matchAll(/\]\(([^()\s]+)(?:\s+"[^"]*")?\)/g)) {
      const link = (match[1] ?? "").split("#")[0] ?? "";
      if (link === "" || /^[a-z][a-z0-9+.-]*:/i.test(link)) continue;
      const target = posix.normalize(posix.join(posix.dirname(path), decodeURIComponent(link)));
      if (target.startsWith("..") || !exists(target)) findings.push(`${path}: ${link} leads nowhere`);
    }
  }
  return findings;
}

// In pieces, or this file would find itself.
const FORBIDDEN: readonly { pattern: RegExp; what: string; only?: RegExp }[] = [
  { pattern: new RegExp("/wo" + "rk/"), what: "a path of somebody's machine" },
  { pattern: /(?<![\w}.])\/(?:home|root|Users)\/[a-z]+\/[a-z]/i, what: "a path of somebody's machine" },
  {
    pattern: /\b(?:artifac[t]ory|verdacc[i]o|npmmirr[o]r)\b|\bregistry\.(?!npmjs\.org\b)[a-z0-9-]+\.[a-z]+/i,
    what: "a package registry's host",
  },
  { pattern: new RegExp("\\.on" + "ly\\(|\\bonly: true"), what: "a test that keeps others from running", only: /^test\// },
  {
    pattern: new RegExp("\\.(?:sk" + 'ip|todo)\\(|\\b(?:skip|todo): true|\\btest\\(.*\\b(?:skip|todo): "'),
    what: "a test that never runs",
    only: /^test\//,
  },
  { pattern: /\bclaim: null\b/, what: "a claim that ends without a proof (src/model/claim.ts)", only: /^src\/state\// },
];

/** Words that may not be in the repository. */
export function wordFindings(files: Files): string[] {
  const findings: string[] = [];
  for (const [path, text] of files) {
    for (const { pattern, what, only } of FORBIDDEN) {
      if (only !== undefined && !only.test(path)) continue;
      const line = text.split("\n").findIndex((candidate) => pattern.test(candidate));
      if (line >= 0) findings.push(`${path}:${line + 1}: ${what}`);
    }
  }
  return findings;
}

/** Source files under src that no entry reaches. */
export function deadFindings(files: Files, entries: readonly string[]): string[] {
  const missing = entries.filter((entry) => !files.has(entry)).map((entry) => `${entry}: an entry that does not exist`);
  const seen = new Set(entries);
  for (const path of seen) {
    for (const { specifier } of importsOf(files.get(path) ?? "")) {
      const target = resolveImport(path, specifier);
      if (target !== undefined) seen.add(target);
    }
  }
  const dead = [...files.keys()].filter(
    (path) => path.startsWith("src/") && path.endsWith(".ts") && !path.startsWith("src/gen/") && !seen.has(path),
  );
  return [...missing, ...dead.map((path) => `${path}: reached from no entry`)];
}
