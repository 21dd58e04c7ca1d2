/**
 * Feature levels (RAFT-7). Each command came with a level; the cluster's own level, in its row, is raised by the leader once every
 * node can apply it, and only then commands of that level are proposed. So versions N and N−1 work in one cluster.
 */
import { RoostError } from "../base/errors.ts";
import type { View } from "../model/view.ts";
import type { CommandType } from "./commands.ts";

// A number only in a binary that is built one level behind, for the test of upgrades (scripts/bundle.ts).
declare const __ROOST_LEVEL__: number | undefined;

/** What this program can apply. */
export const PROGRAM_LEVEL: number = typeof __ROOST_LEVEL__ === "undefined" ? 2 : __ROOST_LEVEL__;

/** Commands that are not as old as roost itself. A new one gets the next level once a release has the present one. */
const LEVELS: Partial<Record<CommandType, number>> = {
  "digest.ask": 2,
  "digest.report": 2,
  "node.drain": 2,
  "node.undrain": 2,
  "node.drain-report": 2,
  "vm.migrate": 2,
  "vm.migrate-abort": 2,
};

export function levelOf(type: CommandType): number {
  return LEVELS[type] ?? 1;
}

export function clusterLevel(view: View): number {
  return view.cluster?.level ?? 1;
}

/** Nodes that cannot apply what a level brings, with the level they can; one that has not reported yet is at 0. */
export function heldBackBy(view: View, level: number): { name: string; level: number }[] {
  return [...view.nodes.values()]
    .filter((node) => node.state !== "removed" && node.leftOut === undefined)
    .map(({ name, info }) => ({ name, level: info === null ? 0 : (info.level ?? 1) }))
    .filter((node) => node.level < level)
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** The refusal of a command that not all nodes know yet; null if they do. */
export function whyNotYet(view: View, type: CommandType): RoostError | null {
  const level = levelOf(type);
  if (level <= clusterLevel(view)) return null;
  const nodes = heldBackBy(view, level);
  const names = nodes.map(({ name }) => name).join(", ");
  return new RoostError(
    {
      kind: "precondition",
      reason: `${type} needs level ${level}, the cluster is at level ${clusterLevel(view)}${names === "" ? "" : `: ${names} cannot do more`}`,
    },
    nodes.length === 0
      ? "the level is raised within seconds; try again"
      : `upgrade roost on ${names}; the level is raised when all nodes have it`,
  );
}

/** Stops a replica that meets what it does not know. Nothing is lost: it goes on there with a newer program. */
export function unknownCommand(type: string, index: number): RoostError {
  return new RoostError(
    {
      kind: "unsupported",
      what: `command ${JSON.stringify(type)} at index ${index} of the log: this roost (level ${PROGRAM_LEVEL}) is too old for the cluster; it`,
    },
    "install the version of roost that the other nodes run and start this node again: it goes on where it stopped",
  );
}
