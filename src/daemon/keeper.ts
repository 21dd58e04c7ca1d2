/** `roost keeper`: the process that owns the deadlines. Started by the agent; loads neither gRPC nor LevelDB. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { parseGuardian } from "../agent/guardian.ts";
import { runKeeper } from "../agent/keeper/main.ts";
import { RoostError } from "../base/errors.ts";
import { createLogger } from "../base/log.ts";

const KILL_LEAD_MS = 500;

export async function keeper(words: readonly string[]): Promise<number> {
  const value = (flag: string): string | null => {
    const at = words.indexOf(flag);
    return at === -1 ? null : (words[at + 1] ?? null);
  };
  const dataDir = value("--data");
  const guardian = parseGuardian(value("--guardian") ?? "none");
  if (dataDir === null || guardian === null) {
    throw new RoostError({
      kind: "invalid",
      violations: [{ field: "keeper", message: "expected --data DIR --guardian file|watchdog[:DEVICE]|none" }],
    });
  }
  const log = createLogger({ level: "info", nowMs: () => Date.now(), write: (line) => process.stderr.write(`${line}\n`) }, "keeper");
  const killLeadMs = Number(value("--kill-lead") ?? KILL_LEAD_MS);
  const claimMs = value("--claim");
  const running = await runKeeper({ dataDir, guardian, killLeadMs, ...(claimMs === null ? {} : { claimMs: Number(claimMs) }) }, { log });
  staySmall();
  await running.done;
  return 0;
}

/**
 * It does little, for months, on every host. Compilers would cost more memory (their own code's pages first of all) than they ever give
 * back in time, and what starting up made the young generation grow to is not needed any more. Measured by `npm run bench -- binary`.
 */
function staySmall(): void {
  for (const flag of ["--no-opt", "--no-maglev", "--no-sparkplug", "--semi-space-growth-factor=1", "--expose-gc"]) setFlagsFromString(flag);
  const collect = runInNewContext("gc") as (options: object) => void;
  // This one gives the memory back, too.
  collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
