/** What a failure would do, in words with the numbers. */
import type { Impossible } from "./tolerance.ts";
import type { View } from "./view.ts";

const NAMED_MAX = 3;

/** `if n1 died, 3 VMs (a, b, c) would need 6144 MiB, with 4096 MiB free for them`. */
export function describeImpossible(view: Pick<View, "nodes" | "vms">, impossible: Impossible): string {
  const { kind, vmIds, resource, needed, available, size } = impossible;
  const loss = `if ${describeLoss(view, impossible)} died`;
  const unit = resource === "cpus" ? "vCPUs" : "MiB";
  const who = describeVms(view, vmIds);
  switch (kind) {
    case "node":
      return `${loss}, no node left may run ${who}`;
    case "vm":
      return `${loss}, ${who} would need ${needed} ${unit}, and no node left has more than ${available} free`;
    case "sum":
      return `${loss}, ${who} would need ${needed} ${unit}, with ${available} free for them`;
    case "slots":
      return `${loss}, ${who} would need ${size} ${unit} or more each, with room for ${available} of them`;
    case "search":
      return `${loss}, there would be no way to place ${who}: all were tried`;
  }
}

export function describeLoss(view: Pick<View, "nodes">, { lost, zone }: { lost: readonly string[]; zone: string | null }): string {
  if (zone !== null) return `zone ${zone}`;
  const names = lost.map((id) => view.nodes.get(id)?.name ?? id);
  return names.length < 2 ? (names[0] ?? "nothing") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

function describeVms(view: Pick<View, "vms">, ids: readonly string[]): string {
  const names = ids.slice(0, NAMED_MAX).map((id) => view.vms.get(id)?.definition.name ?? id);
  if (ids.length === 1) return names[0]!;
  return `${ids.length} VMs (${[...names, ...(ids.length > NAMED_MAX ? ["…"] : [])].join(", ")})`;
}
