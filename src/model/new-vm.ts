/** The row of a VM that has just been created: made when the command is applied, and by whoever asks what would become of one. */
import { GENERATIONS_PER_CLUSTER_GENERATION } from "./cluster.ts";
import type { Cluster } from "./cluster.ts";
import type { Vm, VmDefinition } from "./vm.ts";

export interface NewVm {
  id: string;
  number: number;
  definition: VmDefinition;
  hold: boolean;
  /** Only this node will do; null for any. */
  nodeId: string | null;
  power: "on" | "off";
}

/** @param localPools names of its pools that are local to a node: such a VM is not under HA unless its definition says so. */
export function newVm(
  wish: NewVm,
  localPools: readonly string[],
  by: { cluster: Cluster; atMs: number; index: number; actor: string },
): Vm {
  const { id, number, definition, hold, nodeId, power } = wish;
  const state = power === "on" ? "pending" : "stopped";
  return {
    id,
    number,
    definition,
    createdAtMs: by.atMs,
    revision: by.index,
    desired: { power, how: "graceful", deleted: false, hold, nodeId },
    state,
    stateSinceMs: by.atMs,
    reason: hold && power === "on" ? "held: deploy it with `roost vm deploy`" : null,
    pendingReasons: [],
    claim: null,
    generation: by.cluster.generation * GENERATIONS_PER_CLUSTER_GENERATION,
    homeNodeId: null,
    underHa: definition.ha.enabled ?? localPools.length === 0,
    warnings:
      localPools.length > 0 && definition.ha.enabled !== false
        ? [`pool ${localPools.join(", ")} is local to a node: if that node dies the VM cannot be recovered elsewhere`]
        : [],
    failures: 0,
    retryAtMs: 0,
    history: [{ state, atMs: by.atMs, nodeId: null, generation: 0, why: `created by ${by.actor}` }],
    failover: null,
  };
}
