/** Instances with fixed seeds whose optimum is known because they are made by cutting up full nodes, and a verifier of its own. */
import type { Random } from "../../../src/base/random.ts";
import { seededRandom } from "../../../src/base/random.ts";
import { testNode, testView, testVm } from "../../support/world.ts";
import type { View } from "../../../src/model/view.ts";

export interface Size {
  cpus: number;
  memoryMib: number;
}

export interface Instance {
  name: string;
  nodes: Size[];
  vms: Size[];
  /** vCPUs count only where this is set. */
  cpuRatio: number;
}

export const FLAVOURS: readonly Size[] = [
  { cpus: 1, memoryMib: 1024 },
  { cpus: 1, memoryMib: 2048 },
  { cpus: 2, memoryMib: 4096 },
  { cpus: 2, memoryMib: 8192 },
  { cpus: 4, memoryMib: 8192 },
  { cpus: 4, memoryMib: 16384 },
  { cpus: 8, memoryMib: 16384 },
  { cpus: 8, memoryMib: 32768 },
];

/** Every node filled to the last MiB and vCPU: `perNode` VMs each, by cutting both at random. Optimum: all. */
export function plantedPerfect(seed: number, nodes: number, perNode: number, slack = 0): Instance {
  const random = seededRandom(seed);
  const node = { cpus: 64, memoryMib: 262_144 };
  const vms = Array.from({ length: nodes }, () => {
    const memory = cut(random, Math.floor(node.memoryMib * (1 - slack)), perNode);
    const cpus = cut(random, Math.floor(node.cpus * (1 - slack)), perNode);
    return memory.map((memoryMib, k): Size => ({ memoryMib, cpus: cpus[k]! }));
  }).flat();
  return {
    name: `planted 2-D${slack > 0 ? `, ${slack * 100} % slack` : ""}`,
    nodes: Array.from({ length: nodes }, () => node),
    vms: shuffle(random, vms),
    cpuRatio: 1,
  };
}

/** The same with memory alone. */
export function plantedMemory(seed: number, nodes: number, perNode: number): Instance {
  return { ...plantedPerfect(seed, nodes, perNode), name: "planted memory only", cpuRatio: 0 };
}

/** Nodes filled with flavours until both are used up exactly: 64 vCPUs of 4 GiB each. */
export function plantedFlavours(seed: number, nodes: number): Instance {
  const random = seededRandom(seed);
  const vms: Size[] = [];
  for (let n = 0; n < nodes; n++) {
    let left = { cpus: 64, memoryMib: 262_144 };
    // Flavours of 2 GiB and 1 GiB a vCPU must be balanced by others, so fill by trial; what is left at the end is one last VM.
    for (let tries = 0; tries < 200 && left.cpus > 4; tries++) {
      const flavour = FLAVOURS[random.below(FLAVOURS.length)]!;
      const after = { cpus: left.cpus - flavour.cpus, memoryMib: left.memoryMib - flavour.memoryMib };
      if (after.cpus < 1 || after.memoryMib < after.cpus * 1024) continue;
      left = after;
      vms.push(flavour);
    }
    vms.push({ cpus: left.cpus, memoryMib: left.memoryMib });
  }
  return {
    name: "planted flavours",
    nodes: Array.from({ length: nodes }, () => ({ cpus: 64, memoryMib: 262_144 })),
    vms: shuffle(random, vms),
    cpuRatio: 1,
  };
}

/** Nodes of uneven size, as what is left of a cluster in use; each left-over is cut up exactly. */
export function fragmented(seed: number, nodes: number, vms: number): Instance {
  const random = seededRandom(seed);
  const rooms = Array.from({ length: nodes }, (): Size => ({ cpus: 8 + random.below(56), memoryMib: 16_384 + 1024 * random.below(240) }));
  const total = rooms.reduce((sum, room) => sum + room.memoryMib, 0);
  const sizes = rooms.flatMap((room) => {
    const count = Math.min(room.cpus, Math.max(1, Math.round((vms * room.memoryMib) / total)));
    const memory = cut(random, room.memoryMib, count);
    const cpus = cut(random, room.cpus, count);
    return memory.map((memoryMib, k): Size => ({ memoryMib, cpus: cpus[k]! }));
  });
  return { name: "fragmented", nodes: rooms, vms: shuffle(random, sizes), cpuRatio: 1 };
}

/** The instance as an empty cluster with pending VMs `v0`, `v1`, … */
export function viewOf(instance: Instance): View {
  return testView(
    instance.nodes.map((node, i) => testNode(`n${i}`, node)),
    instance.vms.map((vm, i) => testVm(`v${i}`, vm, { number: i + 1 })),
    [],
    { "scheduler.cpuRatio": instance.cpuRatio },
  );
}

/** Sums placements by hand; throws if a node is overbooked or a VM placed twice. Parts of the optimum, which is all. */
export function verify(
  instance: Instance,
  placements: readonly { vmId: string; nodeId: string }[],
): { placed: number; memory: number; nodesUsed: number } {
  const left = instance.nodes.map((node) => ({ ...node }));
  const seen = new Set<string>();
  const used = new Set<string>();
  let memory = 0;
  for (const { vmId, nodeId } of placements) {
    const vm = instance.vms[Number(vmId.slice(1))];
    const room = left[Number(nodeId.slice(1))];
    if (vm === undefined || room === undefined || seen.has(vmId)) throw new Error(`${vmId} on ${nodeId} is no placement`);
    seen.add(vmId);
    used.add(nodeId);
    room.memoryMib -= vm.memoryMib;
    room.cpus -= vm.cpus;
    if (room.memoryMib < 0 || (instance.cpuRatio > 0 && room.cpus < 0)) throw new Error(`${nodeId} is overbooked by ${vmId}`);
    memory += vm.memoryMib;
  }
  const all = instance.vms.reduce((sum, vm) => sum + vm.memoryMib, 0);
  return { placed: seen.size / instance.vms.length, memory: memory / all, nodesUsed: used.size };
}

/** `total` in `parts` whole pieces of at least 1, at random. */
function cut(random: Random, total: number, parts: number): number[] {
  const weights = Array.from({ length: parts }, () => 0.3 + random.unit());
  const sum = weights.reduce((a, b) => a + b, 0);
  const pieces = weights.map((weight) => Math.max(1, Math.floor((weight / sum) * total)));
  let rest = total - pieces.reduce((a, b) => a + b, 0);
  while (rest !== 0) {
    const k = random.below(parts);
    if (rest < 0 && pieces[k]! <= 1) continue;
    pieces[k]! += rest > 0 ? 1 : -1;
    rest += rest > 0 ? -1 : 1;
  }
  return pieces;
}

function shuffle<T>(random: Random, list: readonly T[]): T[] {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}
