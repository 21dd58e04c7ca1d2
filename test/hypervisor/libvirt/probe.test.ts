import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../../src/base/log.ts";
import { bootSector, probeAcceleration } from "../../../src/hypervisor/libvirt/probe.ts";

const folder = mkdtempSync(join(tmpdir(), "roost-probe-test-"));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

/** An emulator that behaves as told for `-accel tcg` and `-accel kvm`. */
function emulator(name: string, tcg: string, kvm: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\ncase "$2" in tcg) ${tcg} ;; kvm) ${kvm} ;; esac\n`);
  chmodSync(path, 0o755);
  return path;
}

const WORKS = "printf roost-probe; sleep 0.01; echo -ok; exec sleep 60";
const STUCK = "exec sleep 60";
const probe = (emulatorPath: string, arch = "x86_64"): ReturnType<typeof probeAcceleration> =>
  probeAcceleration({ emulatorPath, arch, timeoutMs: 10_000, log: silentLogger });

void t.test("KVM counts only if a guest prints on it", async (t) => {
  t.match(await probe(emulator("both", WORKS, WORKS)), { kvm: true, reason: /ran on KVM/ });
  t.match(await probe(emulator("stuck", WORKS, STUCK)), { kvm: false, reason: /no output within \d+ ms/ });
  t.match(await probe(emulator("denied", WORKS, "echo no access >&2; exit 1")), { kvm: false, reason: /no access/ });
  t.match(await probe(emulator("both", WORKS, WORKS), "aarch64"), { kvm: false });
});

void t.test("without any guest that runs the fault says what to install", async (t) => {
  await t.rejects(probe(emulator("broken", "echo no firmware >&2; exit 1", WORKS)), /no firmware/);
  await t.rejects(probe(join(folder, "missing")), /No such file/);
});

void t.test("the boot sector is one, and QEMU runs it", async (t) => {
  const sector = bootSector();
  t.equal(sector.length, 512);
  t.strictSame([...sector.subarray(510)], [0x55, 0xaa]);
  // The code loads the text's address, 0x7c00 + 34, as an immediate at offset 5.
  t.equal(Buffer.from(sector).indexOf("roost-probe-ok"), (sector[5] ?? 0) + 256 * (sector[6] ?? 0) - 0x7c00);
  const emulatorPath = "/usr/bin/qemu-system-x86_64";
  if (!existsSync(emulatorPath)) {
    console.log(`# probe of the real machine skipped: no ${emulatorPath}`);
    return;
  }
  const result = await probe(emulatorPath);
  t.comment(result.reason);
  t.match(result, { kvm: Boolean, reason: /emulated/ });
});
