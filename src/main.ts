/** The binary's entry: each kind of command loads only what it needs, so the CLI starts quickly and the keeper stays small. */
import type { Handlers } from "./cli/handlers.ts";

const handlers: Handlers = {
  up: async (options) => (await import("./daemon/up.ts")).up(options),
  join: async (token, options) => (await import("./daemon/up.ts")).joinWith(token, options),
  daemon: async (options) => (await import("./daemon/up.ts")).daemon(options),
  keeper: async (words) => (await import("./daemon/keeper.ts")).keeper(words),
  recover: async (options) => (await import("./offline/recover.ts")).recover(options),
  rejoin: async (options) => (await import("./offline/rejoin.ts")).rejoin(options),
  restore: async ({ flags, ...options }) => {
    const { resolveConfig } = await import("./base/config.ts");
    const config = resolveConfig({ env: process.env, flags }).values;
    return (await import("./offline/restore.ts")).restore({ ...options, config });
  },
  schedulerPlan: async (files) => (await import("./offline/scheduler.ts")).schedulerPlan(files),
  schedulerExplain: async (files, question) => (await import("./offline/scheduler.ts")).schedulerExplain(files, question),
  schedulerReplay: async (files, options) => (await import("./offline/scheduler.ts")).schedulerReplay(files, options),
  schedulerRebalance: async (cluster, options) => (await import("./offline/scheduler.ts")).schedulerRebalance(cluster, options),
  schedulerWhatIf: async (cluster, script) => (await import("./offline/scheduler.ts")).schedulerWhatIf(cluster, script),
};

async function main(words: string[]): Promise<void> {
  // The keeper is told apart before anything else is loaded: it must not carry the CLI's weight.
  if (words[0] === "keeper") process.exitCode = await handlers.keeper(words.slice(1));
  else process.exitCode = await (await import("./cli/main.ts")).runCli(words, handlers);
}

main(process.argv.slice(2)).catch((thrown: unknown) => {
  process.stderr.write(`roost: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}\n`);
  process.exitCode = 70;
});
