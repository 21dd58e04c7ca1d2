/**
 * Finds out whether guests really run on KVM by running one. That /dev/kvm opens proves nothing: on some nested hosts it
 * does, and a guest then crawls or stands still. So a boot sector is run emulated first, and on KVM it must print its
 * marker about as fast: a measure that holds on a busy host too, where a fixed limit would call good hardware bad.
 */
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";

export interface ProbeOptions {
  /** QEMU of the host's own architecture. */
  emulatorPath: string;
  arch: string;
  /** Limit of one run; the whole takes at most two. */
  timeoutMs: number;
  log: Logger;
}

export interface ProbeResult {
  kvm: boolean;
  /** Why, for `node show`. */
  reason: string;
}

/** KVM may take this many times what emulation took; where it works it is as fast, where it crawls 15 times slower. */
const SLOWER_THAN_TCG = 3;
/** Never less than this for KVM: module loading and cold caches are paid by the first run of a kind. */
const LEAST_KVM_MS = 1_000;

const MARKER = "roost-probe-ok";

/**
 * First sector of the probe's disk, up to the marker (16-bit code at 0x7c00):
 *
 *     xor ax, ax | mov ds, ax | mov si, 0x7c22          31c0 8ed8 be227c
 *   next: lodsb | test al, al | jz done                 ac 84c0 7412
 *     mov ah, al | mov dx, 0x3fd                        88c4 bafd03
 *   busy: in al, dx | test al, 0x20 | jz busy           ec a820 74fb     ; COM1 can take a byte
 *     mov al, ah | mov dx, 0x3f8 | out dx, al | jmp next  88e0 baf803 ee ebe9
 *   done: cli | hlt | jmp done                          fa f4 ebfc
 *     the marker and a zero byte follow at 0x7c22
 */
const CODE = "31c08ed8be227cac84c0741288c4bafd03eca82074fb88e0baf803eeebe9faf4ebfc";

export function bootSector(): Uint8Array {
  const sector = new Uint8Array(512);
  const code = Buffer.from(CODE, "hex");
  sector.set(code);
  sector.set(Buffer.from(`${MARKER}\n\0`, "latin1"), code.length);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** Runs the probe, a second or two. Throws `unavailable` only if not even an emulated guest runs, so that no VM could. */
export async function probeAcceleration(options: ProbeOptions): Promise<ProbeResult> {
  if (options.arch !== "x86_64") return { kvm: false, reason: `KVM is only probed on x86_64, not on ${options.arch}` };
  const folder = await mkdtemp(join(tmpdir(), "roost-probe-"));
  try {
    const diskPath = join(folder, "sector.raw");
    await writeFile(diskPath, bootSector());
    const emulated = await run("tcg", diskPath, options, options.timeoutMs);
    if (emulated.printedMs === null) {
      throw new RoostError(
        { kind: "unavailable", reason: `${options.emulatorPath} runs no guest, not even an emulated one: ${emulated.said}` },
        "install QEMU (Debian: qemu-system-x86, seabios) and start the agent again",
      );
    }
    const limitMs = Math.min(options.timeoutMs, Math.max(LEAST_KVM_MS, emulated.printedMs * SLOWER_THAN_TCG));
    const accelerated = await run("kvm", diskPath, options, limitMs);
    const result: ProbeResult =
      accelerated.printedMs === null
        ? { kvm: false, reason: `a guest on KVM did not run: ${accelerated.said} (emulated it took ${emulated.printedMs} ms)` }
        : { kvm: true, reason: `a guest ran on KVM in ${accelerated.printedMs} ms (emulated: ${emulated.printedMs} ms)` };
    options.log.info("probed hardware virtualisation", { kvm: result.kvm, reason: result.reason });
    return result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs the sector until it prints its marker, ends, or the limit; nothing of it runs afterwards. */
function run(
  accelerator: "tcg" | "kvm",
  diskPath: string,
  options: ProbeOptions,
  limitMs: number,
): Promise<{ printedMs: number | null; said: string }> {
  const args = ["-accel", accelerator, "-machine", "pc", "-m", "2", "-nodefaults", "-no-user-config", "-display", "none"];
  args.push("-serial", "stdio", "-drive", `file=${diskPath.replaceAll(",", ",,")},format=raw,if=ide`);
  return new Promise((resolve) => {
    const startedMs = performance.now();
    // Should this process be killed meanwhile, nobody would end the guest: coreutils' timeout does, in a group of their own.
    const guard = ["-s", "KILL", String(Math.ceil(limitMs / 1000) + 1), options.emulatorPath];
    const child = spawn("timeout", [...guard, ...args], { stdio: ["ignore", "pipe", "pipe"], detached: true });
    const end = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // Both have ended by themselves.
      }
    };
    let printed = "";
    let said = "";
    let printedMs: number | null = null;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      end();
      // A process stuck inside /dev/kvm may outlive even SIGKILL for a while: the answer does not wait for it.
      setTimeout(done, 1_000).unref();
    }, limitMs);
    child.stdout.on("data", (chunk: Buffer) => {
      // Bounded: the marker is all that is wanted.
      printed = (printed + chunk.toString("latin1")).slice(-200);
      if (printedMs !== null || !printed.includes(MARKER)) return;
      printedMs = Math.round(performance.now() - startedMs);
      end();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString("utf8")).trim().slice(0, 500);
    });
    const done = (): void => {
      clearTimeout(timer);
      const silence = late ? `no output within ${Math.round(limitMs)} ms` : "QEMU ended without output";
      resolve({ printedMs, said: said === "" ? silence : `${silence}; QEMU said: ${said}` });
    };
    child.once("error", (error) => {
      said = error.message;
      done();
    });
    child.once("close", done);
  });
}
