/** Where a VM's vCPUs may run: the pinned ones on their own, the others on what is left. */
import t from "tap";
import { cpuPlacementOf } from "../../src/agent/executor.ts";
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
