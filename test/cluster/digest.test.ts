/** Hashes of tables (STA-1): equal where the rows are, whatever their order and form; another hash for any other row. */
import t from "tap";
import { systemClock } from "../../src/base/clock.ts";
import { digestOf, freeze } from "../../src/cluster/digest.ts";
import { verdict } from "../../src/model/digest.ts";
import { NO_MEMBERSHIP } from "../../src/model/membership.ts";
import { State } from "../../src/state/state.ts";
import { CommandLog, decodeCheckpoint, encodeCheckpoint } from "../state/log.ts";

const { signal } = new AbortController();
const digest = async (state: State) => (await digestOf(freeze(state), systemClock, signal)) ?? [];

function setUp(): CommandLog {
  const log = CommandLog.withNodes(3, { level: 2 });
  log.ok({ type: "level.raise", level: 2 });
  for (const id of ["a1", "a2", "b1"]) log.create(id);
  return log;
}

t.test("order of rows and of names in them does not matter, anything else does", async (t) => {
  const log = setUp();
  const same = new State();
  const rows = decodeCheckpoint(encodeCheckpoint(log.state, { index: log.state.index, term: 1, membership: NO_MEMBERSHIP })).rows;
  const others = rows.filter(({ table }) => table !== "events");
  // Events have an order; all else comes backwards, with the names of each row backwards.
  for (const change of [...others.toReversed(), ...rows.filter(({ table }) => table === "events")])
    same.write({ ...change, row: Object.fromEntries(Object.entries(change.row ?? {}).toReversed()) } as typeof change);
  same.moveTo(log.state);
  t.same(await digest(same), await digest(log.state));

  const before = await digest(log.state);
  const vm = log.vm("b1");
  log.state.write({ table: "vms", key: "b1", row: { ...vm, failures: vm.failures + 1 } });
  const after = await digest(log.state);
  const changed = after.filter((one, i) => one.hash !== before[i]?.hash);
  t.same(
    changed.map(({ table }) => table),
    ["vms"],
  );
  t.same(
    changed[0]?.ranges.map(({ first }) => first),
    ["a", "b"],
  );
  t.equal(changed[0]?.ranges[0]?.hash, before.find(({ table }) => table === "vms")?.ranges[0]?.hash);
});

t.test("a row that is written while it is hashed is hashed as it was", async (t) => {
  const log = setUp();
  const expected = await digest(log.state);
  const frozen = freeze(log.state);
  log.create("c1");
  log.ok({ type: "vm.desire", vmId: "a1", action: "delete", nodeId: null });
  t.same(await digestOf(frozen, systemClock, signal), expected);
  t.notSame(await digest(log.state), expected);
});

t.test("answers are compared at one index: the fewer differ, and it is an event", async (t) => {
  const log = setUp();
  const index = log.ok({ type: "digest.ask", why: "test" }).index ?? 0;
  const tables = await digest(log.state);
  t.match(verdict(log.state), { agreeing: [], differing: [], missing: ["n1", "n2", "n3"] });
  const report = (nodeId: string, said: typeof tables, at = index): void =>
    void log.ok({ type: "digest.report", nodeId, index: at, tables: said }, { origin: nodeId });
  report("n1", tables);
  report("n2", tables, index - 1);
  t.match(verdict(log.state), { agreeing: ["n1"], missing: ["n2", "n3"] }, "an answer to another question is none");
  const wrong = tables.map((one) =>
    one.table === "vms"
      ? { ...one, hash: "0", ranges: one.ranges.map((range) => (range.first === "b" ? { ...range, hash: "0" } : range)) }
      : one,
  );
  report("n3", wrong);
  report("n2", tables);
  t.match(verdict(log.state), {
    agreeing: ["n1", "n2"],
    differing: [{ nodeId: "n3", table: "vms", first: "b", otherId: "n1" }],
    missing: [],
  });
  const told = log.events.filter(({ kind }) => kind === "cluster.diverged");
  t.match(told[0], { subjectName: "n3", message: /^table vms differs from n1's at revision \d+, first at keys that begin with "b"$/ });
  log.ok({ type: "digest.ask", why: "test" });
  t.match(verdict(log.state), { differing: [], missing: ["n1", "n2", "n3"] });
  t.end();
});
