/**
 * The life cycle of a VM as one table (VM-6, VM-7). docs/lifecycle.md is drawn from it, and apply refuses any move that
 * is not in it.
 */
import type { VmState } from "./vm.ts";

/** Where a VM can go when its claim ends, from any state with a claim. */
const RELEASED = ["pending", "recovering", "stopped", "epilog", "failed"] as const;

/** From each state, the states a VM may move to next. */
export const TRANSITIONS: Record<VmState, readonly VmState[]> = {
  pending: ["prolog", "stopped", "epilog"],
  prolog: ["boot", "running", "shutdown", "unknown", ...RELEASED],
  boot: ["running", "shutdown", "unknown", ...RELEASED],
  running: ["paused", "shutdown", "unknown", "migrating", "suspended", ...RELEASED],
  paused: ["running", "shutdown", "unknown", ...RELEASED],
  suspended: ["pending", "stopped", "epilog"],
  shutdown: ["running", "unknown", ...RELEASED],
  epilog: ["deleted"],
  stopped: ["pending", "epilog"],
  migrating: ["running", "shutdown", "unknown", ...RELEASED],
  recovering: ["prolog", "stopped", "epilog", "failed"],
  failed: ["pending", "stopped", "epilog"],
  unknown: ["prolog", "boot", "running", "paused", "shutdown", ...RELEASED],
  deleted: [],
};

export function mayMove(from: VmState, to: VmState): boolean {
  return TRANSITIONS[from].includes(to);
}

/** What a user can ask of a VM (VM-8; the ones built so far). */
export type VmAction =
  | "start"
  | "shutdown"
  | "force-shutdown"
  | "delete"
  | "deploy"
  | "pause"
  | "unpause"
  /** The guest is asked to reboot; `force-restart` resets it. */
  | "restart"
  | "force-restart";

const LEGAL_ACTIONS: Record<VmState, readonly VmAction[]> = {
  pending: ["shutdown", "force-shutdown", "deploy", "delete"],
  prolog: ["force-shutdown", "delete"],
  boot: ["shutdown", "force-shutdown", "delete"],
  running: ["shutdown", "force-shutdown", "pause", "restart", "force-restart", "delete"],
  paused: ["unpause", "force-shutdown", "delete"],
  suspended: ["delete"],
  shutdown: ["force-shutdown", "delete"],
  epilog: [],
  stopped: ["start", "deploy", "delete"],
  migrating: ["force-shutdown", "delete"],
  recovering: ["force-shutdown", "delete"],
  failed: ["start", "force-shutdown", "delete"],
  unknown: ["force-shutdown", "delete"],
  deleted: [],
};

export function legalActions(state: VmState): readonly VmAction[] {
  return LEGAL_ACTIONS[state];
}
