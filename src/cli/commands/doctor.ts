/** roost doctor: every node is asked what is there, and what should not be, or is missing, is said with what to do. */
import type { Command } from "commander";
import type { Finding__Output } from "../../gen/types/roost/v1/Finding.ts";
import { EXIT, Exit } from "../exit.ts";
import { paint } from "../io.ts";
import type { Io } from "../io.ts";
import { printValue } from "../output.ts";
import { withSession } from "../session.ts";

/** Looking at every node twice takes longer than other calls. */
const DOCTOR_MS = 30_000;

export function addDoctorCommand(program: Command, io: Io): void {
  program
    .command("doctor")
    .description(
      "look for what should not be: orphan domains and volumes, undos that fail, jobs that nobody answers; ends with 1 if it finds any",
    )
    .action((_options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const answer = await session.client.call("DoctorService", "Diagnose", {}, { ...session.limits, timeoutMs: DOCTOR_MS });
        const { findings, asked, unasked } = answer;
        if (session.format === "json" || session.format === "yaml") {
          await printValue(io, session.format, {
            findings: findings.map((finding) => ({ ...finding })),
            asked,
            unasked: unasked.map((node) => ({ ...node })),
            revision: answer.revision,
          });
        } else {
          for (const finding of findings) io.out(findingText(io, finding));
          for (const { node, why } of unasked) io.err(`${paint(io, "yellow", "not asked:", "err")} ${node}: ${why}\n`);
          const count = findings.length === 0 ? "nothing found" : `${findings.length} found`;
          io.out(`${count} on ${asked.length === 0 ? "no node" : asked.join(", ")}\n`);
        }
        if (findings.length > 0 || unasked.length > 0) throw new Exit(EXIT.failed);
      }),
    );
}

function findingText(io: Io, finding: Finding__Output): string {
  const mark = finding.severity === "error" ? paint(io, "red", "✗") : paint(io, "yellow", "!");
  return `${mark} ${finding.where}: ${finding.subject}: ${finding.what}\n  ${finding.code}; ${finding.do}\n`;
}
