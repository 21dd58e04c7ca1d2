/**
 * Builds dist/roost: one executable with Node, the program, its worker threads and LevelDB's addon inside.
 *
 *   npm run build                       src/main.ts → dist/roost
 *   npm run build -- --level 1 --out FILE  a roost that knows commands up to that feature level only, to test upgrades (RAFT-7)
 *   npm run build -- --main FILE --out FILE [--worker NAME=FILE]   another program, for tests of the wheel itself
 *
 * Everything comes from node_modules (base Node from the npm package node-linux-*), so it works offline; settings are in pkg.config.json.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { build as esbuild } from "esbuild";
import { WORKERS, workerAsset } from "../src/base/worker.ts";
import { embeddedAddon, embeddedProtos } from "./bundle/plugins.ts";

const ROOT = join(import.meta.dirname, "..");

interface PkgConfig {
  bin: string;
  pkg: {
    targets: string[];
    outputPath: string;
    seaConfig: Record<string, unknown> & { assets: Record<string, string> };
  };
}

interface Target {
  platform: string;
  arch: string;
  nodeRange: string;
  output: string;
}

interface BuildOptions {
  main: string;
  out: string;
  workers: Record<string, string>;
  /** Feature level that the program says it has; absent: its own (src/state/levels.ts). */
  level?: number;
}

/** pkg's SEA step as a function; its command line drops seaConfig in this mode, and we need execArgvExtension and the code cache. */
type SeaStep = (entry: string, options: { targets: Target[]; nodePath: string; seaConfig: object }) => Promise<void>;

export async function buildBinary(options: BuildOptions): Promise<void> {
  const config = JSON.parse(readFileSync(join(ROOT, "pkg.config.json"), "utf8")) as PkgConfig;
  const target = parseTarget(config.pkg.targets[0], options.out);
  const work = join(dirname(options.out), "build");
  mkdirSync(work, { recursive: true });

  const main = join(work, "main.cjs");
  await bundle(options.main, main, options.level);
  const assets: Record<string, string> = Object.fromEntries(
    Object.entries(config.pkg.seaConfig.assets).map(([name, path]) => [name, join(ROOT, path)]),
  );
  for (const [name, entry] of Object.entries(options.workers)) {
    const asset = workerAsset(name);
    assets[asset] = join(work, asset);
    await bundle(entry, assets[asset], options.level);
  }

  const node = baseNode(target, work);
  // pkg's types describe its command line only.
  const required: unknown = createRequire(import.meta.url)("@yao-pkg/pkg/lib-es5/sea.js");
  const { default: sea } = required as { default: SeaStep };
  const baked = join(work, "roost");
  await sea(main, { targets: [{ ...target, output: baked }], nodePath: node, seaConfig: { ...config.pkg.seaConfig, assets } });
  // Copied beside and renamed: a running roost keeps its file, and a failed build leaves the last good one. The copy also matters by
  // itself: pkg writes the file with one huge write, which leaves it in the page cache in pieces so large that every process is
  // charged some 18 MB more resident memory than it touches.
  const fresh = `${options.out}.new`;
  copyFileSync(baked, fresh);
  rmSync(baked);
  chmodSync(fresh, 0o755);
  renameSync(fresh, options.out);
}

/** One CommonJS file without outer modules; `await import()` stays lazy inside it. */
async function bundle(entry: string, out: string, level?: number): Promise<void> {
  const version = (JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string }).version;
  await esbuild({
    entryPoints: [entry],
    outfile: out,
    bundle: true,
    platform: "node",
    target: "node24",
    format: "cjs",
    minify: true,
    // Names in stack traces are worth more than the bytes.
    keepNames: true,
    legalComments: "none",
    define: {
      __ROOST_VERSION__: JSON.stringify(version),
      __ROOST_COMMIT__: JSON.stringify(commit()),
      ...(level === undefined ? {} : { __ROOST_LEVEL__: String(level) }),
    },
    plugins: [embeddedAddon(ROOT, "classic-level.node"), embeddedProtos(ROOT)],
    // Uses of import.meta outside the binary are cut off by the defines above, but esbuild warns before it cuts.
    logOverride: { "empty-import-meta": "silent" },
    logLevel: "warning",
  });
}

function parseTarget(text: string | undefined, output: string): Target {
  const match = /^(node\d+)-(linux)-(x64|arm64)$/.exec(text ?? "");
  const [, , platform, arch] = match ?? [];
  if (platform === undefined || arch === undefined)
    throw new Error(`pkg.config.json: target ${text ?? "(none)"} is not nodeNN-linux-(x64|arm64)`);
  if (arch !== process.arch)
    throw new Error(`target is ${arch}, but the code cache can only be made on the same kind of machine (this is ${process.arch})`);
  return { platform, arch, nodeRange: `node${process.versions.node}`, output };
}

/** The npm package's Node without its symbol tables (a tenth of its size), made once per version. */
function baseNode(target: Target, work: string): string {
  const source = join(ROOT, "node_modules", `node-linux-${target.arch}`, "bin", "node");
  if (!existsSync(source)) throw new Error(`${relative(ROOT, source)} is missing: run \`npm ci\``);
  const stripped = join(work, `node-${process.versions.node}-${target.arch}`);
  if (existsSync(stripped) && statSync(stripped).mtimeMs >= statSync(source).mtimeMs) return stripped;
  const partial = `${stripped}.new`;
  copyFileSync(source, partial);
  try {
    execFileSync("strip", ["--strip-all", partial], { stdio: ["ignore", "ignore", "pipe"] });
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (!missing) throw error;
    process.stderr.write("strip is not installed (package binutils): the binary will be some 15 MB bigger\n");
    rmSync(partial);
    return source;
  }
  renameSync(partial, stripped);
  return stripped;
}

/** Short commit, `-dirty` with changes in tracked files; `unknown` outside a checkout. */
function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync("git", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    return git("rev-parse", "--short=7", "HEAD") + (git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "-dirty");
  } catch {
    // No git or no repository (a source archive): the version alone names it.
    return "unknown";
  }
}

async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { main: { type: "string" }, out: { type: "string" }, level: { type: "string" }, worker: { type: "string", multiple: true } },
  });
  const workers =
    values.main === undefined
      ? Object.fromEntries(Object.entries(WORKERS).map(([name, path]) => [name, join(ROOT, "src", "base", path)]))
      : Object.fromEntries(
          (values.worker ?? []).map((pair) => [pair.slice(0, pair.indexOf("=")), resolve(pair.slice(pair.indexOf("=") + 1))]),
        );
  const out = resolve(values.out ?? join(ROOT, "dist", "roost"));
  const startedMs = performance.now();
  const level = values.level === undefined ? {} : { level: Number(values.level) };
  await buildBinary({ main: resolve(values.main ?? join(ROOT, "src", "main.ts")), out, workers, ...level });
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  process.stdout.write(`${relative(process.cwd(), out)}: ${(statSync(out).size / 1e6).toFixed(1)} MB in ${seconds} s\n`);
}

if (import.meta.main) await main(process.argv.slice(2));
