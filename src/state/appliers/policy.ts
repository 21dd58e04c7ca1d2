/** Placement policies and zones' roles: rows that name other rows, so they are checked against them here, too. */
import { invalid, RoostError } from "../../base/errors.ts";
import { isName, NAME_RULE } from "../../model/definition.ts";
import { POLICY_LIMITS, policyFaults } from "../../model/policy-check.ts";
import { conflictWith } from "../../model/policy-conflict.ts";
import type { Policy } from "../../model/policy.ts";
import type { PolicyCreate, PolicyDelete, PolicyEnable, PolicyUpdate, ZoneSet } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";

export function create(tx: Transaction, command: PolicyCreate): CommandResult {
  tx.needCluster();
  const policy: Policy = { ...command.policy, revision: tx.index };
  if (tx.state.policies.has(policy.id)) throw new RoostError({ kind: "exists", what: "policy", name: policy.id });
  if (tx.state.policies.size >= POLICY_LIMITS.policies)
    throw new RoostError({ kind: "exhausted", reason: `there are ${POLICY_LIMITS.policies} policies already` }, "delete some first");
  write(tx, policy);
  tx.emit("policy.created", policy.id, policy.name, policy.enabled ? "created, on" : "created, off");
  return { ids: [policy.id] };
}

export function update(tx: Transaction, command: PolicyUpdate): CommandResult {
  const before = needPolicy(tx, command.policy.id);
  const policy: Policy = { ...command.policy, enabled: before.enabled, revision: tx.index };
  write(tx, policy);
  tx.emit("policy.changed", policy.id, policy.name, "changed");
  return { ids: [policy.id] };
}

export function enable(tx: Transaction, command: PolicyEnable): CommandResult {
  const before = needPolicy(tx, command.policyId);
  if (before.enabled === command.enabled) return { ids: [before.id] };
  const policy: Policy = { ...before, enabled: command.enabled, revision: tx.index };
  // Switching off must always be possible, whatever has become of what it names.
  if (command.enabled) write(tx, policy);
  else tx.put("policies", policy.id, policy);
  tx.emit("policy.changed", policy.id, policy.name, command.enabled ? "on" : "off");
  return { ids: [policy.id] };
}

export function remove(tx: Transaction, command: PolicyDelete): CommandResult {
  const policy = needPolicy(tx, command.policyId);
  tx.put("policies", policy.id, null);
  tx.emit("policy.deleted", policy.id, policy.name, "deleted");
  return { ids: [policy.id] };
}

export function setZone(tx: Transaction, command: ZoneSet): CommandResult {
  tx.needCluster();
  if (!isName(command.zone)) throw invalid("zone", `expected ${NAME_RULE}`);
  const before = tx.get("zoneRoles", command.zone) ?? null;
  if (before === command.role) return { ids: [command.zone] };
  tx.put("zoneRoles", command.zone, command.role);
  tx.emit("zone.changed", command.zone, command.zone, `${before ?? "no role"} → ${command.role ?? "no role"}`);
  return { ids: [command.zone] };
}

/** A VM that goes leaves the policies that name it; one without members left stays, and asks nothing of nobody. */
export function forgetVm(tx: Transaction, vmId: string): void {
  for (const policy of tx.rows("policies")) {
    if (!policy.members.includes(vmId)) continue;
    tx.put("policies", policy.id, { ...policy, members: policy.members.filter((id) => id !== vmId), revision: tx.index });
  }
}

/**
 * A node that goes for good leaves the policies that name it. A `must` whose nodes are all gone stays as it is: its members
 * wait and say why, because nobody allowed them to be anywhere else.
 */
export function forgetNode(tx: Transaction, nodeId: string): void {
  for (const policy of tx.rows("policies")) {
    const { target } = policy;
    if (target.kind !== "nodes" || !target.nodeIds.includes(nodeId)) continue;
    const nodeIds = target.nodeIds.filter((id) => id !== nodeId);
    tx.put("policies", policy.id, { ...policy, target: { ...target, nodeIds }, revision: tx.index });
  }
}

function write(tx: Transaction, policy: Policy): void {
  const faults = policyFaults(policy, tx.state);
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
  const named = tx.state.policyIdByName.get(policy.name);
  if (named !== undefined && named !== policy.id) throw new RoostError({ kind: "exists", what: "policy", name: policy.name });
  if (policy.enabled) {
    const others = tx.rows("policies", (other) => other.enabled && other.id !== policy.id);
    const conflict = conflictWith(tx.state, policy, others);
    // One alone may wait for nodes that are still to come; two that exclude each other wait for ever.
    if (conflict !== null && conflict.policies.length > 1) {
      throw new RoostError(
        {
          kind: "precondition",
          reason: `policies ${conflict.policies.map((one) => one.name).join(", ")} cannot all be satisfied: ${conflict.why}`,
        },
        "switch off or change one of them first; `roost policy lint` shows what conflicts",
      );
    }
  }
  tx.put("policies", policy.id, policy);
}

function needPolicy(tx: Transaction, id: string): Policy {
  const policy = tx.get("policies", id);
  if (policy === undefined) throw new RoostError({ kind: "not-found", what: "policy", name: id });
  return policy;
}
