/** roost ha … */
import type { Command } from "commander";
import type { Io } from "../io.ts";
import { printValue } from "../output.ts";
import { failoverRow } from "../rows.ts";
import { withSession } from "../session.ts";
import { timeline } from "../timeline.ts";

export function addHaCommands(program: Command, io: Io): void {
  program
    .command("ha")
    .description("failovers")
    .command("show [vm...]")
    .description("time lines of failovers under way and of each VM's last one")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const answer = await session.client.call("ClusterService", "ListFailovers", { consistency: session.consistency }, session.limits);
        const shown = answer.failovers.filter(
          (failover) => names.length === 0 || names.includes(failover.vmName) || names.includes(failover.vmId),
        );
        if (session.format === "json" || session.format === "yaml") return printValue(io, session.format, shown.map(failoverRow));
        if (shown.length === 0) io.err("no failover so far\n");
        io.out(shown.map((failover) => timeline(io, failover)).join("\n"));
      }),
    );
}
