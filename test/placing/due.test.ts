import t from "tap";
import type { Vm } from "../../src/model/vm.ts";
import { pendingBatch, recoveryBatch } from "../../src/placing/due.ts";
import { testVm } from "../support/world.ts";

const NOW_MS = 1_000;
const vm = (id: string, changes: Partial<Vm> = {}): Vm => ({ ...testVm(id, {}), ...changes });
const wanted = testVm("x", {}).desired;
const names = (vms: Vm[]): string => vms.map((one) => one.id).join(" ");

t.test("pending: wanted, free, its back-off over; in order of creation", (t) => {
  const vms = [
    vm("c", { number: 3 }),
    vm("a", { number: 1 }),
    vm("later", { retryAtMs: NOW_MS + 1 }),
    vm("now", { number: 2, retryAtMs: NOW_MS }),
    vm("off", { desired: { ...wanted, power: "off" } }),
    vm("deleted", { desired: { ...wanted, deleted: true } }),
    vm("held", { desired: { ...wanted, hold: true } }),
    vm("claimed", { claim: { nodeId: "n1", generation: 1, deadline: true, sinceMs: 0 } }),
    vm("recovering", { state: "recovering" }),
    vm("stopped", { state: "stopped" }),
    vm("unknown", { state: "unknown" }),
  ];
  t.equal(names(pendingBatch(vms, NOW_MS)), "a now c");
  t.equal(names(recoveryBatch(vms, NOW_MS)), "recovering");
  t.end();
});

t.test("recovering: by priority, highest first, then by number", (t) => {
  const ha = (priority: number): Pick<Vm, "definition"> => ({
    definition: { ...testVm("x", {}).definition, ha: { enabled: true, priority, onQuorumLoss: "stop" } },
  });
  const vms = [
    vm("low", { state: "recovering", number: 1, ...ha(0) }),
    vm("high2", { state: "recovering", number: 4, ...ha(9) }),
    vm("high1", { state: "recovering", number: 3, ...ha(9) }),
    vm("middle", { state: "recovering", number: 2, ...ha(5) }),
  ];
  t.equal(names(recoveryBatch(vms, NOW_MS)), "high1 high2 middle low");
  t.end();
});
