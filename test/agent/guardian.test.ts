import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { openGuardian } from "../../src/agent/guardian.ts";
import type { Guardian } from "../../src/agent/guardian.ts";
import { silentLogger } from "../../src/base/log.ts";

/** A watchdog made of files; its time-out in s. `pets` counts what was written to it. */
function watchdog(timeoutS: number): { guardian: Guardian; pets: () => number; at: (nowMs: number) => void; errors: string[] } {
  const folder = mkdtempSync(join(tmpdir(), "roost-guardian-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, "device"));
  writeFileSync(join(folder, "device", "timeout"), `${timeoutS}\n`);
  const device = join(folder, "device-node", "device");
  mkdirSync(join(folder, "device-node"));
  writeFileSync(device, "");
  let nowMs = 10_000;
  const errors: string[] = [];
  const guardian = openGuardian(
    { kind: "watchdog", device },
    {
      feedPath: join(folder, "feed"),
      bootId: "b",
      usableMs: 3_500,
      sysPath: folder,
      nowMs: () => nowMs,
      log: { ...silentLogger, error: (message) => void errors.push(message) },
    },
  );
  return { guardian, pets: () => readFileSync(device).length, at: (now) => (nowMs = now), errors };
}

t.test("a watchdog slower than a claim is no guardian, is said to be none and is left alone", async (t) => {
  // 3 s + 250 ms <= 3.5 s; 4 s is too long.
  t.match(watchdog(3).guardian.name, /^watchdog:/);
  const slow = watchdog(4);
  t.equal(slow.guardian.name, null);
  t.match(slow.errors, [/NO GUARDIAN/]);
  slow.guardian.pet(10_000);
  t.equal(slow.pets(), 0);
  slow.guardian.feed({ armed: true, deadlineMs: 11_000 }); // for a later keeper only
});

t.test("no deadline before the time at which an earlier pet lets the watchdog act", async (t) => {
  const { guardian, pets, at } = watchdog(3);
  // Opened at 10,000: acts at 13,000.
  t.throws(() => guardian.feed({ armed: true, deadlineMs: 12_999 }), /would act at 13000, after 12999/);
  at(11_000);
  guardian.pet(11_000);
  t.equal(pets(), 1, "still disarmed: it is petted, and acts at 14,000");
  t.throws(() => guardian.feed({ armed: true, deadlineMs: 13_999 }), /would act at 14000/);
  guardian.feed({ armed: true, deadlineMs: 14_100 });
  at(11_200);
  guardian.pet(11_200);
  t.equal(pets(), 1, "11,200 + 3,000 > 14,100");
  guardian.feed({ armed: true, deadlineMs: 15_000 });
  guardian.pet(11_200);
  t.equal(pets(), 2);
  // The deadline comes nearer than 14,200: refused, and not petted past it either.
  t.throws(() => guardian.feed({ armed: true, deadlineMs: 14_000 }), /would act/);
  guardian.pet(11_300);
  t.equal(pets(), 2);
});
