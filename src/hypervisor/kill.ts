/**
 * Ending a domain with nothing but its KillRecipe (HA-3): through libvirt with a short time limit, then by SIGKILL to the
 * very process, and in either case returning only when the process is gone. The keeper runs this in a small process of
 * its own, so it imports nothing but node's fs and the bare libvirt connection.
 */
import { readFile, unlink } from "node:fs/promises";
import { RoostError, asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { KillRecipe } from "./driver.ts";
import { Connection } from "./libvirt/connection.ts";
import { hasLibvirtCode } from "./libvirt/errors.ts";
import { nameHasMark, uuidBytes } from "./libvirt/mark.ts";
import { constants } from "./libvirt/protocol.gen.ts";
import { ProcessTable } from "./processes.ts";
import type { Process } from "./processes.ts";

export interface KillOptions {
  /** How long libvirt may take, connection included, before the process is killed directly. */
  libvirtTimeoutMs: number;
  /** How long all of it may take; then `timeout` is thrown and the host itself is the next thing to reset. */
  limitMs: number;
  log: Logger;
}

export interface KillReport {
  /** What ended it; `absent`: nothing was there to end. */
  by: "libvirt" | "signal" | "file" | "absent";
  tookMs: number;
}

/** Pause between looks at /proc while waiting for an end. */
const POLL_MS = 10;

/** One for all: domains that die together share its looks at /proc. */
const processes = new ProcessTable();

/** Ends what the recipe names and returns when nothing of it runs. Throws RoostError `timeout` after `limitMs`, never gives up silently. */
export async function kill(recipe: KillRecipe, options: KillOptions): Promise<KillReport> {
  const startedMs = performance.now();
  const report = (by: KillReport["by"]): KillReport => ({ by, tookMs: Math.round(performance.now() - startedMs) });
  if (recipe.kind === "file") return report((await removeFile(recipe)) ? "file" : "absent");

  const deadlineMs = startedMs + options.limitMs;
  // Noted before libvirt acts: a dying process loses its command line before it has let go of its disks.
  const targets = new Map<string, Process>();
  const add = (found: readonly Process[]): void => {
    for (const process of found) targets.set(`${process.pid} ${process.startTicks}`, process);
  };
  let trouble: unknown = null;
  try {
    add(processes.known(recipe));
    if (targets.size === 0) add((await processes.scan()).of(recipe));
  } catch (error) {
    trouble = error; // libvirt may know better; the loop looks again
  }
  const hadProcess = targets.size > 0;
  let byLibvirt = false;
  try {
    byLibvirt = await destroyThroughLibvirt(recipe, Math.min(options.libvirtTimeoutMs, options.limitMs));
  } catch (error) {
    options.log.warn("libvirt did not end the domain; killing its process", { uuid: recipe.uuid, reason: asRoostError(error).message });
  }
  const signalled = new Set<Process>();
  for (;;) {
    try {
      for (const victim of targets.values()) {
        if (!processes.isSame(victim) || !signal(victim.pid) || signalled.has(victim)) continue;
        signalled.add(victim);
        options.log.warn("sent SIGKILL", { uuid: recipe.uuid, pid: victim.pid });
      }
      for (const [key, victim] of targets) if (processes.isOver(victim)) targets.delete(key);
      if (targets.size === 0) {
        // Only now a whole look, for what was not known: all that end at the same time share it.
        const scan = await processes.scan();
        add(scan.of(recipe));
        if (targets.size === 0 && scan.unclear.length === 0) break;
        trouble = scan.unclear.length === 0 ? null : unclearError(scan.unclear);
      }
    } catch (error) {
      if (error instanceof RoostError && error.fault.kind === "denied") throw error;
      trouble = error;
    }
    if (performance.now() >= deadlineMs) {
      const pids = [...targets.values()].map((victim) => victim.pid).join(", ") || "unknown";
      throw new RoostError(
        { kind: "timeout", what: `ending the process of domain ${recipe.uuid} (pid ${pids})`, afterMs: options.limitMs },
        undefined,
        { cause: trouble },
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  if (signalled.size > 0) return report("signal");
  return report(byLibvirt || hadProcess ? "libvirt" : "absent");
}

/** True if nothing of what the recipe names runs on this host; throws if that could not be seen. */
export async function isGone(recipe: KillRecipe): Promise<boolean> {
  if (recipe.kind === "file") return (await readGeneration(recipe.path)) !== recipe.generation;
  const scan = await processes.scan();
  if (scan.of(recipe).length > 0) return false;
  if (scan.unclear.length > 0) throw unclearError(scan.unclear);
  return true;
}

/**
 * Looks at the host's emulators, so that `kill` knows its victims without a scan. To be called when a domain was seen
 * running, and now and then; many calls make one scan.
 */
export async function noteProcesses(): Promise<void> {
  await processes.scan();
}

function unclearError(unclear: readonly Process[]): RoostError {
  const pids = unclear.map(({ pid }) => pid).join(", ");
  return new RoostError({ kind: "unavailable", reason: `emulators that do not show what they are (pid ${pids})` });
}

/** Destroys the domain if libvirt runs it in the recipe's generation; false if it does not. */
async function destroyThroughLibvirt(recipe: KillRecipe & { kind: "libvirt" }, timeoutMs: number): Promise<boolean> {
  const { socketPath, uri } = recipe;
  // Opening and the calls share one limit; the connection's own keepalive has no part in so short a life.
  const connecting = Connection.open({ socketPath, uri, callTimeoutMs: timeoutMs, keepalive: { intervalMs: 60_000, count: 2 } }, timeoutMs);
  const work = connecting.then(async (connection) => {
    const { dom } = await connection.call("DOMAIN_LOOKUP_BY_UUID", { uuid: uuidBytes(recipe.uuid) });
    // A newer generation of the same VM may run here with a good claim: it is not ours to end.
    if (!nameHasMark(dom.name, recipe.processMark)) return false;
    await connection.call("DOMAIN_DESTROY", { dom });
    return true;
  });
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new RoostError({ kind: "timeout", what: "destroying through libvirt", afterMs: timeoutMs })),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([work, limit]);
  } catch (error) {
    if (hasLibvirtCode(error, constants.VIR_ERR_NO_DOMAIN)) return false;
    throw error;
  } finally {
    clearTimeout(timer);
    work.catch(() => {}); // its failure was reported by the race, or the limit was
    connecting.then((connection) => connection.close()).catch(() => {}); // never opened: nothing to close
  }
}

function signal(pid: number): boolean {
  try {
    process.kill(pid, "SIGKILL");
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return false;
    throw new RoostError({ kind: "denied", reason: `cannot send SIGKILL to process ${pid}` }, "the keeper must run as root", {
      cause: error,
    });
  }
}

/** The simulated hypervisor's domain is its file. */
async function removeFile(recipe: KillRecipe & { kind: "file" }): Promise<boolean> {
  if ((await readGeneration(recipe.path)) !== recipe.generation) return false;
  try {
    await unlink(recipe.path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

async function readGeneration(path: string): Promise<number | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
  try {
    const record = JSON.parse(text) as { generation?: unknown };
    return typeof record.generation === "number" ? record.generation : null;
  } catch (error) {
    throw new RoostError({ kind: "damaged", what: `simulated domain file ${path}` }, "delete the file to end the domain", { cause: error });
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
