/** Jobs of devices and backup managers through the real orchestrator and worker, on simulated drivers. */
import t from "tap";
import { systemClock, type Clock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { ConnectionWorker } from "../../src/agent/connections.ts";
import type { Task } from "../../src/model/task.ts";
import { testConnection } from "../contract/connection.ts";
import { Factory } from "../support/factory.ts";
import { SimulatedConnection } from "../support/simulated-connection.ts";

for (const pool of ["device", "backup"] as const) {
  testConnection(`the simulated ${pool}`, async () => {
    const driver = new SimulatedConnection(pool, "one");
    return { driver, has: (vmId) => Promise.resolve(driver.entries.has(vmId)), hang: () => driver.faults.push("never") };
  });
}

/** Six VMs run; the worker serves one device and one manager. Time stands still unless the test moves it. */
async function served(settings: Record<string, string | number> = {}) {
  const drivers = [new SimulatedConnection("device", "edge", "nsx"), new SimulatedConnection("backup", "vault", "veeam")] as const;
  const timers: { atMs: number; run: () => void }[] = [];
  let nowMs = 0;
  const clock: Clock = {
    ...systemClock,
    monotonicMs: () => nowMs,
    after: (delayMs, run) => (timers.push({ atMs: nowMs + delayMs, run }), () => {}),
  };
  const made = (store: Factory["store"]) => new ConnectionWorker("n1", store, drivers, { clock, log: silentLogger });
  const connections = drivers.map(({ pool, name, kind, maxSessions, vdcs }) => ({ pool, name, driver: kind, maxSessions, vdcs }));
  const factory = new Factory({ nodes: { n1: { connections } }, settings, idle: (pool) => pool !== "compute" });
  const vms = factory.deploy("n1", "red", 6);
  await factory.run();
  const worker = made(factory.store);
  worker.start();
  /** Until nobody has anything to do but to wait. */
  const settle = async (laterMs = 0): Promise<void> => {
    nowMs += laterMs;
    for (const timer of timers.splice(0)) {
      if (timer.atMs <= nowMs) timer.run();
      else timers.push(timer);
    }
    for (let i = 0; i < 40; i++) {
      await factory.run();
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
  };
  const task = (n: number): Task => [...factory.store.state.tasks.values()].toSorted((a, b) => a.number - b.number)[6 + n]!;
  return { device: drivers[0], backup: drivers[1], factory, vms, worker, settle, task, another: () => made(factory.store) };
}

t.test("device and backup: each its own slots, done at the driver once", async (t) => {
  const { device, backup, factory, vms, worker, settle, task } = await served({ "nsx.device.openSession": 3 });
  t.same(
    worker.connections().map(({ pool, name, driver }) => [pool, name, driver]),
    [
      ["device", "edge", "nsx"],
      ["backup", "vault", "veeam"],
    ],
  );
  device.hold();
  backup.hold();
  for (const vmId of vms) factory.enqueue("update-devices", vmId, "edge");
  for (const vmId of vms) factory.enqueue("backup", vmId, "vault");
  await settle();
  t.equal(device.sessions(), 3);
  t.equal(backup.sessions(), 0, "a VM's tasks are serial: its backup comes after its device");
  device.release();
  await settle();
  t.equal(backup.sessions(), 2);
  backup.release();
  await settle();
  t.match(task(0), { state: "done", jobs: [{ steps: [{ name: "device asked", detail: "edge" }] }] });
  t.same([device.effects, device.most, device.sessions()], [6, 3, 0]);
  t.same([backup.effects, backup.most, backup.sessions()], [6, 2, 0]);
  worker.stop();
});

t.test("a failure is undone, before and after the effect, and the same again succeeds", async (t) => {
  for (const edge of ["before", "after"] as const) {
    const { device, factory, vms, worker, settle, task } = await served();
    device.faults.push(edge);
    factory.enqueue("update-devices", vms[0]!, "edge");
    await settle();
    t.match(task(0), {
      state: "failed",
      error: { code: "unavailable", message: new RegExp(`broke ${edge}`) },
      jobs: [{ state: "undone", attempt: 2 }],
    });
    t.equal(device.entries.size, 0, "a clean slate");
    factory.enqueue("update-devices", vms[0]!, "edge");
    await settle();
    t.match(task(1), { state: "done" });
    t.equal(device.entries.size, 1);
    t.equal(device.sessions(), 0);
    worker.stop();
  }
});

t.test("a time limit names its setting; a cancel ends what hangs", async (t) => {
  const { device, factory, vms, worker, settle, task } = await served({ "vm.operationTimeoutMs": 20_000 });
  device.faults.push("never");
  factory.enqueue("update-devices", vms[0]!, "edge");
  await settle();
  t.equal(task(0).state, "running");
  await settle(20_001);
  t.match(task(0), {
    state: "failed",
    error: { code: "timeout", message: "configure-device took longer than 20000 ms (setting vm.operationTimeoutMs)" },
  });

  device.faults.push("never");
  factory.enqueue("update-devices", vms[1]!, "edge");
  await settle();
  factory.do({ type: "task.cancel", taskId: task(1).id });
  await settle();
  t.match(task(1), { state: "cancelled", jobs: [{ state: "undone" }] });
  t.same([device.entries.size, device.sessions()], [0, 0]);
  worker.stop();
});

t.test("an agent that dies in the middle: the next does it again, and the effect is one", async (t) => {
  const { device, factory, vms, worker, settle, task, another } = await served();
  device.hold();
  factory.enqueue("update-devices", vms[0]!, "edge");
  await settle();
  worker.stop();
  // The effect happens all the same, and nobody is told.
  device.entries.set(vms[0]!, task(0).id);
  device.effects += 1;
  device.release();
  const next = another();
  next.start();
  await settle();
  t.match(task(0), { state: "done", jobs: [{ attempt: 1 }] });
  t.equal(device.effects, 1);
  next.stop();
});
