/**
 * Benchmarks: `npm run bench -- NAME [ARGUMENTS]` runs test/bench/NAME.bench.ts, without NAME it lists them.
 * Each is a program that prints its numbers and what they were taken on; none asserts a time.
 */
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { basename, join } from "node:path";

const FOLDER = join(import.meta.dirname, "..", "test", "bench");

function main(name: string | undefined, args: string[]): number {
  const names = globSync("*.bench.ts", { cwd: FOLDER })
    .map((file) => basename(file, ".bench.ts"))
    .toSorted();
  if (name === undefined || !names.includes(name)) {
    const text = names.map((known) => `  ${known.padEnd(12)} ${firstComment(join(FOLDER, `${known}.bench.ts`))}\n`).join("");
    process.stderr.write(`${name === undefined ? "" : `no benchmark is named ${name}\n`}npm run bench -- NAME\n${text}`);
    return name === undefined ? 0 : 2;
  }
  const file = join(FOLDER, `${name}.bench.ts`);
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown CPU"}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}, node ${process.version}`;
  process.stdout.write(`# ${name} on ${machine}\n`);
  const { status, error } = spawnSync(process.execPath, [file, ...args], { stdio: "inherit" });
  if (error !== undefined) throw error;
  return status ?? 1;
}

/** The first line of a file's opening comment, for the list. */
function firstComment(file: string): string {
  return existsSync(file) ? (/\/\*\*\s*\*?\s*(.+?)\s*(?:\*\/|\n)/.exec(readFileSync(file, "utf8"))?.[1] ?? "") : "";
}

process.exitCode = main(process.argv[2], process.argv.slice(3));
