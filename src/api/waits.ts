/** What is waited for, in words, and until when: every wait has a reason and an end, or says that it has none (issue of each: HA-11, HA-4). */
import { formatDuration } from "../base/units.ts";
import { whyNoExpiry } from "../ha/detector.ts";
import type { Node } from "../model/node.ts";
import { settingsOf } from "../model/placement.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import { nodeName } from "./convert.ts";

/** Empty if it waits for nothing. `nowMs`: wall clock. */
export function waitOfNode(view: View, node: Node, nowMs: number): string {
  if (node.state === "removed") return "";
  if (node.leftOut !== undefined) return whyNoExpiry(node) ?? "";
  if (node.removing !== undefined) return "Raft lets it go, and its claims end; then it is removed";
  if (node.state === "unreachable") return silenceOf(view, node, nowMs);
  if (node.parkedMs > 0) return `parked: a planned restart may take ${formatDuration(node.parkedMs)}; until then its VMs stay its own`;
  if (node.state === "fenced") return "it is not trusted before its agent has cleaned up and says hello";
  return node.state === "joining" ? "its agent's first hello" : "";
}

function silenceOf(view: View, node: Node, nowMs: number): string {
  const silent = `silent for ${seconds(nowMs - (node.silence?.sinceMs ?? node.stateSinceMs))}`;
  const holds = [...(view.claimsByNode.get(node.id) ?? [])].some((id) => view.vms.get(id)?.claim?.deadline === true);
  if (!holds) return `${silent}; no VM of it has a claim that time ends`;
  const attempt = view.fencing?.get(node.id)?.attempt;
  const fence =
    attempt?.state === "open"
      ? `; it is being switched off${attempt.current === null ? "" : ` by ${nodeName(view, attempt.current.executorId)}`}`
      : "";
  const endMs = node.silence?.claimsEndMs ?? null;
  if (endMs === null) return `${silent}; ${whyNoExpiry(node) ?? "its leader has not said yet when its claims end"}${fence}`;
  if (endMs > nowMs) return `${silent}; its claims end in ${seconds(endMs - nowMs)} (${clockText(endMs)})${fence}`;
  return `${silent}; its claims ended at ${clockText(endMs)} unless another leader waits anew, and the leader is about to commit it${fence}`;
}

export function waitOfVm(view: View, vm: Vm, nowMs: number): string {
  if (vm.desired.hold && vm.claim === null) return "somebody to deploy it";
  const node = vm.claim === null ? undefined : view.nodes.get(vm.claim.nodeId);
  switch (vm.state) {
    case "unknown":
      return node === undefined ? "" : `${node.name}: ${waitOfNode(view, node, nowMs) || "its word on what runs there"}`;
    case "pending":
    case "recovering": {
      if (vm.retryAtMs > nowMs) return `its next start in ${seconds(vm.retryAtMs - nowMs)} (${clockText(vm.retryAtMs)})`;
      const [first] = vm.pendingReasons;
      if (first === undefined) return "a plan of the leader's";
      const longest = formatDuration(settingsOf(view)["scheduler.retryMs"]);
      return `${first.code}: ${first.detail}; asked again when that may have changed, and at the latest every ${longest}`;
    }
    case "prolog":
    case "boot": {
      const limitMs = vm.stateSinceMs + settingsOf(view)["vm.bootTimeoutMs"];
      const silent = node?.state === "unreachable" ? `; ${node.name} is ${waitOfNode(view, node, nowMs)}` : "";
      return `${node?.name ?? "its node"} to ${vm.state === "prolog" ? "prepare its disks" : "start it"}, until ${clockText(limitMs)} at the latest${silent}`;
    }
    case "epilog":
      return `${nodeName(view, vm.homeNodeId)} to delete its disks`;
    case "shutdown":
      return `its guest to power off, until ${clockText(vm.stateSinceMs + settingsOf(view)["vm.shutdownTimeoutMs"])}`;
    case "running":
    case "paused":
    case "suspended":
    case "stopped":
    case "migrating":
    case "failed":
    case "deleted":
      return "";
  }
}

function seconds(ms: number): string {
  return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
}

/** UTC with milliseconds: people compare machines. */
function clockText(ms: number): string {
  return new Date(ms).toISOString().slice(11, 23);
}
