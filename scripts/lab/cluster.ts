/** Makes a roost cluster of the lab's nodes. Kept thin: what roost's commands look like is all here and in agent.ts. */
import { writeFile } from "node:fs/promises";
import { roostCommand } from "./agent.ts";
import type { Lab } from "./lab.ts";
import type { LabNode } from "./node.ts";
import type { Progress } from "./places.ts";
import { waitFor } from "./wait.ts";

/** Long enough for a busy machine with two cores. */
const AGENT_START_MS = 60_000;

/** Runs `roost WORDS` inside a node against that node's own agent; throws with its words on failure. */
export async function roostOn(node: LabNode, words: readonly string[], timeoutMs = 20_000): Promise<string> {
  return await node.must([...roostCommand(), ...words], { timeoutMs });
}

/** Founds the cluster on the first node, lets the others join, and writes the CLI's context file. */
export async function formCluster(lab: Lab, progress: Progress = () => {}): Promise<void> {
  const [first, ...others] = lab.nodes;
  if (first === undefined) throw new Error("a lab without nodes");
  await first.startAgent({ kind: "found" });
  await answering(first);
  await first.agentHasJoined();
  progress(`cluster: founded on ${first.name}`);
  // All at once: each takes some seconds of its own, mostly to find out about its hypervisor.
  await Promise.all(
    others.map(async (node) => {
      const token = (await roostOn(first, ["token", "create"])).trim().split("\n").at(-1) ?? "";
      await node.startAgent({ kind: "join", token });
      await answering(node);
      await node.agentHasJoined();
      progress(`cluster: ${node.name} has joined`);
    }),
  );
  const context = await roostOn(first, ["context", "issue"]);
  await writeFile(lab.contextPath, context, { mode: 0o600 });
}

/** Until the node's agent answers, and the cluster calls the node ready. */
export async function answering(node: LabNode): Promise<void> {
  await waitFor(
    `an answer of the agent on ${node.name} (its log: ${node.agentLogPath})`,
    async (saw) => {
      if (node.processes("agent").length === 0) {
        saw(`no agent runs; ${(await node.exec(["tail", "-n", "5", node.agentLogPath])).stdout}`);
        return false;
      }
      const answer = await node.exec([...roostCommand(), "node", "list", "-o", "json"], { timeoutMs: 10_000 });
      saw(answer.stderr || answer.stdout);
      if (answer.code !== 0) return false;
      const rows = JSON.parse(answer.stdout) as { name: string; state: string }[];
      return rows.some((row) => row.name === node.name && row.state === "ready");
    },
    AGENT_START_MS,
    { everyMs: 200 },
  );
}

/** The line that makes a shell's `roost` talk to this lab's cluster. */
export function environmentLine(lab: Lab): string {
  return `export ROOST_CONTEXT=${lab.contextPath}`;
}
