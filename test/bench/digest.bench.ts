/**
 * How long the main thread is held while 100,000 rows are hashed (`roost cluster verify`) and while they are written as a backup.
 * Turns are counted in CPU time of this thread, so that other work on the machine does not show.
 */
import { systemClock } from "../../src/base/clock.ts";
import { backupOf } from "../../src/cluster/backup.ts";
import { digestOf, freeze } from "../../src/cluster/digest.ts";
import { CommandLog } from "../state/log.ts";

const ROWS = 100_000;

const log = CommandLog.withNodes(3);
log.create("v0");
const vm = log.vm("v0");
for (let i = 0; i < ROWS; i++) {
  const id = crypto.randomUUID();
  log.state.write({ table: "vms", key: id, row: { ...vm, id, definition: { ...vm.definition, name: `vm-${i}` } } });
}

const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};
const turns: number[] = [];
let last = cpuMs();
const tick = (): void => {
  const now = cpuMs();
  turns.push(now - last);
  last = now;
  setImmediate(tick);
};
setImmediate(tick);

function report(what: string, wallMs: number): void {
  const sorted = turns.splice(0).toSorted((a, b) => b - a);
  process.stdout.write(
    `${what}: ${wallMs.toFixed(0)} ms in all, longest turns ${sorted
      .slice(0, 3)
      .map((ms) => ms.toFixed(1))
      .join(", ")} ms\n`,
  );
}

for (let round = 0; round < 3; round++) {
  await new Promise((resolve) => setTimeout(resolve, 50));
  turns.length = 0;
  const startMs = performance.now();
  await digestOf(freeze(log.state), systemClock, new AbortController().signal);
  await new Promise((resolve) => setImmediate(resolve));
  report(`hash of ${ROWS} rows`, performance.now() - startMs);
}
turns.length = 0;
const startMs = performance.now();
let bytes = 0;
for (const piece of backupOf(
  { clusterId: "", name: "", generation: 1, level: 1, index: 1, term: 1, createdAtMs: 0, version: "" },
  freeze(log.state),
)) {
  bytes += piece.length;
  await new Promise((resolve) => setImmediate(resolve));
}
report(`backup of ${(bytes / 1e6).toFixed(0)} MB`, performance.now() - startMs);
process.exit(0);
