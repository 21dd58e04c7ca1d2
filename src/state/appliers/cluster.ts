/** The cluster's own row: made once, then its settings. */
import { invalid, RoostError } from "../../base/errors.ts";
import { defaultSettings, parseSetting, settingsConflict, type Settings } from "../../model/settings.ts";
import type { ClusterInit, SettingUpdate } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";
import { newNode } from "./node.ts";

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
    // The first node is peer 1: it bootstraps Raft alone.
    nextPeerId: 2,
    nextVmNumber: 1,
  });
  tx.putNode({ ...newNode(tx, command.node, 1, null), role: "voter" });
  tx.emit("cluster.created", command.clusterId, command.name, `cluster ${command.name} created by node ${command.node.name}`);
  return { ids: [command.clusterId], peerId: 1 };
}

export function updateSetting(tx: Transaction, command: SettingUpdate): CommandResult {
  const cluster = tx.needCluster();
  const parsed = parseSetting(command.key, String(command.value));
  if (!parsed.ok) throw invalid(command.key, `expected ${parsed.expected}`);
  const settings = { ...cluster.settings, [parsed.key]: parsed.value } as Settings;
  const conflict = settingsConflict(settings);
  if (conflict !== null) throw invalid(command.key, conflict);
  tx.put("cluster", "self", { ...cluster, settings });
  tx.emit("cluster.setting", cluster.id, command.key, `${command.key}: ${cluster.settings[parsed.key]} → ${parsed.value}`);
  return { ids: [command.key] };
}
