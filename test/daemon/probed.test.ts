import { readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../src/base/log.ts";
import { probedAcceleration } from "../../src/daemon/probed.ts";

t.test("the answer of a probe is kept for an agent that soon comes back", async (t) => {
  const folder = t.testdir({ qemu: "one" });
  const options = { path: join(folder, "run", "acceleration.json"), emulatorPath: join(folder, "qemu"), arch: "x86_64" };
  let probes = 0;
  let nowMs = Date.now() + 1_000;
  const effects = {
    nowMs: () => nowMs,
    log: silentLogger,
    probe: async () => ({ kvm: (probes += 1) > 100, reason: `probe ${probes}` }),
  };
  const ask = async (): Promise<string> => (await probedAcceleration(options, effects)).reason;
  t.equal(await ask(), "probe 1");
  t.equal(await ask(), "probe 1", "kept");
  nowMs += 601_000;
  t.equal(await ask(), "probe 2", "too old after ten minutes");
  nowMs = Date.now() + 1_000;
  t.equal(await ask(), "probe 2");
  await utimes(options.emulatorPath, 1, 1);
  t.equal(await ask(), "probe 3", "of another QEMU");
  await writeFile(options.path, (await readFile(options.path, "utf8")).slice(0, -5));
  t.equal(await ask(), "probe 4", "damaged");
  await writeFile(options.path, (await readFile(options.path, "utf8")).replace('"key":"', '"key":"another boot '));
  t.equal(await ask(), "probe 5", "of another boot");
  await t.rejects(
    probedAcceleration(
      { ...options, path: join(folder, "run", "b.json") },
      { ...effects, probe: () => Promise.reject(new Error("no QEMU")) },
    ),
    /no QEMU/,
  );
  t.equal(await ask(), "probe 5", "a failure keeps nothing");
});
