/** What is done to a node in a drill, and what is to come of it. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { LabNode, PauseTarget } from "../../../scripts/lab/node.ts";
import type { Random } from "../../../src/base/random.ts";

export const KINDS = ["kill", "leader", "partition", "pause", "disk-full", "libvirtd"] as const;
export type Kind = (typeof KINDS)[number];

export interface Fault {
  /** After the node's name. */
  what: string;
  victim: "leader" | "follower";
  strike(node: LabNode): Promise<void>;
  /**
   * `failover`: its VMs come up elsewhere while the fault lasts, and the times count. `nothing`: no VM notices. `either`: only never
   * twice. The last two end after `holdMs`.
   */
  expect: "failover" | "nothing" | "either";
  holdMs: number;
}

const CLAIMS_OVER_MS = 9_000;

/** The fault of one trial. */
export function faultOf(kind: Kind, random: Random): Fault {
  const pick = <T>(among: readonly T[]): T => among[random.below(among.length)]!;
  switch (kind) {
    case "kill":
      return killed("follower");
    case "leader":
      return killed("leader");
    case "partition": {
      // A link that is dead both ways is what most failures of networks look like.
      const direction = pick(["both", "both", "in", "out"] as const);
      const what = { both: "is cut off", in: "hears nobody", out: "reaches nobody" }[direction];
      return { what, victim: "follower", strike: (node) => node.cut(direction), expect: "failover", holdMs: 0 };
    }
    case "pause":
      return pick([
        paused("agent", "its agent stands still", "failover", 0),
        paused("keeper", "its keeper stands still", "either", CLAIMS_OVER_MS),
        paused("all", "agent and keeper stand still", "failover", 0),
        paused("host", "everything on it stands still, and goes on later", "either", CLAIMS_OVER_MS),
        paused("agent", "its agent stands still for 2 s", "nothing", 2_000),
        paused("all", "agent and keeper stand still for 2 s", "nothing", 2_000),
      ]);
    case "disk-full":
      return { what: "has a full disk", victim: pick(["follower", "leader"]), strike: fill, expect: "either", holdMs: 12_000 };
    case "libvirtd":
      return pick([
        paused("libvirtd", "its libvirtd hangs", "nothing", 6_000),
        {
          what: "its libvirtd hangs and it is cut off",
          victim: "follower",
          strike: async (node) => {
            await node.pause("libvirtd");
            await node.cut();
          },
          expect: "failover",
          holdMs: 0,
        },
      ]);
  }
}

/** Whatever was done to it, and whatever came of that: afterwards it is on, connected, with agent and libvirtd. */
export async function heal(node: LabNode): Promise<void> {
  await node.heal();
  if (node.isOn()) await node.resume("host");
  // Those that stood still may have been overdue for their guardian.
  await sleep(200);
  if (node.isOn()) {
    await node.exec(["rm", "-f", filler(node)]);
    if (node.processes("libvirtd").length === 0) await node.startLibvirtd();
    if (node.processes("agent").length === 0) await node.startAgent();
  } else await node.powerOn();
}

/** True if the node's init reset it, and not we. */
export function wasReset(node: LabNode): boolean {
  return node.powerNote().includes("guardian");
}

function killed(victim: Fault["victim"]): Fault {
  return {
    what: "dies with all that runs on it",
    victim,
    strike: async (node) => void (await node.kill("all")),
    expect: "failover",
    holdMs: 0,
  };
}

function paused(target: PauseTarget, what: string, expect: Fault["expect"], holdMs: number): Fault {
  return { what, victim: "follower", strike: async (node) => void (await node.pause(target)), expect, holdMs };
}

const filler = (node: LabNode): string => join(node.dataDir, "filled");

async function fill(node: LabNode): Promise<void> {
  const file = filler(node);
  await node.exec(
    `dd if=/dev/zero of=${file} bs=1M 2>/dev/null; dd if=/dev/zero of=${file} bs=1 oflag=append conv=notrunc count=4096 2>/dev/null`,
  );
}
