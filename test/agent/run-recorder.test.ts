/** What the recorder writes of a simulated hypervisor's domains; whoever drives it notices nothing. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import t from "tap";
import { readRecords } from "../../src/agent/run-log.ts";
import { RunRecorder } from "../../src/agent/run-recorder.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { DomainSpec, Driver } from "../../src/hypervisor/driver.ts";
import { MemoryDomainStore } from "../../src/hypervisor/simulated-store.ts";
import { SimulatedDriver } from "../../src/hypervisor/simulated.ts";

const VM = "0a0b0c0d-0000-4000-8000-000000000001";
const spec = (generation: number): DomainSpec => ({
  vmId: VM,
  generation,
  clusterId: "c",
  name: "web",
  cpus: 1,
  memoryMib: 64,
  boot: null,
  disks: [],
  nics: [],
  serialLogPath: null,
});
const ref = (generation: number): { vmId: string; generation: number } => ({ vmId: VM, generation });

async function setUp(t: { teardown(end: () => void): void }): Promise<{
  open: (inner?: Driver) => Promise<{ recorder: RunRecorder; driver: Driver }>;
  ops: (recorder: RunRecorder) => Promise<string[]>;
  bare: () => Driver;
}> {
  const folder = mkdtempSync(join(tmpdir(), "roost-recorder-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const store = new MemoryDomainStore();
  let bootMs = 100;
  const path = join(folder, "agent.log");
  const open = async (inner = bare()): Promise<{ recorder: RunRecorder; driver: Driver }> => {
    const recorder = await RunRecorder.open({
      clusterId: "c",
      path,
      keeperPath: join(folder, "keeper.log"),
      clock: { bootId: "b", nowMs: () => (bootMs += 10) },
      wallMs: () => 5_000_000 + bootMs,
      log: silentLogger,
    });
    return { recorder, driver: recorder.over(inner) };
  };
  const bare = (): Driver =>
    new SimulatedDriver({ clusterId: "c", cpus: 4, numaNodes: 1, memoryMib: 1_024 }, { clock: systemClock, log: silentLogger, store });
  const ops = async (recorder: RunRecorder): Promise<string[]> => {
    await recorder.runs();
    return (await readRecords(path)).map((one) => ("generation" in one ? `${one.op} ${one.generation}` : one.op));
  };
  return { open, ops, bare };
}

await t.test("a start is on the disk before the guest executes; paused it has not begun", async (t) => {
  const { open, ops } = await setUp(t);
  const { recorder, driver } = await open();
  const session = await driver.login();
  await session.define(spec(1));
  await session.start(ref(1), { paused: true });
  await session.list();
  t.same(await ops(recorder), ["agent"], "nothing has executed yet");
  await session.resume(ref(1));
  t.same(await ops(recorder), ["agent", "begin 1", "runs 1"]);
  const { runs } = await recorder.runs();
  t.match(runs, [{ vmId: VM, generation: 1, sawBegin: true, toMs: null }]);
  await session.destroy(ref(1));
  const [over] = (await recorder.runs()).runs;
  t.match(over, { ended: /ended/ });
  t.ok(over!.toMs! > over!.fromMs);
  await session.list();
  t.equal((await ops(recorder)).filter((op) => op.startsWith("end")).length, 1, "one end, however often it is seen");
});

await t.test("an agent that comes back goes on with the run, and notices one that ended meanwhile", async (t) => {
  const { open, ops, bare } = await setUp(t);
  const first = await open();
  const session = await first.driver.login();
  await session.define(spec(1));
  await session.start(ref(1), { paused: false });
  await first.recorder.close();

  const second = await open();
  await (await second.driver.login()).list();
  t.match((await second.recorder.runs()).runs, [{ generation: 1, sawBegin: true, toMs: null }]);
  await second.recorder.close();
  // None of them is there when it ends.
  for (const { driver } of [first, second]) await driver.close();

  await (await bare().login()).destroy(ref(1));
  const third = await open();
  await (await third.driver.login()).list();
  t.match((await third.recorder.runs()).runs, [{ generation: 1, toMs: Number, ended: "found gone" }]);
  t.same((await ops(third.recorder)).slice(-2), ["agent", "end 1"]);
});

await t.test("what runs without having been begun here is found, and said to be so", async (t) => {
  const { open, bare } = await setUp(t);
  const session = await bare().login();
  await session.define(spec(4));
  await session.start(ref(4), { paused: false });
  const { recorder, driver } = await open();
  await (await driver.login()).list();
  t.match((await recorder.runs()).runs, [{ generation: 4, sawBegin: false, toMs: null }]);
});

await t.test("a list from before an end does not bring the run back", async (t) => {
  const { open, ops, bare } = await setUp(t);
  let answer = (): void => {};
  const ended = new Promise<void>((resolve) => (answer = resolve));
  const plain = bare();
  const listing = await plain.login();
  const slow = await plain.login();
  // What it saw is told only after the end.
  slow.list = async () => {
    const seen = await listing.list();
    await ended;
    return seen;
  };
  plain.login = () => Promise.resolve(slow);
  const { recorder, driver } = await open(plain);
  const session = await driver.login();
  await session.define(spec(1));
  await session.start(ref(1), { paused: false });
  const late = session.list();
  await listing.list();
  await session.destroy(ref(1));
  answer();
  t.match(await late, [{ state: "running" }], "it tells of the time before");
  t.same(await ops(recorder), ["agent", "begin 1", "runs 1", "end 1"]);
  const [run] = (await recorder.runs()).runs;
  t.ok(run!.sureToMs <= run!.toMs!, "it certainly ran no longer than it did");
});

await t.test("what was pushed to another node does not run here, whatever a list calls it, until it is resumed", async (t) => {
  const { open, ops, bare } = await setUp(t);
  const plain = bare();
  const session = await plain.login();
  // The simulated one would pause it; some hypervisors are late with that.
  session.emigrate = () =>
    Promise.resolve({ offer: new Uint8Array(), push: () => Promise.resolve(new Uint8Array()), close: () => Promise.resolve() });
  plain.login = () => Promise.resolve(session);
  const { recorder, driver } = await open(plain);
  const over = await driver.login();
  await over.define(spec(1));
  await over.start(ref(1), { paused: false });
  const emigration = await over.emigrate(ref(1));
  const options = { signal: new AbortController().signal, bandwidthMibPerSecond: null, downtimeMs: 300, progress: () => {} };
  await emigration.push(new Uint8Array(), new Duplex(), options);
  t.match(await over.list(), [{ state: "running" }]);
  t.match((await recorder.runs()).runs, [{ ended: "moved on by live migration" }]);
  t.same(await ops(recorder), ["agent", "begin 1", "runs 1", "end 1"]);
  await over.resume(ref(1));
  t.match((await recorder.runs()).runs, [{ toMs: null }], "taken back, it runs");
});

await t.test("a guest that goes on after a pause runs, by whoever's word and over the agent's end", async (t) => {
  const { open, ops, bare } = await setUp(t);
  const plain = bare();
  const { recorder, driver } = await open(plain);
  const session = await driver.login();
  await session.define(spec(1));
  await session.start(ref(1), { paused: false });
  await session.pause(ref(1));
  await session.resume(ref(1));
  t.same(await ops(recorder), ["agent", "begin 1", "runs 1", "paused 1", "begin 1"], "on record before it goes on");
  await session.pause(ref(1));
  const by = await plain.login();
  await by.resume(ref(1));
  t.same((await ops(recorder)).slice(5), ["paused 1", "runs 1"], "resumed by hand");
  await session.pause(ref(1));
  const after = await open(plain);
  const again = await after.driver.login();
  await again.resume(ref(1));
  const stillThereMs = after.recorder.now().wallMs;
  await again.destroy(ref(1));
  t.same((await ops(after.recorder)).slice(7, 10), ["paused 1", "agent", "begin 1"], "the next agent knows that it stood still");
  const [run] = (await after.recorder.runs()).runs;
  t.ok(run!.toMs! > stillThereMs, "it ended when it was ended, not at a pause");
});
