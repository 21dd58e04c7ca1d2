/**
 * Keeps what the probe of hardware virtualisation found for an agent that soon comes back: its start, and that of others on the
 * same machine, must not wait for guests that crawl on a KVM that does not work while the deadlines of its VMs run.
 */
import { mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { openBootClock } from "../agent/keeper/boot-clock.ts";
import { probeAcceleration, type ProbeResult } from "../hypervisor/libvirt/probe.ts";
import type { Logger } from "../base/log.ts";

export interface ProbedOptions {
  /** File of the answer. */
  path: string;
  emulatorPath: string;
  arch: string;
}

interface Kept {
  key: string;
  result: ProbeResult;
}

/** Long enough for a restart; not so long that a probe that a busy host misled would stand for good. */
const KEPT_MS = 10 * 60_000;
const PROBE_MS = 10_000;

/** The kept answer, if it is of this boot and of this very QEMU and young; else a new one, kept. Throws what the probe throws. */
export async function probedAcceleration(
  options: ProbedOptions,
  effects: { nowMs: () => number; log: Logger; probe?: typeof probeAcceleration },
): Promise<ProbeResult> {
  const { path, emulatorPath, arch } = options;
  const emulator = await stat(emulatorPath).catch(() => null);
  const key = `${openBootClock().bootId} ${emulatorPath} ${emulator?.ino ?? 0} ${emulator?.mtimeMs ?? 0}`;
  const kept = await read(path, effects.nowMs());
  if (kept?.key === key) return kept.result;
  const result = await (effects.probe ?? probeAcceleration)({ emulatorPath, arch, timeoutMs: PROBE_MS, log: effects.log });
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.new`, JSON.stringify({ key, result } satisfies Kept));
  await rename(`${path}.new`, path);
  return result;
}

/** Null for none, too old, or not readable as what it should be: then it is found out again. */
async function read(path: string, nowMs: number): Promise<Kept | null> {
  try {
    const ageMs = nowMs - (await stat(path)).mtimeMs;
    if (ageMs < 0 || ageMs > KEPT_MS) return null;
    const kept = JSON.parse(await readFile(path, "utf8")) as Partial<Kept> | null;
    const { key, result } = kept ?? {};
    return typeof key === "string" && typeof result?.kvm === "boolean" && typeof result.reason === "string" ? { key, result } : null;
  } catch {
    return null;
  }
}
