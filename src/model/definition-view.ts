/** What a definition asks for against what the cluster has: faults that no waiting can heal are said at create. */
import type { Violation } from "../base/errors.ts";
import { didYouMean } from "../base/suggest.ts";
import { fits, limitsOf } from "./capacity.ts";
import { splitReference } from "./definition.ts";
import { namesIn, printFault, splitOpen } from "./expression/check.ts";
import type { Node } from "./node.ts";
import { settingsOf } from "./placement.ts";
import type { Settings } from "./settings.ts";
import type { View } from "./view.ts";
import type { VmDefinition } from "./vm.ts";

/**
 * The faults of definitions against the view: unknown pools, and more than any node could ever hold, used or not.
 * `onlyNode` is the node asked for by name, if one was. The nodes are looked at once, for all definitions of a batch.
 */
export function faultsInView(view: View, onlyNode: Node | null): (definition: VmDefinition) => Violation[] {
  const offer = offerOf(view, onlyNode);
  return (definition) => [
    ...unknownPools(definition, view),
    ...unknownProbes(definition, view),
    ...(offer === null ? [] : [...tooMuch(definition, offer), ...wrongArch(definition, offer)]),
  ];
}

/** The most that nodes could give one VM. */
interface Offer {
  nodes: number;
  settings: Settings;
  largest: { node: Node; memoryMib: number };
  widest: { node: Node; cpus: number };
  /** Sorted. */
  archs: string[];
}

/** null where nobody can say "never": no node, or one that has not said yet what it has. */
function offerOf(view: View, onlyNode: Node | null): Offer | null {
  const nodes = onlyNode === null ? [...view.nodes.values()].filter(couldReturn) : [onlyNode];
  if (nodes.length === 0 || nodes.some((node) => node.info === null)) return null;
  const settings = settingsOf(view);
  const limits = nodes.map((node) => ({ node, ...limitsOf(node, settings) }));
  return {
    nodes: nodes.length,
    settings,
    largest: limits.reduce((a, b) => (b.memoryMib > a.memoryMib ? b : a)),
    widest: limits.reduce((a, b) => (b.cpus > a.cpus ? b : a)),
    archs: [...new Set(nodes.map((node) => node.info?.arch ?? ""))].toSorted(),
  };
}

function couldReturn(node: Node): boolean {
  return node.state !== "removed";
}

function unknownPools(definition: VmDefinition, view: View): Violation[] {
  const faults: Violation[] = [];
  const need = (field: string, pool: string | undefined): void => {
    if (pool === undefined || view.poolIdByName.has(pool)) return;
    const names = [...view.poolIdByName.keys()].toSorted();
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

function tooMuch({ memoryMib, cpus }: VmDefinition, { nodes, settings, largest, widest }: Offer): Violation[] {
  const faults: Violation[] = [];
  const where = (node: Node): string => (nodes === 1 ? `node ${node.name} has` : `the largest node, ${node.name}, has`);
  if (!fits(0, memoryMib, largest.memoryMib)) {
    const { info } = largest.node;
    const detail =
      info === null
        ? ""
        : ` (${info.memoryMib} MiB − ${info.reserveMib} MiB reserve, × scheduler.memoryRatio ${settings["scheduler.memoryRatio"]})`;
    const message = `${memoryMib} MiB can never fit: ${where(largest.node)} ${largest.memoryMib} MiB for VMs${detail}`;
    faults.push({ field: "memory", message });
  }
  if (!fits(0, cpus, widest.cpus)) {
    const message = `${cpus} vCPUs can never fit: ${where(widest.node)} ${widest.cpus} (scheduler.cpuRatio ${settings["scheduler.cpuRatio"]})`;
    faults.push({ field: "cpus", message });
  }
  return faults;
}

function wrongArch({ arch }: VmDefinition, { archs }: Offer): Violation[] {
  return archs.includes(arch) ? [] : [{ field: "arch", message: `no node is ${arch}; there are ${archs.join(", ")}` }];
}
