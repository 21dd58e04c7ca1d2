/** `roost keeper`: the process that owns the deadlines. Started by the agent; loads neither gRPC nor LevelDB. */
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
  await running.done;
  return 0;
}
