/**
 * Ending a domain with nothing but its KillRecipe (HA-3): through libvirt with a short time limit, then by SIGKILL to the
 * very process, and in either case returning only when the process is gone. The keeper runs this in a small process of
 * its own, so it imports nothing but node's fs and the bare libvirt connection.
 */
import { readFile, readdir, unlink } from "node:fs/promises";
import { RoostError, asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { KillRecipe } from "./driver.ts";
import { Connection } from "./libvirt/connection.ts";
import { hasLibvirtCode } from "./libvirt/errors.ts";
import { nameHasMark, uuidBytes } from "./libvirt/mark.ts";
import { constants } from "./libvirt/protocol.gen.ts";

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

/** Ends what the recipe names and returns when nothing of it runs. Throws RoostError `timeout` after `limitMs`, never gives up silently. */
export async function kill(recipe: KillRecipe, options: KillOptions): Promise<KillReport> {
  const startedMs = performance.now();
  const report = (by: KillReport["by"]): KillReport => ({ by, tookMs: Math.round(performance.now() - startedMs) });
  if (recipe.kind === "file") return report((await removeFile(recipe)) ? "file" : "absent");

  const deadlineMs = startedMs + options.limitMs;
  // Noted before libvirt acts: a dying process loses its command line before it has let go of its disks.
  const before = await findProcesses(recipe);
  let byLibvirt = false;
  try {
    byLibvirt = await destroyThroughLibvirt(recipe, Math.min(options.libvirtTimeoutMs, options.limitMs));
  } catch (error) {
    options.log.warn("libvirt did not end the domain; killing its process", { uuid: recipe.uuid, reason: asRoostError(error).message });
  }
  let signalled = false;
  for (;;) {
    const found = await findProcesses(recipe);
    for (const victim of found) {
      if (!(await isSame(victim))) continue;
      signalled = signal(victim.pid) || signalled;
      options.log.warn("sent SIGKILL", { uuid: recipe.uuid, pid: victim.pid });
    }
    const living = await Promise.all([...before, ...found].map(async (victim) => !(await isOver(victim))));
    if (!living.includes(true) && found.length === 0) break;
    if (performance.now() >= deadlineMs) {
      const pids = [...new Set([...before, ...found].map((victim) => victim.pid))].join(", ");
      throw new RoostError({
        kind: "timeout",
        what: `ending the process of domain ${recipe.uuid} (pid ${pids})`,
        afterMs: options.limitMs,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  if (signalled) return report("signal");
  return report(byLibvirt || before.length > 0 ? "libvirt" : "absent");
}

/** True if nothing of what the recipe names runs on this host. */
export async function isGone(recipe: KillRecipe): Promise<boolean> {
  if (recipe.kind === "file") return (await readGeneration(recipe.path)) !== recipe.generation;
  return (await findProcesses(recipe)).length === 0;
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

interface Process {
  pid: number;
  /** Clock ticks since boot at which it started (field 22 of /proc/PID/stat): with the pid, its identity. */
  startTicks: string;
}

/**
 * Emulator processes with the recipe's mark and UUID in their command line. `comm` is looked at first: reading the
 * command line takes the process's memory lock, and a stuck stranger must not hold us up.
 */
async function findProcesses(recipe: KillRecipe & { kind: "libvirt" }): Promise<Process[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const before = await readStat(pid);
      if (before === null || !/qemu|kvm/.test(before.comm)) return null;
      const argv = ((await readProc(pid, "cmdline")) ?? "").split("\0");
      const named = argv.some((argument) => argument.includes(recipe.processMark));
      const uuidAt = argv.indexOf("-uuid");
      if (!named || uuidAt < 0 || argv[uuidAt + 1] !== recipe.uuid) return null;
      return { pid, startTicks: before.startTicks };
    }),
  );
  return found.filter((process) => process !== null);
}

async function isSame(process: Process): Promise<boolean> {
  return (await readStat(process.pid))?.startTicks === process.startTicks;
}

/** Gone, or a zombie whose last thread has ended: while a thread still exits, it may still write to a disk. */
async function isOver(process: Process): Promise<boolean> {
  const stat = await readStat(process.pid);
  if (stat === null || stat.startTicks !== process.startTicks) return true;
  if (stat.state !== "Z" && stat.state !== "X") return false;
  try {
    return (await readdir(`/proc/${process.pid}/task`)).length <= 1;
  } catch {
    return true; // ended between the two looks
  }
}

async function readStat(pid: number): Promise<{ comm: string; state: string; startTicks: string } | null> {
  const text = await readProc(pid, "stat");
  if (text === null) return null;
  // `PID (comm) S …`: comm may hold blanks and brackets, so the fields are counted from the last bracket; state is field 3.
  const close = text.lastIndexOf(")");
  const fields = text.slice(close + 2).split(" ");
  return { comm: text.slice(text.indexOf("(") + 1, close), state: fields[0] ?? "", startTicks: fields[19] ?? "" };
}

async function readProc(pid: number, file: string): Promise<string | null> {
  try {
    return await readFile(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return null; // ended while we looked
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
