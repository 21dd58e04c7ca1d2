/** The two walls of the house as data: which folder of src sees which, and which rooms are pure. The linter and the tidy test read it. */

/** Folders by floor, ground floor first. A folder imports from itself and from lower floors, never sideways, never up. */
export const FLOORS: readonly (readonly string[])[] = [
  ["gen"],
  ["base"],
  ["model"],
  ["raft", "state", "scheduler", "hypervisor", "fencing", "storage", "network"],
  ["cluster"],
  ["tasks"],
  ["ha", "agent", "placing"],
  ["api", "web"],
  ["daemon", "cli", "offline"],
];

/**
 * Folders that see less than their floor would let them: the command line is a client and knows the API only, and generated types stop
 * at the converters, so the rooms that hold the rules speak the model's own types.
 */
export const NARROWER: Readonly<Record<string, readonly string[]>> = {
  cli: ["gen", "base"],
  model: ["base"],
  state: ["base", "model"],
  scheduler: ["base", "model"],
};

/** Pure rooms, as folders (with a slash) or files under src: data in, data out. */
export const PURE: readonly string[] = [
  "model/",
  "raft/core/",
  "state/",
  "scheduler/",
  "ha/detector.ts",
  "ha/budget.ts",
  "ha/fence-plan.ts",
  "ha/audit.ts",
  "agent/run-records.ts",
  "placing/waiting.ts",
  "placing/request.ts",
  "placing/replay.ts",
  "placing/explain.ts",
  "placing/export.ts",
  "placing/why-not.ts",
  "placing/what-if.ts",
  "placing/what-if-script.ts",
  "agent/reconcile.ts",
  "tasks/orchestrate.ts",
];

/** Globals that carry time, chance, effects or Node's own types, none of which a pure room may touch. */
export const IMPURE_GLOBALS: readonly string[] = [
  "Date",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "queueMicrotask",
  "performance",
  "crypto",
  "process",
  "Buffer",
  "console",
  "fetch",
];

/** Folders of src that `folder` may import from, itself left out; undefined for a folder that is in no floor. */
export function visibleFrom(folder: string): readonly string[] | undefined {
  const floor = FLOORS.findIndex((folders) => folders.includes(folder));
  if (floor < 0) return undefined;
  return NARROWER[folder] ?? FLOORS.slice(0, floor).flat();
}

/** True if `path` (under src, `raft/core/step.ts`) belongs to a pure room. */
export function isPure(path: string): boolean {
  return PURE.some((room) => (room.endsWith("/") ? path.startsWith(room) : path === room));
}
