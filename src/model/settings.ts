import { parseDuration } from "../base/units.ts";
import { checkRank, printFault } from "./expression/check.ts";

/** Cluster-wide settings, held in the replicated state and changed live by `roost settings set KEY VALUE`. */
export interface Settings {
  "ha.heartbeatMs": number;
  "ha.claimMs": number;
  "ha.marginMs": number;
  "ha.killLeadMs": number;
  "ha.suspectMs": number;
  "ha.restartsInPlace": number;
  "ha.maxFailures": number;
  "ha.fence": "never" | "needed" | "first";
  "ha.fenceAfterMs": number;
  /** 0: nothing is kept free. */
  "ha.tolerate": number;
  /** 1: any one zone; 0: nothing is kept free for it. */
  "ha.tolerateZones": number;
  "scheduler.enabled": "on" | "off";
  "raft.voters": number;
  "raft.replaceVoterMs": number;
  "scheduler.scoring": "balance" | "even" | "consolidate" | "rank";
  /** An expression as in a VM's `rank`. */
  "scheduler.rank": string;
  "scheduler.memoryRatio": number;
  /** 0: no limit. */
  "scheduler.cpuRatio": number;
  "scheduler.retryMs": number;
  "state.eventsKept": number;
  "scheduler.historyMib": number;
  "raft.checkpointMbps": number;
  /** 0: never. */
  "state.verifyMs": number;
  "vm.bootTimeoutMs": number;
  "vm.shutdownTimeoutMs": number;
  "vm.migrateTimeoutMs": number;
  "vm.migrateDowntimeMs": number;
  /** 0: as fast as it goes. */
  "vm.migrateMibps": number;
  "vm.configureTimeoutMs": number;
  "vm.operationTimeoutMs": number;
  "tasks.kept": number;
  openSession: number;
  "ha.openSession": number;
  "openSession.byvdc": "true" | "false";
  "openSession.faststatechanges": "true" | "false";
  "device.openSession": number;
  "device.openSession.byvdc": "true" | "false";
  "backup.openSession": number;
  "backup.openSession.byvdc": "true" | "false";
  "bench.enabled": "true" | "false";
}

export type SettingKey = keyof Settings;

/** What a vdc may have for itself. */
export type VdcSettings = Partial<Pick<Settings, "scheduler.scoring" | "scheduler.rank">>;

interface NumberRule {
  kind: "number";
  initial: number;
  min: number;
  max: number;
  /** Only these. */
  among?: readonly number[];
  about: string;
}
interface ChoiceRule {
  kind: "choice";
  initial: string;
  choices: readonly string[];
  about: string;
}

interface RankRule {
  kind: "rank";
  initial: string;
  about: string;
}
export type SettingRule = NumberRule | ChoiceRule | RankRule;

/** One rule a key: default, bounds, and the text of `roost settings explain`. */
export const SETTING_RULES: Record<SettingKey, SettingRule> = {
  "ha.heartbeatMs": { kind: "number", initial: 500, min: 100, max: 10_000, about: "Time between two heartbeats of a node, ms." },
  "ha.claimMs": {
    kind: "number",
    initial: 4_000,
    min: 1_000,
    max: 600_000,
    about: "How long an acknowledged heartbeat lets a node run its HA VMs, ms. Must exceed election + stall + heartbeat.",
  },
  "ha.marginMs": {
    kind: "number",
    initial: 250,
    min: 10,
    max: 60_000,
    about: "Added to the claim before a node counts as expired, ms. Bounds the clock rate error: margin / claim (default 6 %).",
  },
  "ha.killLeadMs": {
    kind: "number",
    initial: 500,
    min: 50,
    max: 60_000,
    about: "How long before the deadline the keeper begins to kill, ms.",
  },
  "ha.suspectMs": {
    kind: "number",
    initial: 1_500,
    min: 200,
    max: 600_000,
    about: "Silence after which a node is shown as unreachable, ms.",
  },
  "ha.restartsInPlace": { kind: "number", initial: 3, min: 0, max: 100, about: "Failed starts on one node before another node is tried." },
  "ha.maxFailures": {
    kind: "number",
    initial: 6,
    min: 1,
    max: 1_000,
    about: "Failed starts in a row after which the VM is given up as failed.",
  },
  "ha.fence": {
    kind: "choice",
    initial: "needed",
    choices: ["never", "needed", "first"],
    about:
      "When a silent node with power devices is switched off: needed, for HA VMs that no time frees (no guardian, on-quorum-loss: keep); first, for any HA VM; never, only by roost node fence.",
  },
  "ha.fenceAfterMs": {
    kind: "number",
    initial: 5_000,
    min: 0,
    max: 3_600_000,
    about: "Silence after which a node is switched off as ha.fence says, ms; a parked one is waited for.",
  },
  "ha.tolerate": {
    kind: "number",
    initial: 0,
    min: 0,
    max: 3,
    among: [0, 1, 2, 3],
    about:
      "Room is kept so that all HA VMs find a place again after the loss of any so many nodes: what would take it waits. 0 keeps none.",
  },
  "ha.tolerateZones": {
    kind: "number",
    initial: 0,
    min: 0,
    max: 1,
    among: [0, 1],
    about: "1: the same for the loss of any whole zone.",
  },
  "scheduler.enabled": {
    kind: "choice",
    initial: "on",
    choices: ["on", "off"],
    about: "off: pending VMs wait for `roost vm deploy VM --node NODE` or an external scheduler that calls it; HA recovery goes on.",
  },
  "raft.voters": {
    kind: "number",
    initial: 5,
    min: 1,
    max: 7,
    among: [1, 3, 5, 7],
    about: "Nodes that vote, if there are as many: 1, 3, 5 or 7.",
  },
  "raft.replaceVoterMs": {
    kind: "number",
    initial: 300_000,
    min: 1_000,
    max: 86_400_000,
    about: "A voter that is silent for this long is replaced by a healthy node, if there is one, ms.",
  },
  "scheduler.scoring": {
    kind: "choice",
    initial: "balance",
    choices: ["balance", "even", "consolidate", "rank"],
    about:
      "balance spreads VMs, even spreads memory and vCPUs each for itself, consolidate packs them, rank takes the node with the highest scheduler.rank. A VM's own rank goes first.",
  },
  "scheduler.rank": {
    kind: "rank",
    initial: "freeMemoryMib",
    about: "Number that scheduler.scoring rank compares, an expression over a node's values: docs/expressions.md.",
  },
  "scheduler.memoryRatio": {
    kind: "number",
    initial: 1,
    min: 0.1,
    max: 16,
    about: "Memory that may be promised, as a multiple of physical memory less the reserve.",
  },
  "scheduler.cpuRatio": {
    kind: "number",
    initial: 0,
    min: 0,
    max: 1_000,
    about: "vCPUs that may be placed per logical CPU; 0 for no limit.",
  },
  "scheduler.retryMs": {
    kind: "number",
    initial: 30_000,
    min: 100,
    max: 600_000,
    about: "Pending VMs are tried again at the latest after this, ms (SCH-14).",
  },
  "state.eventsKept": {
    kind: "number",
    initial: 20_000,
    min: 100,
    max: 1_000_000,
    about: "The newest events that are kept for watchers; one that comes back later has to begin at the oldest.",
  },
  "scheduler.historyMib": {
    kind: "number",
    initial: 16,
    min: 0,
    max: 256,
    about: "What is kept to explain and replay decisions, MiB; 0 keeps nothing (SCH-17).",
  },
  "raft.checkpointMbps": {
    kind: "number",
    initial: 400,
    min: 1,
    max: 100_000,
    about: "Bandwidth that a voter spends on checkpoints for nodes that are too far behind for its log, Mbit/s in all.",
  },
  "state.verifyMs": {
    kind: "number",
    initial: 3_600_000,
    min: 0,
    max: 604_800_000,
    about: "How often all replicas' tables are compared by their hashes, ms (`roost cluster verify`); 0 for never.",
  },
  "vm.bootTimeoutMs": {
    kind: "number",
    initial: 120_000,
    min: 1_000,
    max: 3_600_000,
    about: "Time limit of preparing and starting a VM, ms.",
  },
  "vm.migrateTimeoutMs": {
    kind: "number",
    initial: 1_800_000,
    min: 1_000,
    max: 86_400_000,
    about: "Time limit of a live migration, ms; after it the VM stays where it is.",
  },
  "vm.migrateDowntimeMs": {
    kind: "number",
    initial: 300,
    min: 10,
    max: 60_000,
    about: "How long a guest may stand still while the last of it moves, ms; one that writes too fast for it is slowed down.",
  },
  "vm.migrateMibps": {
    kind: "number",
    initial: 0,
    min: 0,
    max: 100_000,
    about: "How much of a network one live migration may take, MiB/s; 0 for as much as there is.",
  },
  "vm.shutdownTimeoutMs": {
    kind: "number",
    initial: 120_000,
    min: 1_000,
    max: 3_600_000,
    about: "How long a guest may take to shut down before the request counts as failed, ms.",
  },
  "vm.configureTimeoutMs": {
    kind: "number",
    initial: 600_000,
    min: 1_000,
    max: 86_400_000,
    about: "Time limit of preparing or deleting a VM's disks, ms.",
  },
  "vm.operationTimeoutMs": {
    kind: "number",
    initial: 15_000,
    min: 1_000,
    max: 600_000,
    about: "Time limit of what a hypervisor should do quickly: power off, pause, unpause, reset, ask the guest, ms.",
  },
  "tasks.kept": { kind: "number", initial: 10_000, min: 10, max: 1_000_000, about: "Finished tasks that are kept; the oldest go first." },
  "ha.openSession": {
    kind: "number",
    initial: 16,
    min: 1,
    max: 1_000,
    about: "Recoveries at the same time on one node's hypervisor, beside openSession, never more than its CPUs.",
  },
  openSession: {
    kind: "number",
    initial: 2,
    min: 1,
    max: 1_000,
    about:
      "Operations at the same time on one node's hypervisor, never more than its CPUs. With a prefix, that of one driver: libvirt.openSession.",
  },
  "openSession.byvdc": {
    kind: "choice",
    initial: "false",
    choices: ["true", "false"],
    about: "true: openSession holds for each vdc on a connection, whose total has no limit; only with drivers that know vdcs.",
  },
  "openSession.faststatechanges": {
    kind: "choice",
    initial: "false",
    choices: ["true", "false"],
    about: "true: starting, stopping, pausing and resetting wait for no slot of openSession; preparing and deleting disks do.",
  },
  "device.openSession": { kind: "number", initial: 2, min: 1, max: 1_000, about: "As openSession, for each network device." },
  "device.openSession.byvdc": {
    kind: "choice",
    initial: "false",
    choices: ["true", "false"],
    about: "true: device.openSession holds for each vdc on a device; only with devices that know vdcs.",
  },
  "backup.openSession": { kind: "number", initial: 2, min: 1, max: 1_000, about: "As openSession, for each backup manager." },
  "backup.openSession.byvdc": {
    kind: "choice",
    initial: "false",
    choices: ["true", "false"],
    about: "true: backup.openSession holds for each vdc on a manager; only with managers that know vdcs.",
  },
  "bench.enabled": {
    kind: "choice",
    initial: "false",
    choices: ["true", "false"],
    about: "Serve roost.v1.Bench, the key-value store of `roost cluster bench`. Its rows stay in the state.",
  },
};

export const SETTING_KEYS = Object.keys(SETTING_RULES) as SettingKey[];

export function defaultSettings(): Settings {
  return Object.fromEntries(SETTING_KEYS.map((key) => [key, SETTING_RULES[key].initial])) as unknown as Settings;
}

/** Settings that belong together and are set as one (`roost settings profile`), because on the way between them they would conflict. */
export const SETTING_PROFILES: Readonly<Record<string, { about: string; values: Partial<Settings> }>> = {
  default: {
    about: "A dead node's VMs are started elsewhere within 4.75 s, 6.75 s if the leader died too.",
    values: initialOf(["ha.heartbeatMs", "ha.claimMs", "ha.marginMs", "ha.killLeadMs", "ha.suspectMs"]),
  },
  aggressive: {
    // 2000 + 125 + 500 = 2625 ms. The margin bounds the same clock rates as the default's, (125 − 50) / 2000 against (250 − 50) / 4000 with
    // a guardian that looks every 50 ms, within a percent.
    about:
      "Within 2.6 s. Wants nodes started with --raft-tick-ms 50 (elections of 0.5 to 1 s, else a leader's death ends all claims), a local network, and a watchdog of 1 s.",
    values: { "ha.heartbeatMs": 250, "ha.claimMs": 2_000, "ha.marginMs": 125, "ha.killLeadMs": 400, "ha.suspectMs": 750 },
  },
};

function initialOf(keys: readonly SettingKey[]): Partial<Settings> {
  return Object.fromEntries(keys.map((key) => [key, SETTING_RULES[key].initial]));
}

/** The parsed value, or what was expected. */
export function parseSetting(
  key: string,
  text: string,
): { ok: true; key: SettingKey; value: string | number } | { ok: false; expected: string } {
  if (!Object.hasOwn(SETTING_RULES, key)) return { ok: false, expected: `one of ${SETTING_KEYS.join(", ")}` };
  const known = key as SettingKey;
  const rule = SETTING_RULES[known];
  if (rule.kind === "choice") {
    return rule.choices.includes(text) ? { ok: true, key: known, value: text } : { ok: false, expected: expectedOf(known) };
  }
  if (rule.kind === "rank") {
    const checked = checkRank(text);
    return checked.ok ? { ok: true, key: known, value: text } : { ok: false, expected: `a rank: ${printFault(text, checked.fault)}` };
  }
  const duration = key.endsWith("Ms") ? parseDuration(text) : null;
  const value = duration?.ok === true ? duration.value : Number(text);
  const fits = text.trim() !== "" && value >= rule.min && value <= rule.max && rule.among?.includes(value) !== false;
  return fits ? { ok: true, key: known, value } : { ok: false, expected: expectedOf(known) };
}

/** What a value must be, in words. */
export function expectedOf(key: SettingKey): string {
  const rule = SETTING_RULES[key];
  if (rule.kind === "choice") return `one of ${rule.choices.join(", ")}`;
  if (rule.kind === "rank") return "an expression over a node's values";
  if (rule.among !== undefined) return `one of ${rule.among.join(", ")}`;
  const range = `a number from ${rule.min} to ${rule.max}`;
  return key.endsWith("Ms") ? `${range} or a duration such as 30s` : range;
}

/** What a vdc can have for itself. */
export const VDC_SETTING_KEYS: readonly SettingKey[] = ["scheduler.scoring", "scheduler.rank"];
const VDC_NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Why a setting cannot be had by a vdc of that name, or null. */
export function vdcSettingFault(key: SettingKey, vdc: string): { field: string; message: string } | null {
  if (!VDC_SETTING_KEYS.includes(key))
    return { field: "key", message: `${key} is the cluster's alone; a vdc can have ${VDC_SETTING_KEYS.join(", ")}` };
  return VDC_NAME.test(vdc) ? null : { field: "vdc", message: `expected the name of a vdc, not ${JSON.stringify(vdc)}` };
}

/** Rules between settings; the first that does not hold, in words, or null. */
export function settingsConflict(settings: Settings): string | null {
  const claim = settings["ha.claimMs"];
  const heartbeat = settings["ha.heartbeatMs"];
  if (claim < 4 * heartbeat) return `ha.claimMs (${claim}) must be at least 4 × ha.heartbeatMs (${heartbeat})`;
  if (settings["ha.killLeadMs"] * 2 > claim)
    return `ha.killLeadMs (${settings["ha.killLeadMs"]}) must be at most half of ha.claimMs (${claim})`;
  if (settings["ha.marginMs"] < claim * 0.01)
    return `ha.marginMs (${settings["ha.marginMs"]}) must be at least 1 % of ha.claimMs (${claim})`;
  return null;
}
