import t from "tap";
import { usageOf } from "../../src/model/capacity.ts";
import type { View } from "../../src/model/view.ts";
import type { Vm } from "../../src/model/vm.ts";
import { Waiting } from "../../src/placing/waiting.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const NOW_MS = 1_000;
const LONGEST_MS = 30_000;
const vm = (id: string, changes: Partial<Vm> = {}): Vm => ({ ...testVm(id, {}), ...changes });
const wanted = testVm("x", {}).desired;
const names = (vms: Vm[]): string => vms.map((one) => one.id).join(" ");
const reason = (code: string) => [{ code, nodes: 1, detail: "" }];

function waitingFor(view: View): Waiting {
  const waiting = new Waiting();
  waiting.reset(view);
  return waiting;
}

t.test("pending: wanted, free, its back-off over; in order of creation", (t) => {
  const view = testView(
    [],
    [
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
    ],
  );
  const waiting = waitingFor(view);
  t.equal(names(waiting.due(view, "pending", 0, NOW_MS)), "a now c");
  t.equal(names(waiting.due(view, "recovering", 0, NOW_MS)), "recovering");
  t.end();
});

t.test("recovering: by priority, highest first, then by number", (t) => {
  const ha = (priority: number): Pick<Vm, "definition"> => ({
    definition: { ...testVm("x", {}).definition, ha: { enabled: true, priority, onQuorumLoss: "stop" } },
  });
  const view = testView(
    [],
    [
      vm("low", { state: "recovering", number: 1, ...ha(0) }),
      vm("high2", { state: "recovering", number: 4, ...ha(9) }),
      vm("high1", { state: "recovering", number: 3, ...ha(9) }),
      vm("middle", { state: "recovering", number: 2, ...ha(5) }),
    ],
  );
  t.equal(names(waitingFor(view).due(view, "recovering", 0, NOW_MS)), "high1 high2 middle low");
  t.end();
});

t.test("back-off: 1, 2, 4, 8, 16 s, then every scheduler.retryMs, and no jitter (SCH-14)", (t) => {
  const view = testView([testNode("n1", {})], [vm("v")]);
  const waiting = waitingFor(view);
  const waits: number[] = [];
  let nowMs = 0;
  for (let i = 0; i < 8; i++) {
    waiting.refused(view.vms.get("v")!, reason("memory"), nowMs, LONGEST_MS);
    const from = nowMs;
    while (waiting.due(view, "pending", nowMs, NOW_MS).length === 0) nowMs += 250;
    waits.push(nowMs - from);
  }
  t.same(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  t.end();
});

t.test("only those are woken whose reasons could have changed", (t) => {
  // n1 holds 3072 of 4096 MiB; what waits asks for 2048 (big), 1024 (small, refused for memory) and has other reasons.
  const node = testNode("n1", {});
  const there = testVm("there", { memoryMib: 3_072 }, { claim: "n1" });
  const vms = [
    testVm("big", { memoryMib: 2_048 }, { number: 2 }),
    testVm("huge", { memoryMib: 8_192 }, { number: 3 }),
    testVm("arch", {}, { number: 4 }),
    testVm("apart", {}, { number: 5 }),
  ];
  const before = testView([node], [there, ...vms]);
  const usage = usageOf(before);
  const refuseAll = (): Waiting => {
    const waiting = waitingFor({ ...before, usage });
    for (const [id, code] of [
      ["big", "memory"],
      ["huge", "memory"],
      ["arch", "architecture"],
      ["apart", "vm-policy"],
    ] as const)
      waiting.refused(before.vms.get(id)!, reason(code), 0, LONGEST_MS);
    return waiting;
  };
  const woken = (after: View, changed: string[]): string => {
    const waiting = refuseAll();
    waiting.note({ ...after, usage: usageOf(after) }, changed);
    return names(waiting.due(after, "pending", 1, NOW_MS));
  };
  t.equal(woken(before, ["n1", "there"]), "", "nothing changed");
  const left = testView([{ ...node, claimRevision: 9 }], vms);
  t.equal(woken(left, ["n1", "there"]), "big apart", "room for 4096, and another VM has moved");
  const more = testVm("more", { memoryMib: 512 }, { claim: "n1" });
  t.equal(
    woken(testView([{ ...node, claimRevision: 9 }], [there, more, ...vms]), ["n1", "more"]),
    "apart",
    "less room, but somebody moved",
  );
  t.equal(woken(testView([{ ...node, labels: { a: "b" } }], [there, ...vms]), ["n1"]), "big huge arch apart", "the node is another one");
  t.equal(
    woken(testView([node], [there, ...vms], [], { "scheduler.memoryRatio": 2 }), ["self"]),
    "big huge arch apart",
    "a setting may change all",
  );
  t.equal(woken(before, ["self", "0000000000000009"]), "", "other rows of the cluster do not");
  t.end();
});

t.test("who is asked for anew, or conflicted at commit, does not wait long", (t) => {
  const view = testView([testNode("n1", {})], [vm("v"), vm("w", { number: 2 })]);
  const waiting = waitingFor(view);
  for (const id of ["v", "w"]) waiting.refused(view.vms.get(id)!, reason("memory"), 0, LONGEST_MS);
  const asked = { ...view, vms: new Map(view.vms).set("v", vm("v", { desired: { ...wanted, nodeId: "n1" } })) };
  t.equal(names(waiting.due(asked, "pending", 1, NOW_MS)), "v");
  const other = waitingFor(view);
  for (const id of ["v", "w"]) other.conflicted(view.vms.get(id)!, 0, LONGEST_MS);
  t.equal(names(other.due(view, "pending", 49, NOW_MS)), "");
  t.equal(names(other.due(view, "pending", 50, NOW_MS)), "v w");
  t.end();
});
