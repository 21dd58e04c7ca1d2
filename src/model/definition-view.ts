/** What a definition asks for against what the cluster has: faults that no waiting can heal are said at create. */
import type { Violation } from "../base/errors.ts";
import { didYouMean } from "../base/suggest.ts";
import { fits, limitsOf } from "./capacity.ts";
import { splitReference } from "./definition.ts";
import { namesIn, printFault, splitOpen } from "./expression/check.ts";
import type { Node } from "./node.ts";
import { settingsOf } from "./placement.ts";
import type { View } from "./view.ts";
import type { VmDefinition } from "./vm.ts";

/**
 * Faults of one definition against the view: unknown pools, and more than any node could ever hold, used or not.
 * `onlyNode` is the node asked for by name, if one was.
 */
export function faultsInView(definition: VmDefinition, view: View, onlyNode: Node | null): Violation[] {
  const faults = [...unknownPools(definition, view), ...unknownProbes(definition, view)];
  const candidates = onlyNode === null ? [...view.nodes.values()].filter(couldReturn) : [onlyNode];
  const known = candidates.filter((node) => node.info !== null);
  // With a node that has not said yet what it has, nobody can say "never".
  if (known.length === 0 || known.length < candidates.length) return faults;
  faults.push(...tooMuch(definition, known, view), ...wrongArch(definition, known));
  return faults;
}

function couldReturn(node: Node): boolean {
  return node.state !== "removed";
}

function unknownPools(definition: VmDefinition, view: View): Violation[] {
  const names = [...view.poolIdByName.keys()].toSorted();
  const faults: Violation[] = [];
  const need = (field: string, pool: string | undefined): void => {
    if (pool === undefined || view.poolIdByName.has(pool)) return;
    const known = names.length === 0 ? "there is none yet: roost pool create" : `known: ${names.slice(0, 20).join(", ")}`;
    faults.push({ field, message: `no pool is named ${JSON.stringify(pool)}${didYouMean(pool, names)}; ${known}` });
  };
  if (definition.boot !== null) {
    need("boot.kernel", splitReference(definition.boot.kernel)?.pool);
    if (definition.boot.initrd !== null) need("boot.initrd", splitReference(definition.boot.initrd)?.pool);
  }
  definition.disks.forEach((disk, i) => {
    need(`disks[${i}].pool`, disk.pool);
    const pool = disk.source === null ? undefined : splitReference(disk.source)?.pool;
    if (pool !== disk.pool) need(`disks[${i}].source`, pool);
  });
  return faults;
}

/** A misspelt value would keep the VM pending for ever. Nodes that are away still have theirs. */
function unknownProbes(definition: VmDefinition, view: View): Violation[] {
  const faults: Violation[] = [];
  // Looked up only where somebody asks for a probe: most definitions ask for none, and a batch has hundreds.
  let known: Set<string> | null = null;
  for (const field of ["requirements", "rank"] as const) {
    const text = definition[field] ?? "";
    if (text === "") continue;
    for (const { name, at } of namesIn(text)) {
      const open = splitOpen(name);
      if (open?.of !== "probe") continue;
      known ??= new Set([...view.nodes.values()].flatMap((node) => Object.keys(node.info?.values ?? {})));
      if (known.has(open.key)) continue;
      const names = [...known].toSorted();
      const there = names.length === 0 ? "no node has a probe that prints anything" : `there are ${names.slice(0, 20).join(", ")}`;
      faults.push({
        field,
        message: printFault(text, { at, message: `no node's probes print ${open.key}${didYouMean(open.key, names)}; ${there}` }),
      });
    }
  }
  return faults;
}

function tooMuch(definition: VmDefinition, nodes: Node[], view: View): Violation[] {
  const settings = settingsOf(view);
  const limits = nodes.map((node) => ({ node, ...limitsOf(node, settings) }));
  const faults: Violation[] = [];
  const most = limits.reduce((a, b) => (b.memoryMib > a.memoryMib ? b : a));
  if (!limits.some((limit) => fits(0, definition.memoryMib, limit.memoryMib))) {
    const where = nodes.length === 1 ? `node ${most.node.name} has` : `the largest node, ${most.node.name}, has`;
    const info = most.node.info;
    const detail =
      info === null
        ? ""
        : ` (${info.memoryMib} MiB − ${info.reserveMib} MiB reserve, × scheduler.memoryRatio ${settings["scheduler.memoryRatio"]})`;
    faults.push({ field: "memory", message: `${definition.memoryMib} MiB can never fit: ${where} ${most.memoryMib} MiB for VMs${detail}` });
  }
  if (!limits.some((limit) => fits(0, definition.cpus, limit.cpus))) {
    const widest = limits.reduce((a, b) => (b.cpus > a.cpus ? b : a));
    const where = nodes.length === 1 ? `node ${widest.node.name} has` : `the largest node, ${widest.node.name}, has`;
    faults.push({
      field: "cpus",
      message: `${definition.cpus} vCPUs can never fit: ${where} ${widest.cpus} (scheduler.cpuRatio ${settings["scheduler.cpuRatio"]})`,
    });
  }
  return faults;
}

function wrongArch(definition: VmDefinition, nodes: Node[]): Violation[] {
  const archs = [...new Set(nodes.map((node) => node.info?.arch ?? ""))].toSorted();
  if (archs.includes(definition.arch)) return [];
  return [{ field: "arch", message: `no node is ${definition.arch}; there are ${archs.join(", ")}` }];
}
