import t from "tap";
import { pendingBatch, recoveryBatch } from "../../src/placing/due.ts";
import { testVm } from "../support/world.ts";

const vm = (id: string, number: number, priority: number, row: object = {}) => ({
  ...testVm(id, { ha: { enabled: true, priority, onQuorumLoss: "stop" } }, { state: "recovering", number }),
  ...row,
});

t.test("recovery: by priority, then number; never one that waits or holds a claim (HA-11)", async (t) => {
  const vms = [
    vm("a", 3, 0),
    vm("b", 2, 5),
    vm("c", 1, 0),
    vm("later", 4, 9, { retryAtMs: 101 }),
    vm("claimed", 5, 9, testVm("x", {}, { claim: "n", state: "recovering" })),
  ];
  t.strictSame(
    recoveryBatch(vms, 100).map(({ id }) => id),
    ["b", "c", "a"],
  );
});

t.test("pending: in order of creation, whatever the priority", async (t) => {
  const vms = [vm("a", 2, 9), vm("b", 1, 0)].map((row) => ({ ...row, state: "pending" as const }));
  t.strictSame(
    pendingBatch([...vms, vm("recovering", 0, 0)], 100).map(({ id }) => id),
    ["b", "a"],
  );
});
