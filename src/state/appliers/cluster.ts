/** The cluster's own row: made once, then its settings. */
import { invalid, RoostError } from "../../base/errors.ts";
import { parseLimit } from "../../model/limit-settings.ts";
import { defaultSettings, parseSetting, settingsConflict, vdcSettingFault, type Settings, type VdcSettings } from "../../model/settings.ts";
import type { ClaimsShorten, ClusterInit, LevelRaise, SettingReset, SettingsProfile, SettingUpdate } from "../commands.ts";
import { heldBackBy } from "../levels.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { newNode } from "./node.ts";

/** Limits of single kinds of drivers that are kept: far more than there are kinds. */
const LIMITS_MAX = 256;

export function init(tx: Transaction, command: ClusterInit): CommandResult {
  if (tx.cluster() !== undefined) throw new RoostError({ kind: "exists", what: "cluster", name: tx.cluster()?.name ?? "" });
  tx.put("cluster", "self", {
    id: command.clusterId,
    name: command.name,
    generation: 1,
    createdAtMs: tx.atMs,
    caCertificate: command.caCertificate,
    caKey: command.caKey,
    settings: defaultSettings(),
    longestClaimMs: defaultSettings()["ha.claimMs"],
    // The first node is peer 1: it bootstraps Raft alone.
    nextPeerId: 2,
    nextVmNumber: 1,
    nextTaskNumber: 1,
  });
  tx.putNode({ ...newNode(tx, command.node, 1, null), role: "voter" });
  tx.emit("cluster.created", command.clusterId, command.name, `cluster ${command.name} created by node ${command.node.name}`);
  return { ids: [command.clusterId], peerId: 1 };
}

export function updateSetting(tx: Transaction, command: SettingUpdate): CommandResult {
  const cluster = tx.needCluster();
  const limit = command.vdc === undefined ? parseLimit(command.key, String(command.value)) : null;
  if (limit !== null) {
    if (!limit.ok) throw invalid(command.key, `expected ${limit.expected}`);
    const before = cluster.limits?.[command.key];
    if (before === undefined && Object.keys(cluster.limits ?? {}).length >= LIMITS_MAX)
      throw new RoostError({ kind: "exhausted", reason: `${LIMITS_MAX} limits of single kinds are set` }, "take one away with --reset");
    tx.put("cluster", "self", { ...cluster, limits: sorted({ ...cluster.limits, [command.key]: limit.value }) });
    tx.emit("cluster.setting", cluster.id, command.key, `${command.key}: ${before ?? "as the platform's"} → ${limit.value}`);
    return { ids: [command.key] };
  }
  const parsed = parseSetting(command.key, String(command.value));
  if (!parsed.ok) throw invalid(command.key, `expected ${parsed.expected}`);
  if (command.vdc !== undefined) {
    const fault = vdcSettingFault(parsed.key, command.vdc);
    if (fault !== null) throw invalid(fault.field, fault.message);
    const before = cluster.vdcSettings?.[command.vdc];
    const own: VdcSettings = { ...before, [parsed.key]: parsed.value };
    tx.put("cluster", "self", { ...cluster, vdcSettings: sorted({ ...cluster.vdcSettings, [command.vdc]: own }) });
    tx.emit("cluster.setting", cluster.id, command.key, `${command.key} of vdc ${command.vdc}: ${parsed.value}`);
    return { ids: [command.key] };
  }
  const settings = { ...cluster.settings, [parsed.key]: parsed.value } as Settings;
  const conflict = settingsConflict(settings);
  if (conflict !== null) throw invalid(command.key, conflict);
  tx.put("cluster", "self", { ...cluster, settings, longestClaimMs: Math.max(cluster.longestClaimMs, settings["ha.claimMs"]) });
  tx.emit("cluster.setting", cluster.id, command.key, `${command.key}: ${cluster.settings[parsed.key]} → ${parsed.value}`);
  return { ids: [command.key] };
}

export function applyProfile(tx: Transaction, command: SettingsProfile): CommandResult {
  const cluster = tx.needCluster();
  const settings: Settings = { ...cluster.settings };
  const changes: string[] = [];
  for (const [key, value] of Object.entries(command.values)) {
    const parsed = parseSetting(key, String(value));
    if (!parsed.ok) throw invalid(key, `expected ${parsed.expected}`);
    if (settings[parsed.key] !== parsed.value) changes.push(`${key}: ${settings[parsed.key]} → ${parsed.value}`);
    Object.assign(settings, { [parsed.key]: parsed.value });
  }
  const conflict = settingsConflict(settings);
  if (conflict !== null) throw invalid("profile", conflict);
  tx.put("cluster", "self", { ...cluster, settings, longestClaimMs: Math.max(cluster.longestClaimMs, settings["ha.claimMs"]) });
  tx.emit("cluster.setting", cluster.id, `profile ${command.profile}`, changes.join(", ") || "as it was");
  return { ids: Object.keys(command.values) };
}

export function resetSetting(tx: Transaction, command: SettingReset): CommandResult {
  const cluster = tx.needCluster();
  if (command.vdc === "") {
    const { [command.key]: value, ...rest } = cluster.limits ?? {};
    if (value === undefined) return { ids: [command.key] };
    tx.put("cluster", "self", { ...cluster, limits: rest });
    tx.emit("cluster.setting", cluster.id, command.key, `${command.key}: ${value} → as the platform's`);
    return { ids: [command.key] };
  }
  const before = cluster.vdcSettings?.[command.vdc];
  if (before === undefined || !Object.hasOwn(before, command.key)) return { ids: [command.key] };
  const own = Object.fromEntries(Object.entries(before).filter(([key]) => key !== command.key)) as VdcSettings;
  const others = Object.entries(cluster.vdcSettings ?? {}).filter(([vdc]) => vdc !== command.vdc);
  const left = Object.keys(own).length === 0 ? others : [...others, [command.vdc, own] as const];
  tx.put("cluster", "self", { ...cluster, vdcSettings: sorted(Object.fromEntries(left)) });
  tx.emit("cluster.setting", cluster.id, command.key, `${command.key} of vdc ${command.vdc}: as the cluster's`);
  return { ids: [command.key] };
}

/** The same rows are the same bytes, in whatever order they were made. */
function sorted<Row>(rows: Record<string, Row>): Record<string, Row> {
  return Object.fromEntries(Object.entries(rows).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** From here on commands of the level may be proposed. Checked again: a node may have joined since the leader looked. */
export function raiseLevel(tx: Transaction, command: LevelRaise): CommandResult {
  const cluster = tx.needCluster();
  const level = cluster.level ?? 1;
  if (command.level <= level) return { ids: [] };
  const behind = heldBackBy(tx.state, command.level);
  if (behind.length > 0)
    throw new RoostError({
      kind: "precondition",
      reason: `${behind.map(({ name }) => name).join(", ")} cannot apply level ${command.level}`,
    });
  tx.put("cluster", "self", { ...cluster, level: command.level });
  tx.emit("cluster.level", cluster.id, cluster.name, `level ${level} → ${command.level}: all nodes can apply it`);
  return { ids: [cluster.id] };
}

/** The leader vouches that nothing granted by an earlier, longer `ha.claimMs` is in force any more. */
export function shortenClaims(tx: Transaction, command: ClaimsShorten): CommandResult {
  const cluster = tx.needCluster();
  if (tx.envelope.term !== tx.term)
    throw new RoostError({ kind: "conflict", reason: `decided in term ${tx.envelope.term}, not in ${tx.term}` });
  if (cluster.settings["ha.claimMs"] !== command.claimMs)
    throw new RoostError({ kind: "conflict", reason: "ha.claimMs has changed since" });
  tx.put("cluster", "self", { ...cluster, longestClaimMs: command.claimMs });
  return { ids: [cluster.id] };
}
