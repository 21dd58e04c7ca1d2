/**
 * Commits go on while a checkpoint of a large state is given away: three agents, one of which was away until the log no longer
 * reached back to it. Prints the longest time without a commit before and during its return.
 *   npm run bench -- checkpoint [MB of state, default 200]
 */
import { readFile } from "node:fs/promises";
import { performance } from "node:perf_hooks";
import { waitFor } from "../../scripts/lab/wait.ts";
import { BenchAgents, type Gaps } from "../support/bench-agents.ts";

const MB = Number(process.argv[2] ?? 200);
const ROW_BYTES = 48 * 1024;
const QUIET_MS = 5_000;

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const text = ({ count, p99Ms, longestMs }: Gaps): string =>
  `${count} puts, p99 ${p99Ms.toFixed(1)} ms, longest gap ${longestMs.toFixed(1)} ms`;
const secondsSince = (ms: number): string => `${((performance.now() - ms) / 1_000).toFixed(1)} s`;

const agents = await BenchAgents.create();
try {
  agents.kill("n3");
  const filledMs = performance.now();
  const bench = agents.bench("n1");
  // Base64 in the state: four bytes for three.
  const rows = Math.ceil((MB * 1e6) / ((ROW_BYTES * 4) / 3));
  let next = 0;
  const fill = async (): Promise<void> => {
    while (next < rows) await bench.put(`large-${next++}`, Buffer.alloc(ROW_BYTES, next));
  };
  await Promise.all([fill(), fill(), fill(), fill()]);
  say(`${rows} rows, ${MB} MB of state, in ${secondsSince(filledMs)}`);

  const quietEndMs = performance.now() + QUIET_MS;
  say(`before: ${text(await agents.puts("n1", () => performance.now() > quietEndMs))}`);

  const beganMs = performance.now();
  let back = false;
  agents.start("n3", "up");
  const away = agents.bench("n3");
  const has = async (): Promise<boolean> => await away.has(`large-${rows - 1}`);
  const watching = waitFor("n3 has all", has, 120_000, { everyMs: 100 }).then(() => (back = true));
  const during = await agents.puts("n1", () => back);
  await watching;
  say(`during: ${text(during)}; n3 is back after ${secondsSince(beganMs)}`);
  for (const line of (await agents.logOf("n3")).split("\n")) if (line.includes("checkpoint")) say(line);
  for (const name of ["n1", "n3"]) {
    const status = await readFile(`/proc/${agents.pidOf(name)}/status`, "utf8");
    say(`${name}: ${/VmHWM:.*/.exec(status)?.[0]}, ${/VmRSS:.*/.exec(status)?.[0]}`);
  }
} finally {
  await agents.close();
}
