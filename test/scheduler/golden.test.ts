// Golden tables: a cluster, a request, and what the scheduler says, with the arithmetic in each file's head.
// `ROOST_GOLDEN=write node test/scheduler/golden.test.ts` writes the last section anew; read it before you commit it.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { readPlanFiles } from "../../src/offline/planfile-run.ts";
import { plan } from "../../src/scheduler/plan.ts";
import type { Plan } from "../../src/scheduler/types.ts";

const FOLDER = join(import.meta.dirname, "../golden/scheduler");

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".txt"))) {
  t.test(file, async (t) => {
    const path = join(FOLDER, file);
    const [head, cluster, request, expected] = readFileSync(path, "utf8").split(/^--- (?:cluster|request|plan)\n/m) as [
      string,
      string,
      string,
      string,
    ];
    const files = readPlanFiles(cluster, request);
    const said = print(plan(files.view, files.request, files.seed));
    if (process.env["ROOST_GOLDEN"] === "write")
      writeFileSync(path, `${head}--- cluster\n${cluster}--- request\n${request}--- plan\n${said}`);
    else t.equal(said, expected);
    t.matchOnly(plan(files.view, files.request, files.seed), plan(files.view, files.request, files.seed), "the same again");
  });
}

function print(found: Plan): string {
  const lines = found.certificate.decisions.map((decision) => {
    const top = decision.top.map(({ nodeId, score }) => `${nodeId} ${score}`).join(", ");
    const refused = Object.entries(decision.refused).map(([code, nodes]) => ` ${code} ${nodes}`);
    return `${decision.vmId} -> ${decision.nodeId ?? "none"}${top === "" ? "" : `; ${top}`}${refused.length === 0 ? "" : `; refused:${refused.join(",")}`}`;
  });
  for (const { vmId, reasons } of found.rejections) {
    for (const { code, nodes, detail } of reasons) lines.push(`${vmId} stays: ${code} on ${nodes}, ${detail}`);
  }
  const { balanced, compact, search } = found.certificate.placed;
  const ways = [
    `balanced ${balanced}`,
    ...(compact === null ? [] : [`compact ${compact}`]),
    ...(search === null ? [] : [`search ${search}`]),
  ];
  return `${lines.join("\n")}\n${found.method}${found.proven ? ", proven" : ""}: ${ways.join(", ")}\n`;
}
