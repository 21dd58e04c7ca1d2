/** A plan as it is kept, to be explained and made again (SCH-17). Pure. */
import type { Certificate, CompactDecision } from "../model/certificate.ts";
import { hash32 } from "../model/hash.ts";
import type { Plan, PlanRequest } from "./types.ts";

export function certificateOf(plan: Plan, request: PlanRequest): Certificate {
  const { certificate } = plan;
  const nodes: string[] = [];
  const numberOfNode = new Map<string, number>();
  const node = (id: string): number => {
    let number = numberOfNode.get(id);
    if (number === undefined) {
      number = nodes.push(id) - 1;
      numberOfNode.set(id, number);
    }
    return number;
  };
  const numberOfVm = new Map(request.vms.map((id, k) => [id, k]));
  const decisions = certificate.decisions.map(({ vmId, nodeId, score, refused, top }): CompactDecision => [
    numberOfVm.get(vmId) ?? -1,
    nodeId === null ? -1 : node(nodeId),
    score === null ? null : short(score),
    refused,
    top.map((one) => [node(one.nodeId), short(one.score)] as const),
  ]);
  return {
    viewIndex: certificate.viewIndex,
    seed: certificate.seed,
    kind: request.kind,
    mode: request.mode,
    scoring: request.scoring,
    vms: [...request.vms],
    inFlight: [...(request.inFlight ?? [])].map(([nodeId, { memoryMib, cpus, pinned }]) =>
      (pinned ?? []).length === 0 ? ([nodeId, memoryMib, cpus] as const) : ([nodeId, memoryMib, cpus, pinned] as const),
    ),
    ...(request.reserve === undefined || request.reserve.length === 0
      ? {}
      : { reserve: request.reserve.map(({ vms, nodes: at, why }) => [vms.map((id) => numberOfVm.get(id) ?? -1), at, why] as const) }),
    method: plan.method,
    proven: plan.proven,
    placed: certificate.placed,
    searchSteps: certificate.searchSteps,
    nodes,
    decisions,
    digest: digestOf(plan),
  };
}

/** Sixteen hex digits over everything that the plan answers, scores in full. */
function digestOf({ placements, rejections, method, proven, certificate }: Plan): string {
  const text = JSON.stringify([placements, rejections, method, proven, certificate.decisions]);
  return `${hex(hash32(text))}${hex(hash32(`${text.length}/${text}`))}`;
}

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function short(score: number): number {
  return Number(score.toPrecision(6));
}
