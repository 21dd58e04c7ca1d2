/**
 * What each action does to a VM in each state, and each thing an agent can observe, as tables to read: test/golden/state.
 * ROOST_GOLDEN=write rewrites them; read the difference before it is committed.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import type { Fault } from "../../src/base/errors.ts";
import { legalActions, TRANSITIONS } from "../../src/model/lifecycle.ts";
import type { Desired, RestartPolicy, Vm, VmState } from "../../src/model/vm.ts";
import type { Command, VmDesire, VmObservation } from "../../src/state/commands.ts";
import { CommandLog } from "./log.ts";

const STATES = (Object.keys(TRANSITIONS) as VmState[]).filter((state) => state !== "deleted");
const WITH_CLAIM: readonly VmState[] = ["prolog", "boot", "running", "paused", "shutdown", "migrating", "unknown"];
const OFF: readonly VmState[] = ["stopped", "failed", "suspended"];
const ACTIONS: readonly VmDesire["action"][] = [
  "start",
  "deploy",
  "shutdown",
  "force-shutdown",
  "pause",
  "unpause",
  "restart",
  "force-restart",
  "delete",
];

/** A VM `v` in a state, with its claim on n2 where the state has one. */
function vmIn(
  state: VmState,
  changes: { desired?: Partial<Desired>; restart?: RestartPolicy; home?: string | null; stateSinceMs?: number } = {},
): CommandLog {
  const log = CommandLog.withNodes(2);
  log.running("v", "n2", { restart: changes.restart ?? "on-failure" });
  log.nowMs += 1_000;
  const vm = log.vm("v");
  const desired: Desired = { ...vm.desired, power: OFF.includes(state) ? "off" : "on", deleted: state === "epilog", ...changes.desired };
  const claim = WITH_CLAIM.includes(state) ? vm.claim : null;
  const homeNodeId = changes.home === undefined ? vm.homeNodeId : changes.home;
  const stateSinceMs = changes.stateSinceMs ?? vm.stateSinceMs;
  log.state.write({ table: "vms", key: "v", row: { ...vm, state, claim, desired, homeNodeId, stateSinceMs } });
  return log;
}

function outcome(log: CommandLog, command: Command, origin?: string): string {
  const before = log.state.vms.get("v");
  const { outcome: answer } = log.apply(command, origin === undefined ? {} : { origin });
  if (!answer.ok) return `refused: ${faultText(answer.fault)}`;
  const after = log.state.vms.get("v");
  if (after === undefined) return "gone for good";
  return describe(before, after, log.nowMs);
}

function faultText(fault: Fault): string {
  if (fault.kind !== "precondition") return fault.kind;
  return fault.legal === undefined ? fault.reason : `legal: ${fault.legal.join(", ") || "nothing"}`;
}

function describe(before: Vm | undefined, after: Vm, nowMs: number): string {
  const parts: string[] = [before?.state === after.state ? "-" : after.state];
  if ((before?.claim ?? null) !== null && after.claim === null) parts.push("claim ends");
  const desired = after.desired.deleted ? "deleted" : after.desired.power === "on" ? "on" : `off (${after.desired.how})`;
  parts.push(`wanted ${desired}`);
  if (after.failures > 0) parts.push(`failures ${after.failures}`);
  if (after.retryAtMs > 0) parts.push(`again in ${after.retryAtMs - nowMs} ms`);
  return parts.join(", ");
}

function golden(test: Pick<typeof t, "equal">, name: string, lines: readonly string[]): void {
  const path = join(import.meta.dirname, "../golden/state", `${name}.txt`);
  const text = `${lines.join("\n")}\n`;
  if (process.env["ROOST_GOLDEN"] === "write") writeFileSync(path, text);
  test.equal(text, existsSync(path) ? readFileSync(path, "utf8") : "(no golden file: ROOST_GOLDEN=write)", name);
}

const row = (...cells: string[]): string => {
  const widths = [12, 30, 0];
  return cells
    .map((cell, i) => cell.padEnd(widths[i] ?? 0))
    .join(" ")
    .trimEnd();
};

t.test("actions", (t) => {
  const lines = ["# What an action does to a VM in each state; - is no move.", row("state", "action", "outcome")];
  for (const state of STATES) {
    for (const action of ACTIONS) {
      const log = vmIn(state);
      const text = outcome(log, { type: "vm.desire", vmId: "v", action, nodeId: null });
      lines.push(row(state, action, text));
      // Legal means that it is taken (VM-7); what is not may still hold already.
      if (legalActions(state).includes(action)) t.notMatch(text, /^refused/, `${action} is legal in ${state}`);
    }
  }
  lines.push(
    row(
      "pending",
      "delete, never placed",
      outcome(vmIn("pending", { home: null }), { type: "vm.desire", vmId: "v", action: "delete", nodeId: null }),
    ),
  );
  for (const state of ["running", "shutdown", "unknown", "epilog"] as const) {
    for (const action of ["shutdown", "force-shutdown", "delete"] as const) {
      const log = vmIn(state, { desired: { power: "off", how: "force", deleted: true } });
      lines.push(row(state, `${action}, being deleted`, outcome(log, { type: "vm.desire", vmId: "v", action, nodeId: null })));
    }
  }
  golden(t, "actions", lines);
  t.end();
});

t.test("observations", (t) => {
  const plain: VmObservation[] = [{ kind: "running" }, { kind: "paused" }];
  const report = (log: CommandLog, observed: VmObservation): string => {
    const { generation } = log.vm("v");
    return outcome(log, { type: "vm.report", vmId: "v", nodeId: "n2", generation, observed }, "n2");
  };
  const lines = ["# What an agent's observation makes of a VM in each state; - is no move.", row("state", "observed", "outcome")];
  for (const state of STATES) {
    for (const observed of plain) lines.push(row(state, observed.kind, report(vmIn(state), observed)));
  }
  lines.push(
    "",
    "# The end of a claim: what was wanted comes first, then the restart policy.",
    row("wanted", "cause, restart policy", "outcome"),
  );
  const wishes: [string, Partial<Desired>][] = [
    ["on", {}],
    ["off", { power: "off" }],
    ["deleted", { power: "off", how: "force", deleted: true }],
  ];
  for (const [wish, desired] of wishes) {
    for (const cause of ["shutdown", "destroyed", "crashed", "failed", "never-started", "fenced"] as const) {
      for (const restart of wish === "on" ? (["never", "on-failure", "always"] as const) : (["on-failure"] as const)) {
        const log = vmIn("running", { desired, restart });
        lines.push(row(wish, `${cause}, ${restart}`, report(log, { kind: "gone", cause, detail: "" })));
      }
    }
  }
  lines.push("", "# From any state with a claim.", row("state", "observed", "outcome"));
  for (const state of WITH_CLAIM)
    lines.push(row(state, "gone: crashed", report(vmIn(state), { kind: "gone", cause: "crashed", detail: "" })));
  golden(t, "observations", lines);
  t.end();
});

t.test("failures: back-off doubles up to a minute, then the VM is given up (HA-12)", (t) => {
  const log = CommandLog.withNodes(1);
  log.ok({ type: "setting.update", key: "ha.maxFailures", value: 10 });
  log.create("v");
  const waits: number[] = [];
  for (let i = 1; i <= 10; i++) {
    log.nowMs = Math.max(log.nowMs, log.vm("v").retryAtMs);
    log.place("v", "n1");
    log.report("v", { kind: "gone", cause: "failed", detail: "no disk" });
    waits.push(log.vm("v").retryAtMs - log.nowMs);
  }
  // At once, then 1 s × 2^(n−2), at most 60 s; the tenth failure is the last.
  t.same(waits.slice(0, 9), [-waits[0]! === 0 ? 0 : waits[0], 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  t.match(log.vm("v"), { state: "failed", claim: null, desired: { power: "off" }, reason: /given up after 10 failures/ });

  log.ok({ type: "vm.desire", vmId: "v", action: "start", nodeId: null });
  t.match(log.vm("v"), { state: "pending", failures: 0, retryAtMs: 0 }, "a start forgets them");
  log.place("v", "n1");
  log.done("v", "power-on");
  for (const [ranMs, failures] of [
    [59_000, 1],
    [60_001, 1],
    [60_000, 2],
  ] as const) {
    log.nowMs += ranMs;
    log.report("v", { kind: "gone", cause: "crashed", detail: "" });
    t.equal(log.vm("v").failures, failures, `after ${ranMs} ms`);
    log.place("v", "n1");
    log.done("v", "power-on");
  }
  t.end();
});
