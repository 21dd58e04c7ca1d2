/** docs/lifecycle.md as text, drawn from the one table in src/model/lifecycle.ts (VM-7). */
import { legalActions, TRANSITIONS } from "../../src/model/lifecycle.ts";
import type { VmState } from "../../src/model/vm.ts";

const MEANINGS: Record<VmState, string> = {
  pending: "waits for a node; `roost vm show` says why",
  prolog: "its disks are being prepared on its node",
  boot: "starts on its node",
  running: "runs",
  paused: "kept in memory, its CPUs stopped",
  suspended: "saved to disk",
  shutdown: "is shutting down",
  epilog: "what was made for it is being deleted",
  stopped: "does not run, and is not meant to",
  migrating: "moves to another node while it runs",
  recovering: "its node is gone for certain; waits for another",
  failed: "given up after repeated failures; `start` tries again",
  unknown: "its node cannot be reached; it may run there still",
  deleted: "gone; only its history is left",
};

const STATES = Object.keys(TRANSITIONS) as VmState[];

export function lifecyclePage(): string {
  const rows = STATES.map((state) => `| \`${state}\` | ${MEANINGS[state]} | ${list(TRANSITIONS[state])} | ${list(legalActions(state))} |`);
  return `<!-- Made by scripts/docs.ts from src/model/lifecycle.ts; change that and run it. -->

# The life cycle of a VM

A VM is in one of these states. The cluster refuses any move that is not in this table, and any action that is not legal in
the state it finds; the refusal names those that are.

| state | means | may move to | what a user can ask |
|---|---|---|---|
${rows.join("\n")}

\`\`\`mermaid
${diagram().join("\n")}
\`\`\`

The box holds the states in which a node has a claim on the VM. A move drawn from the box can be made from each state in it.
`;
}

function list(words: readonly string[]): string {
  return words.length === 0 ? "–" : words.map((word) => `\`${word}\``).join(", ");
}

/** States that can lose their node share many moves: they are boxed, and what all of them share is drawn once. */
function diagram(): string[] {
  const boxed = STATES.filter((state) => TRANSITIONS[state].includes("recovering"));
  const shared = STATES.filter((to) => boxed.every((from) => TRANSITIONS[from].includes(to)));
  const lines = ["stateDiagram-v2", "  [*] --> pending", '  state "claimed by a node" as claimed {'];
  for (const from of boxed) lines.push(`    ${from}`);
  const own = boxed.flatMap((from) => TRANSITIONS[from].filter((to) => !shared.includes(to)).map((to) => ({ from, to })));
  for (const { from, to } of own.filter((move) => boxed.includes(move.to))) lines.push(`    ${from} --> ${to}`);
  lines.push("  }");
  for (const to of shared) lines.push(`  claimed --> ${to}`);
  for (const { from, to } of own.filter((move) => !boxed.includes(move.to))) lines.push(`  ${from} --> ${to}`);
  for (const from of STATES.filter((state) => !boxed.includes(state))) {
    for (const to of TRANSITIONS[from]) lines.push(`  ${from} --> ${to}`);
    if (TRANSITIONS[from].length === 0) lines.push(`  ${from} --> [*]`);
  }
  return lines;
}
