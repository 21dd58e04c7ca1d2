/**
 * The settings of concurrency limits, by the names that the field knows (LIM-2): the platform's value, and with a prefix that of one kind of
 * driver, device or backup manager: `vcd.openSession`, `nsx.device.openSession`, `veeam.backup.openSession.byvdc`.
 */
import type { Cluster } from "./cluster.ts";
import type { Node } from "./node.ts";
import { defaultSettings, parseSetting, SETTING_RULES, type SettingKey } from "./settings.ts";
import type { PoolKind } from "./task-definitions.ts";

type Part = "size" | "byvdc" | "faststatechanges";

const BASE: Record<PoolKind, string> = { compute: "openSession", device: "device.openSession", backup: "backup.openSession" };

/** The kind's own value, else the platform's. */
export function limitSetting(cluster: Cluster | null, pool: PoolKind, driver: string, part: Part): string | number {
  const base = part === "size" ? BASE[pool] : `${BASE[pool]}.${part}`;
  const own = cluster?.limits?.[`${driver}.${base}`];
  return own ?? (cluster?.settings ?? defaultSettings())[base as SettingKey];
}

const LIMIT_KEY = /^([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.((?:device\.|backup\.)?openSession(?:\.byvdc|\.faststatechanges)?)$/;

/** The platform's key that a key with a prefix stands in for, and the prefix; null for any other key. */
export function limitKey(key: string): { kind: string; base: SettingKey } | null {
  const found = LIMIT_KEY.exec(key);
  const [, kind, base] = found ?? [];
  if (kind === undefined || base === undefined || !Object.hasOwn(SETTING_RULES, base)) return null;
  // `device.openSession` is the platform's own.
  return Object.hasOwn(SETTING_RULES, key) ? null : { kind, base: base as SettingKey };
}

/** As `parseSetting`, for a key with a prefix; null if it is none. */
export function parseLimit(key: string, text: string): { ok: true; value: string | number } | { ok: false; expected: string } | null {
  const known = limitKey(key);
  if (known === null) return null;
  const parsed = parseSetting(known.base, text);
  return parsed.ok ? { ok: true, value: parsed.value } : parsed;
}

/** Settings that are set and have no effect, with why (LIM-3, LIM-6); in order of their keys. */
export function ignoredLimits(cluster: Cluster | null, nodes: Iterable<Node>): { key: string; why: string }[] {
  const infos = [...nodes].flatMap(({ info }) => (info === null ? [] : [info]));
  const found: { key: string; why: string }[] = [];
  for (const key of Object.keys(cluster?.limits ?? {}).toSorted()) {
    const { kind, base } = limitKey(key) ?? { kind: "", base: key };
    const compute = infos.find((info) => info.driver === kind);
    if (base.startsWith("device.") && compute?.devices === true)
      found.push({ key, why: `${kind} is a cloud that does devices too: ${kind}.openSession holds for both, this one is ignored` });
    else if (base === "openSession.byvdc" && cluster?.limits?.[key] === "true" && compute !== undefined && compute.vdcs !== true)
      found.push({ key, why: `the driver ${kind} knows no vdcs: the limit holds for each connection as before` });
    else if (base === "device.openSession.byvdc" && cluster?.limits?.[key] === "true") {
      const device = infos.flatMap((info) => info.connections ?? []).find((one) => one.pool === "device" && one.driver === kind);
      if (device !== undefined && !device.vdcs)
        found.push({ key, why: `${kind} devices know no vdcs: the limit holds for each device as before` });
    }
  }
  return found;
}
