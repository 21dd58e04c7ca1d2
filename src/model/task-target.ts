/** Where a job goes, and under what: the same answer for who sends it and for who checks the sending. */
import { connectionOf, isFree, slotOf, type Slot } from "./limits.ts";
import { isEnd } from "./task-flow.ts";
import { JOBS } from "./task-definitions.ts";
import type { Job, Task } from "./task.ts";
import type { Cluster } from "./cluster.ts";
import { isAnswering, type Node } from "./node.ts";
import type { Vm } from "./vm.ts";

export interface Target {
  nodeId: string;
  generation: number;
}

/** The node of the VM's claim; without one its home, which has what is to be deleted. null: nowhere now. */
export function targetOf(vm: Vm, task: Task, job: Job): Target | null {
  if (vm.claim !== null) return { nodeId: vm.claim.nodeId, generation: vm.claim.generation };
  if (vm.homeNodeId !== null && isEnd(task) && job.name === "unconfigure") return { nodeId: vm.homeNodeId, generation: vm.generation };
  // What is done for a VM that is off: its entries on a device, its backup.
  if (vm.homeNodeId !== null && JOBS[job.name].pool !== "compute") return { nodeId: vm.homeNodeId, generation: vm.generation };
  return null;
}

/** What stands against sending a job to that node, in words, or the slot that it would hold. */
export function admit(
  cluster: Cluster | null,
  task: Task,
  job: Job,
  node: Node,
  used: (key: string) => number,
): { ok: true; slot: Slot | null } | { ok: false; why: string; slot: Slot | null } {
  // Sending to a node that does not answer would only hold a slot.
  if (!isAnswering(node)) return { ok: false, why: `node ${node.name} is ${node.state}`, slot: null };
  const connection = connectionOf(task, job, node);
  if (connection === null)
    return { ok: false, why: `node ${node.name} has no ${JOBS[job.name].pool} ${task.connection ?? ""}`, slot: null };
  const slot = slotOf(cluster, task, job, connection);
  if (isFree(slot, used)) return { ok: true, slot };
  return { ok: false, why: `all ${slot?.size ?? 0} slots of ${slot?.key ?? ""} are taken`, slot };
}
