/** Pages drawn from code say what the code says. */
import { readFile } from "node:fs/promises";
import t from "tap";
import { lifecyclePage } from "../../scripts/docs/lifecycle.ts";
import { TRANSITIONS } from "../../src/model/lifecycle.ts";

const page = await readFile(new URL("../../docs/lifecycle.md", import.meta.url), "utf8");
t.equal(page, lifecyclePage(), "docs/lifecycle.md is up to date; if not: node scripts/docs.ts");

// The diagram shares what it can; drawn out again it must be the table.
const boxed = new Set<string>();
const moves = new Set<string>();
for (const line of page.slice(page.indexOf("stateDiagram")).split("\n")) {
  const move = /^ +(\S+) --> (\S+)$/.exec(line);
  if (move === null) {
    const member = /^ {4}(\w+)$/.exec(line)?.[1];
    if (member !== undefined) boxed.add(member);
    continue;
  }
  const [, from = "", to = ""] = move;
  if (from === "[*]" || to === "[*]") continue;
  for (const state of from === "claimed" ? boxed : [from]) moves.add(`${state} → ${to}`);
}
const table = Object.entries(TRANSITIONS).flatMap(([from, all]) => all.map((to) => `${from} → ${to}`));
t.same([...moves].sort(), table.sort(), "the diagram has every move of the table and no other");
