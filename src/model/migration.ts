/**
 * Can this VM move to that node while it runs? What stands in its way is found before anything begins, and named (HA-15): what a
 * placement needs is asked of the same chain as ever, and here what only a running guest needs.
 */
import type { Node } from "./node.ts";
import { localPool } from "./placement.ts";
import type { View } from "./view.ts";
import type { Vm } from "./vm.ts";

export interface Blocker {
  /** Beyond the codes of a placement. */
  code: "not-running" | "under-way" | "local-disks" | "driver" | "acceleration" | "host-cpu";
  /** For people, with names: `its disks in pool local are on n1 alone`. */
  detail: string;
}

/** Why the VM cannot leave its node while it runs, wherever to; null if it can. */
export function emigrationBlocker(view: View, vm: Vm): Blocker | null {
  const { name } = vm.definition;
  if (vm.migration !== undefined) {
    const to = view.nodes.get(vm.migration.claim.nodeId)?.name ?? vm.migration.claim.nodeId;
    const detail = vm.migration.phase === "incoming" ? `migrates to ${to} already` : `what had arrived on ${to} is not gone yet`;
    return { code: "under-way", detail: `vm ${name} ${detail}` };
  }
  if (vm.claim === null || vm.state !== "running" || vm.desired.power !== "on" || vm.desired.deleted)
    return { code: "not-running", detail: `vm ${name} is ${vm.state}: only a running VM migrates live` };
  const local = localPool(view, vm.definition);
  if (local !== null) return { code: "local-disks", detail: `vm ${name} has disks in pool ${local}, which is local to its node` };
  const source = view.nodes.get(vm.claim.nodeId);
  return source === undefined ? null : withoutMigrate(source);
}

/** What the running guest needs of `target` beyond a place. */
export function guestBlocker(view: View, vm: Vm, target: Node): Blocker | null {
  const source = view.nodes.get(vm.claim?.nodeId ?? "");
  const without = withoutMigrate(target);
  if (without !== null) return without;
  const [from, to] = [source?.info ?? null, target.info];
  if (from === null || to === null || source === undefined) return null;
  if (from.driver !== to.driver)
    return { code: "driver", detail: `${target.name} runs VMs by ${to.driver}, ${source.name} by ${from.driver}` };
  if (from.hardwareAccelerated !== to.hardwareAccelerated) {
    const how = (accelerated: boolean): string => (accelerated ? "runs guests on the processor" : "emulates them");
    return {
      code: "acceleration",
      detail: `${target.name} ${how(to.hardwareAccelerated)}, ${source.name} ${how(from.hardwareAccelerated)}`,
    };
  }
  if (vm.definition.cpu?.model === "host" && from.cpuModel !== to.cpuModel) {
    const detail = `vm ${vm.definition.name} sees ${source.name}'s own CPU (${from.cpuModel}), ${target.name} has ${to.cpuModel}`;
    return { code: "host-cpu", detail };
  }
  return null;
}

function withoutMigrate(node: Node): Blocker | null {
  if (node.info === null) return { code: "driver", detail: `${node.name} has not reported what it has yet` };
  if (node.info.actions?.includes("migrate") === true) return null;
  return { code: "driver", detail: `${node.name}'s driver (${node.info.driver}) cannot migrate running VMs` };
}
