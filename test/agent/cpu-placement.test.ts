/** Where a VM's vCPUs may run: the pinned ones on their own, the others on what is left. */
import t from "tap";
import { Confiner } from "../../src/agent/confiner.ts";
import { cpuPlacementOf } from "../../src/agent/cpu-placement.ts";
import { systemClock } from "../../src/base/clock.ts";
import { RoostError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import { SimulatedDriver } from "../../src/hypervisor/simulated.ts";
import type { Vm } from "../../src/model/vm.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const numa = [
  { id: 0, cpus: [0, 1, 2, 3], memoryMib: 2_048 },
  { id: 1, cpus: [4, 5, 6, 7], memoryMib: 2_048 },
];
const node = testNode("n1", { cpuTopology: { sockets: 2, coresPerSocket: 4, threadsPerCore: 1, numa } });

function onN1(id: string, cpus: number[] | null, pinning: "any" | "one" = "any"): Vm {
  const vm = testVm(id, { cpus: 2, ...(cpus === null ? {} : { cpuPinning: { numa: pinning } }) }, { claim: "n1" });
  return cpus === null || vm.claim === null ? vm : { ...vm, claim: { ...vm.claim, cpus } };
}

t.test("pinned and shared", async (t) => {
  const [pinned, one, shared] = [onN1("a", [2, 4]), onN1("b", [5, 6], "one"), onN1("c", null)];
  const view = testView([node], [pinned, one, shared]);
  t.same(cpuPlacementOf(view, pinned, "n1"), { kind: "pinned", cpus: [2, 4], numaNode: null });
  t.same(cpuPlacementOf(view, one, "n1"), { kind: "pinned", cpus: [5, 6], numaNode: 1 });
  t.same(cpuPlacementOf(view, shared, "n1"), { kind: "shared", cpus: [0, 1, 3, 7] });
});

t.test("nobody is confined where nobody is pinned, or where nothing would be left", async (t) => {
  const shared = onN1("c", null);
  t.equal(cpuPlacementOf(testView([node], [shared]), shared, "n1"), null);
  const all = [onN1("a", [0, 1, 2, 3]), onN1("b", [4, 5, 6, 7])];
  t.equal(cpuPlacementOf(testView([node], [shared, ...all]), shared, "n1"), null);
  t.equal(cpuPlacementOf(testView([testNode("n1", {})], [shared, ...all]), shared, "n1"), null, "no topology");
});

const uuid = (last: number): string => `11111111-2222-4333-8444-00000000000${last}`;

t.test("VMs that run are kept off the CPUs of a pinned one that comes, and let back when it goes", async (t) => {
  const driver = new SimulatedDriver({ clusterId: "c" }, { clock: systemClock, log: silentLogger });
  t.teardown(() => driver.close());
  const session = await driver.login();
  const run = async (vmId: string): Promise<void> => {
    const shape = { cpus: 2, memoryMib: 64, boot: null, disks: [], nics: [], serialLogPath: null };
    await session.define({ vmId, generation: 1, clusterId: "c", name: "x", ...shape });
    await session.start({ vmId, generation: 1 }, { paused: false });
  };
  const [a, b] = [uuid(1), uuid(2)];
  await run(a);
  await run(b);
  const shared = [onN1(a, null), onN1(b, null)];
  const pinned = onN1("p", [2, 3, 6]);
  let logins = 0;
  const counted = { login: () => (logins++, driver.login()) };
  const confiner = new Confiner({ nodeId: "n1", driver: counted, log: silentLogger });
  /** What is done in the background is done when this many are confined so. */
  const until = async (cpus: number[], ids: string[]): Promise<void> => {
    while (!ids.every((id) => driver.confined.get(id)?.join() === cpus.join())) await new Promise((resolve) => setImmediate(resolve));
  };
  confiner.follow(testView([node], shared));
  t.equal(logins, 0, "without pinned VMs nobody is asked about");
  driver.order({ operation: "confine", vmId: b, fail: new RoostError({ kind: "unavailable", reason: "busy" }) });
  confiner.follow(testView([node], [...shared, pinned]));
  await until([0, 1, 4, 5, 7], [a]);
  t.notOk(driver.confined.has(b), "that one failed");
  // The look under way ends first; the next one does what is left.
  while (!driver.confined.has(b)) {
    confiner.follow(testView([node], [...shared, pinned]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.same(driver.confined.get(b), [0, 1, 4, 5, 7]);
  while (driver.confined.get(a)?.length !== 8 || driver.confined.get(b)?.length !== 8) {
    confiner.follow(testView([node], shared));
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.same(driver.confined.get(a), [0, 1, 2, 3, 4, 5, 6, 7]);
  await session.logout();
});
