import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import type { Clock } from "../../src/base/clock.ts";
import { RoostError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { DomainEvent, DomainSpec } from "../../src/hypervisor/driver.ts";
import { FileDomainStore } from "../../src/hypervisor/simulated-files.ts";
import { MemoryDomainStore, type StoredDomain } from "../../src/hypervisor/simulated-store.ts";
import { SimulatedDriver } from "../../src/hypervisor/simulated.ts";

/** Time that moves when told; `advance` lets everything that is due happen, promises included. */
class ManualClock implements Clock {
  private nowMs = 1_000;
  private readonly timers = new Set<{ atMs: number; run: () => void }>();

  monotonicMs(): number {
    return this.nowMs;
  }
  wallMs(): number {
    return this.nowMs;
  }
  after(delayMs: number, run: () => void): () => void {
    const timer = { atMs: this.nowMs + delayMs, run };
    this.timers.add(timer);
    return () => void this.timers.delete(timer);
  }
  async advance(byMs: number): Promise<void> {
    const untilMs = this.nowMs + byMs;
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      const [next] = [...this.timers].filter((timer) => timer.atMs <= untilMs).toSorted((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.timers.delete(next);
      this.nowMs = next.atMs;
      next.run();
    }
    this.nowMs = untilMs;
  }
}

const CLUSTER = "c";
const spec = (last: number, generation = 1): DomainSpec => ({
  vmId: `0a0b0c0d-0000-4000-8000-${String(last).padStart(12, "0")}`,
  generation,
  clusterId: CLUSTER,
  name: `vm ${last}`,
  cpus: 2,
  memoryMib: 64,
  boot: null,
  disks: [],
  nics: [],
  serialLogPath: null,
});

async function world(): Promise<{ clock: ManualClock; driver: SimulatedDriver; store: MemoryDomainStore; events: DomainEvent[] }> {
  const clock = new ManualClock();
  const store = new MemoryDomainStore();
  const driver = new SimulatedDriver({ clusterId: CLUSTER, shutdownDelayMs: 100 }, { clock, log: silentLogger, store });
  const events: DomainEvent[] = [];
  driver.watch((event) => void events.push(event));
  await clock.advance(0);
  return { clock, driver, store, events };
}

void t.test("nothing happens but in the time of the clock that was passed in", async (t) => {
  const { clock, driver, events } = await world();
  const session = await driver.login();
  await session.define(spec(1));
  await session.start(spec(1), { paused: false });
  await clock.advance(5_000);
  // 5 s on 2 CPUs.
  t.equal((await session.stats(spec(1))).cpuTimeNs, 5_000 * 1_000_000 * 2);
  await session.shutdown(spec(1));
  await clock.advance(99);
  t.equal((await session.state(spec(1)))?.state, "shutting-down");
  await clock.advance(1);
  t.equal((await session.state(spec(1)))?.state, "defined");
  t.strictSame(
    events.map((event) => event.kind),
    ["started", "gone"],
  );
  await driver.close();
});

void t.test("faults strike as ordered: which call, which VM, how often, how late", async (t) => {
  const { clock, driver } = await world();
  const session = await driver.login();
  const fail = new RoostError({ kind: "unavailable", reason: "ordered" });
  await session.define(spec(1));
  await session.define(spec(2));
  driver.order({ operation: "start", vmId: spec(2).vmId, times: 2, fail });
  await session.start(spec(1), { paused: false });
  await t.rejects(session.start(spec(2), { paused: false }), /ordered/);
  await t.rejects(session.start(spec(2), { paused: false }), /ordered/);
  await session.start(spec(2), { paused: false });
  driver.order({ operation: "destroy", delayMs: 500 });
  let destroyed = false;
  const destroying = session.destroy(spec(1)).then(() => (destroyed = true));
  await clock.advance(499);
  t.notOk(destroyed);
  t.equal((await session.state(spec(1)))?.state, "running");
  await clock.advance(1);
  await destroying;
  t.equal((await session.state(spec(1)))?.state, "defined");
  driver.order({ operation: "login", fail });
  await t.rejects(driver.login(), /ordered/);
  t.equal(driver.sessions(), 1, "a failed login holds no session");
  await driver.close();
});

void t.test("domains outlive their driver, a power-off under way included", async (t) => {
  const { clock, driver, store } = await world();
  const session = await driver.login();
  for (const one of [spec(1), spec(2)]) {
    await session.define(one);
    await session.start(one, { paused: false });
  }
  await session.shutdown(spec(2));
  await driver.close();
  await clock.advance(1_000);
  const next = new SimulatedDriver({ clusterId: CLUSTER, shutdownDelayMs: 100 }, { clock, log: silentLogger, store });
  const events: DomainEvent[] = [];
  next.watch((event) => void events.push(event));
  const found = await (await next.login()).list();
  t.strictSame(
    found.map(({ name, state }) => [name, state]),
    [
      ["vm 1", "running"],
      ["vm 2", "shutting-down"],
    ],
  );
  await clock.advance(100);
  t.match(events, [{ kind: "gone", cause: "shutdown", vmId: spec(2).vmId }]);
  await next.close();
});

void t.test("the same orders give the same events", async (t) => {
  const run = async (): Promise<string> => {
    const { clock, driver, events } = await world();
    const session = await driver.login();
    for (let last = 1; last <= 5; last++) {
      await session.define(spec(last));
      await session.start(spec(last), { paused: last % 2 === 0 });
    }
    await Promise.all([session.shutdown(spec(1)), session.destroy(spec(2)), session.resume(spec(4)), driver.end(spec(3), "crashed")]);
    await clock.advance(1_000);
    await driver.close();
    return JSON.stringify(events);
  };
  t.equal(await run(), await run());
});

void t.test("files: found by polling, never brought back, damage is told", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "roost-simulated-files-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const clock = new ManualClock();
  const store = new FileDomainStore(join(folder, "domains"), { log: silentLogger });
  // Without hints from the file system: polling alone must find it.
  store.watch = () => () => {};
  const driver = new SimulatedDriver({ clusterId: CLUSTER, pollMs: 250 }, { clock, log: silentLogger, store });
  let heard: (event: DomainEvent) => void = () => {};
  const gone = new Promise<DomainEvent>((resolve) => (heard = resolve));
  driver.watch((event) => {
    if (event.kind === "gone") heard(event);
  });
  const session = await driver.login();
  await session.define(spec(1));
  await session.start(spec(1), { paused: true });
  const path = store.pathOf(spec(1).vmId);
  t.match(JSON.parse(readFileSync(path, "utf8")), { generation: 1, state: "paused", clusterId: CLUSTER });
  unlinkSync(path);
  await t.rejects(session.resume(spec(1)), { message: /no domain/ });
  t.notOk(existsSync(path), "a change does not bring a killed domain back");
  await clock.advance(250);
  t.match(await gone, { kind: "gone", cause: "destroyed", vmId: spec(1).vmId, generation: 1 });
  t.notOk(await store.update({ ...spec(1), state: "running", startedWallMs: 0 }));
  t.notOk(existsSync(path));
  await session.start(spec(1), { paused: false });
  await t.rejects(store.create({ ...spec(1, 2), state: "running", startedWallMs: 0 }), /there already/);
  writeFileSync(path, "{");
  await t.rejects(session.list(), /damaged/);
  await driver.close();
});

void t.test("files that are known are read again when somebody changed them", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "roost-simulated-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  // All that it reads was written long ago, so it is not read each time.
  const store = new FileDomainStore(folder, { log: silentLogger, nowMs: () => Date.now() + 60_000 });
  const other = new FileDomainStore(folder, { log: silentLogger });
  const { vmId } = spec(1);
  const domain = (generation: number): StoredDomain => ({
    vmId,
    generation,
    clusterId: CLUSTER,
    name: "v",
    state: "running",
    cpus: 1,
    memoryMib: 16,
    startedWallMs: 0,
  });
  await store.create(domain(1));
  t.match(await store.list(), [{ generation: 1 }]);
  const { ctimeMs } = statSync(store.pathOf(vmId));
  // File times move in steps.
  while (Date.now() - ctimeMs < 20) await new Promise((resolve) => setImmediate(resolve));
  await other.update(domain(2));
  t.match(await store.list(), [{ generation: 2 }], "another wrote into it");
  await other.remove(vmId);
  t.same(await store.list(), []);
  t.equal(await store.get(vmId), null);
});
