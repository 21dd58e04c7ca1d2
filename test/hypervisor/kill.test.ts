import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { RoostError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { KillRecipe } from "../../src/hypervisor/driver.ts";
import { isGone, kill } from "../../src/hypervisor/kill.ts";
import { domainName, processMark, uuidBytes } from "../../src/hypervisor/libvirt/mark.ts";
import { fakeLibvirtd } from "../support/fake-libvirtd.ts";

const folder = mkdtempSync(join(tmpdir(), "roost-kill-"));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
/** A program whose `comm` is an emulator's, which sleeps and ignores its arguments. */
const EMULATOR = join(folder, "qemu-system-x86");
copyFileSync("/bin/sh", EMULATOR);

const vm = (last: number): string => `0a0b0c0d-0000-4000-8000-${String(last).padStart(12, "0")}`;
const ref = (last: number, generation = 3): { vmId: string; generation: number } => ({ vmId: vm(last), generation });
const recipe = (last: number, socketPath = "/nonexistent/libvirt-sock", generation = 3): KillRecipe => ({
  kind: "libvirt",
  socketPath,
  uri: "qemu:///system",
  uuid: vm(last),
  processMark: processMark(ref(last, generation)),
});

/** Starts a process with the command line that libvirt gives an emulator; resolves when it runs. */
async function emulator(
  last: number,
  generation = 3,
  ignoring = "",
  uuid = vm(last),
): Promise<{ child: ChildProcess; ended: Promise<string | null> }> {
  const argv = ["-name", `guest=${domainName(ref(last, generation), "web")},debug-threads=on`, "-uuid", uuid];
  const child = spawn(EMULATOR, ["-c", `${ignoring} echo up; read line; exit 0`, ...argv], { stdio: ["pipe", "pipe", "ignore"] });
  const ended = new Promise<string | null>((resolve) => child.once("exit", (_, signal) => resolve(signal)));
  await new Promise((resolve) => child.stdout?.once("data", resolve));
  return { child, ended };
}

const options = { libvirtTimeoutMs: 200, limitMs: 10_000, log: silentLogger };

void t.test("without libvirt the process is killed, and only this one", async (t) => {
  const victim = await emulator(1);
  // A VM whose id ends alike has the same mark in the same generation: the whole id decides.
  const sameTail = vm(1).replace("0a0b0c0d", "ffffffff");
  const others = await Promise.all([emulator(1, 2), emulator(1, 13), emulator(1, 30), emulator(2), emulator(1, 3, "", sameTail)]);
  const stranger = spawn("/bin/sh", [
    "-c",
    "echo up; read line",
    "-name",
    `guest=${domainName(ref(1), "web")},debug-threads=on`,
    "-uuid",
    vm(1),
  ]);
  await new Promise((resolve) => stranger.stdout.once("data", resolve));
  t.notOk(await isGone(recipe(1)));
  t.equal((await kill(recipe(1), options)).by, "signal");
  t.equal(await victim.ended, "SIGKILL");
  t.ok(await isGone(recipe(1)));
  t.equal((await kill(recipe(1), options)).by, "absent");
  for (const { child } of [...others, { child: stranger }]) {
    t.equal(child.signalCode, null, child.spawnargs.join(" "));
    child.kill("SIGKILL");
  }
});

void t.test("a process that ignores every other signal, or is stopped, dies too", async (t) => {
  const deaf = await emulator(3, 3, "trap '' TERM INT HUP;");
  deaf.child.kill("SIGSTOP");
  t.equal((await kill(recipe(3), options)).by, "signal");
  t.equal(await deaf.ended, "SIGKILL");
});

void t.test("at its return the process is over, not only signalled", async (t) => {
  // Giving back this much memory takes it a while to die, so that a return right after the signal would be seen.
  const heavy = join(folder, "qemu-system-heavy");
  copyFileSync("/usr/bin/awk", heavy);
  const program = 'BEGIN { s = "x"; for (i = 0; i < 28; i++) s = s s; print length(s); fflush(); getline line < "-" }';
  const argv = ["-name", `guest=${domainName(ref(9), "web")},debug-threads=on`, "-uuid", vm(9)];
  const child = spawn(heavy, [program, ...argv]);
  t.teardown(() => child.kill("SIGKILL"));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  t.equal((await kill(recipe(9), options)).by, "signal");
  let state = "gone";
  try {
    state = /\) (\S)/.exec(readFileSync(`/proc/${child.pid}/stat`, "utf8"))?.[1] ?? "";
  } catch {
    // reaped already
  }
  t.match(state, /^(gone|Z|X)$/);
});

void t.test("libvirt that hangs costs its time limit, then the process is killed", async (t) => {
  const daemon = await fakeLibvirtd();
  const victim = await emulator(4);
  const done = kill(recipe(4, daemon.socketPath), { ...options, libvirtTimeoutMs: 50 });
  t.equal((await done).by, "signal");
  t.equal(await victim.ended, "SIGKILL");
  await daemon.until(() => daemon.connections.size === 0);
  t.strictSame(
    daemon.open.map((call) => call.name),
    ["DOMAIN_LOOKUP_BY_UUID"],
  );
  await daemon.close();
});

void t.test("libvirt destroys the recipe's generation and no other", async (t) => {
  const daemon = await fakeLibvirtd();
  const done = kill(recipe(5, daemon.socketPath), { ...options, libvirtTimeoutMs: 5_000 });
  await daemon.until(() => daemon.open.length === 1);
  daemon.reply("DOMAIN_LOOKUP_BY_UUID", { dom: { name: domainName(ref(5, 13), "web"), uuid: uuidBytes(vm(5)), id: 1 } });
  t.equal((await done).by, "absent", "generation 13 is not 3");
  const again = kill(recipe(5, daemon.socketPath), { ...options, libvirtTimeoutMs: 5_000 });
  await daemon.until(() => daemon.open.length === 1);
  daemon.reply("DOMAIN_LOOKUP_BY_UUID", { dom: { name: domainName(ref(5), "web"), uuid: uuidBytes(vm(5)), id: 1 } });
  await daemon.until(() => daemon.open[0]?.name === "DOMAIN_DESTROY");
  daemon.reply("DOMAIN_DESTROY", null);
  t.equal((await again).by, "libvirt");
  await daemon.close();
});

void t.test("libvirt's word is not taken for the process", async (t) => {
  const daemon = await fakeLibvirtd();
  const victim = await emulator(6);
  const done = kill(recipe(6, daemon.socketPath), { ...options, libvirtTimeoutMs: 5_000 });
  await daemon.until(() => daemon.open.length === 1);
  daemon.reply("DOMAIN_LOOKUP_BY_UUID", { dom: { name: domainName(ref(6), "web"), uuid: uuidBytes(vm(6)), id: 1 } });
  await daemon.until(() => daemon.open[0]?.name === "DOMAIN_DESTROY");
  daemon.reply("DOMAIN_DESTROY", null);
  t.equal((await done).by, "signal", "libvirt said yes, yet the process ran on");
  t.equal(await victim.ended, "SIGKILL");
  await daemon.close();
});

void t.test("a process that cannot be ended in time is an error that names it", async (t) => {
  // A limit of nothing: the first look finds it alive.
  const victim = await emulator(7);
  const error = await kill(recipe(7), { ...options, limitMs: 0 }).catch((caught: unknown) => caught);
  if (error instanceof RoostError) {
    t.equal(error.fault.kind, "timeout");
    t.match(error.message, new RegExp(String(victim.child.pid)));
  } else t.equal((error as { by: string }).by, "signal", "it was quicker than one look");
  t.equal(await victim.ended, "SIGKILL");
});

void t.test("a simulated domain is its file, in its generation", async (t) => {
  const path = join(folder, "x.json");
  const file = (generation: number): KillRecipe => ({ kind: "file", path, vmId: vm(8), generation });
  t.equal((await kill(file(3), options)).by, "absent");
  writeFileSync(path, JSON.stringify({ generation: 4 }));
  t.ok(await isGone(file(3)));
  t.equal((await kill(file(3), options)).by, "absent");
  t.notOk(await isGone(file(4)));
  t.equal((await kill(file(4), options)).by, "file");
  t.notOk(existsSync(path));
  writeFileSync(path, "not json");
  await t.rejects(kill(file(4), options), /damaged/);
});
