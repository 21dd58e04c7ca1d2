/** Doctor: asks every node what is there, compares it with the state, and says what is wrong. */
import { asRoostError } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { diagnose, findingKey } from "../../model/doctor.ts";
import type { Finding, Inspection } from "../../model/doctor.ts";
import type { Node } from "../../model/node.ts";
import type { View } from "../../model/view.ts";
import type { InspectNodeResponse__Output } from "../../gen/types/roost/v1/InspectNodeResponse.ts";
import { readState } from "../context.ts";
import type { CallContext } from "../context.ts";

/** Between two looks: what was under way in the first is over in the second, or it is a finding. */
const AGAIN_MS = 1_500;
const LOOKS = 3;
const NODE_LIMIT_MS = 7_000;

interface Look {
  view: View;
  inspections: Inspection[];
  unasked: { node: string; why: string }[];
}

export const doctorService: ServiceMethods<"DoctorService", CallContext> = {
  async Diagnose(_request, context) {
    let look = await lookAtAll(context);
    let findings = diagnose(look.view, look.inspections);
    // Only what stays is wrong: nodes and state are not read at one moment.
    for (let i = 1; i < LOOKS && findings.length > 0; i++) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, AGAIN_MS);
        context.signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
      });
      if (context.signal.aborted) break;
      look = await lookAtAll(context);
      const before = new Set(findings.map(findingKey));
      findings = diagnose(look.view, look.inspections).filter((finding: Finding) => before.has(findingKey(finding)));
    }
    const name = (nodeId: string): string => look.view.nodes.get(nodeId)?.name ?? nodeId;
    return { findings, asked: look.inspections.map(({ nodeId }) => name(nodeId)), unasked: look.unasked, revision: look.view.index };
  },
};

async function lookAtAll(context: CallContext): Promise<Look> {
  const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
  const inspections: Inspection[] = [];
  const unasked: Look["unasked"] = [];
  const nodes = [...view.nodes.values()].filter((node) => node.state !== "removed" && node.state !== "joining");
  await Promise.all(
    nodes.map(async (node) => {
      try {
        inspections.push(await inspect(context, node));
      } catch (thrown) {
        unasked.push({ node: node.name, why: asRoostError(thrown).message });
      }
    }),
  );
  const order = (nodeId: string): number => view.nodes.get(nodeId)?.peerId ?? 0;
  inspections.sort((a, b) => order(a.nodeId) - order(b.nodeId));
  unasked.sort((a, b) => (a.node < b.node ? -1 : 1));
  // What the nodes had when they looked is newer than what was read before.
  return { view: context.store.view(), inspections, unasked };
}

async function inspect(context: CallContext, node: Node): Promise<Inspection> {
  if (node.id === context.nodeId) return await context.hooks.inspect();
  const answer = await context.hooks.inspectOther(node.apiAddress, { timeoutMs: NODE_LIMIT_MS, signal: context.signal });
  return fromMessage(answer);
}

function fromMessage(answer: InspectNodeResponse__Output): Inspection {
  return {
    nodeId: answer.nodeId,
    domains: answer.domains.map(({ vmId, generation, name, state }) => ({ vmId, generation, name, state })),
    hypervisorProblem: answer.hypervisorProblem,
    registrations: answer.registrations.map(({ vmId, generation, phase }) => ({ vmId, generation, phase })),
    keeperProblem: answer.keeperProblem,
    volumes: answer.volumes.map(({ poolId, name, vmId, allocatedBytes }) => ({ poolId, name, vmId, allocatedBytes })),
    missingPools: answer.missingPools.map(({ name, available, problem, totalBytes, freeBytes }) => ({
      poolId: name,
      available,
      problem,
      totalBytes,
      freeBytes,
    })),
    sessions: answer.sessions,
  };
}
