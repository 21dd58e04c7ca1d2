/** The probes folder with real executables, good and bad, and how load is told in steps. */
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { LoadMeter, stepped } from "../../src/agent/load.ts";
import { Probes, runProbes } from "../../src/agent/probes.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";

async function folderOf(test: { teardown(fn: () => unknown): void }, scripts: Record<string, string>, mode = 0o755): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "roost-probes-"));
  test.teardown(() => rm(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(scripts)) {
    await writeFile(join(folder, name), `#!/bin/sh\n${text}\n`);
    await chmod(join(folder, name), mode);
  }
  return folder;
}

t.test("values of all files, sorted; comments and empty lines are skipped", async (t) => {
  const folder = await folderOf(t, { gpu: "echo GPUS=2; echo; echo '# no value'; echo ' MODEL=A 100 '", rack: "echo RACK=r1=x" });
  t.same(await runProbes(folder), { values: { GPUS: "2", MODEL: "A 100", RACK: "r1=x" }, problems: [] });
  t.same(Object.keys((await runProbes(folder)).values), ["GPUS", "MODEL", "RACK"]);
});

t.test("what goes wrong is told, and the rest counts", async (t) => {
  const folder = await folderOf(t, {
    a: "echo GOOD=1; echo what is this; echo 9X=1; echo LONG=$(head -c 300 /dev/zero | tr '\\0' x)",
    b: "echo GOOD=2",
    c: "echo LOST=1; echo no driver >&2; exit 3",
    d: "kill -9 $$",
  });
  const { values, problems } = await runProbes(folder);
  t.same(values, { GOOD: "1" });
  t.same(problems, [
    'a: line 2 is not KEY=VALUE: "what is this"',
    'a: line 3 is not KEY=VALUE: "9X=1"',
    "a: line 4: the value of LONG is longer than 255 characters",
    "b: line 1: GOOD was printed by a already",
    "c: ended with exit code 3: no driver",
    "d: ended with SIGKILL",
  ]);
});

t.test("limits of time and size end a probe with all it started", async (t) => {
  const folder = await folderOf(t, { big: "while :; do echo AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; done", slow: "sleep 1000 & echo X=1; wait" });
  const { values, problems } = await runProbes(folder, { timeoutMs: 300, bytes: 4_096 });
  t.same(values, {});
  t.same(problems, ["big: printed more than 4096 bytes and was killed", "slow: took longer than 300 ms and was killed"]);
});

t.test("only executables that nobody else may write; no folder is no probes", async (t) => {
  const loose = await folderOf(t, { open: "echo X=1" }, 0o777);
  t.same(await runProbes(loose), { values: {}, problems: ["open: others than its owner may write it: not run (chmod go-w)"] });
  t.same(await runProbes(await folderOf(t, { notes: "echo X=1" }, 0o644)), { values: {}, problems: [] });
  t.same(await runProbes("/nowhere/at/all"), { values: {}, problems: [] });
  const broken = await folderOf(t, {});
  await writeFile(join(broken, "x"), "#!/no/such/shell\n");
  await chmod(join(broken, "x"), 0o755);
  t.match((await runProbes(broken)).problems, [/^x: cannot be run: /]);
});

t.test("each change is told", async (t) => {
  const folder = await folderOf(t, { gpu: "echo GPUS=2" });
  const clock = { ...systemClock, after: (_ms: number, run: () => void) => ((rounds = run), () => {}) };
  let rounds: () => void = () => {};
  let tell: () => void = () => {};
  let told = 0;
  const next = (): Promise<void> => new Promise((resolve) => (tell = resolve));
  const probes = new Probes(folder, { clock, log: silentLogger, changed: () => (told++, tell()) });
  const first = next();
  probes.start();
  await first;
  t.same(probes.current.values, { GPUS: "2" });
  await writeFile(join(folder, "gpu"), "#!/bin/sh\necho GPUS=3\n");
  const second = next();
  rounds();
  await second;
  t.same(probes.current.values, { GPUS: "3" });
  probes.stop();
  t.equal(told, 2);
});

t.test("load moves in whole steps", async (t) => {
  t.equal(stepped(14, 10, undefined), 10);
  t.equal(stepped(19, 10, 10), 10, "nine away is not a step");
  t.equal(stepped(21, 10, 10), 20);
  const folder = await folderOf(t, {});
  await writeFile(join(folder, "meminfo"), "MemTotal:       16777216 kB\nMemAvailable:    8000000 kB\n");
  // 8,000,000 kB are 7812.5 MiB; a step of 16 GiB is 1 GiB: 8 of them.
  t.match(await new LoadMeter().sample(16_384, join(folder, "meminfo")), { freeMemoryMib: 8_192 });
  t.equal(await new LoadMeter().sample(16_384, join(folder, "none")), null);
});
