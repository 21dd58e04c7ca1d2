/** The history of the scheduler's inputs: from the present back to any index within retention (SCH-17, SCH-19). */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import type { Command } from "../../src/state/commands.ts";
import { decodeEnvelope } from "../../src/state/codec.ts";
import { apply } from "../../src/state/apply.ts";
import { historyBegins, Past } from "../../src/state/history.ts";
import { State } from "../../src/state/state.ts";
import { NO_MEMBERSHIP } from "../../src/model/membership.ts";
import { CommandLog, decodeCheckpoint, definition, encodeCheckpoint, INFO, pool } from "./log.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 20_261);
t.comment(`seed ${seed}`);

/** What the scheduler reads of a state, as text; written by hand so that the field lists of the code are checked by it. */
function inputs(state: State): string {
  const vms = [...state.vms.values()].map(({ id, number, definition: d, desired, state: s, claim, homeNodeId, underHa, failures }) => [
    id,
    number,
    d,
    desired,
    s,
    claim,
    homeNodeId,
    underHa,
    failures,
  ]);
  const nodes = [...state.nodes.values()].map(({ id, peerId, name, state: s, stateWhy, disabled, zone, labels, info }) => [
    id,
    peerId,
    name,
    s,
    stateWhy,
    disabled ?? null,
    zone,
    labels,
    info,
  ]);
  const sorted = (rows: unknown[][]): unknown[][] => rows.toSorted((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1));
  const usage = [...state.usage.nodes].filter(([, sums]) => sums.placedVms > 0).sort(([a], [b]) => (a < b ? -1 : 1));
  const claims = [...state.claimsByNode].map(([id, set]) => [id, [...set].toSorted()]);
  const pools = [...state.pools.values()].map((row) => [row.id, row.name, row.shared]);
  return JSON.stringify([state.cluster?.settings, sorted(vms), sorted(nodes), sorted(claims), sorted(pools), usage, state.usage.totalCpus]);
}

function randomWalk(steps: number, walkSeed: number): { log: CommandLog; at: Map<number, string> } {
  const random = seededRandom(walkSeed);
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)]!;
  const log = CommandLog.withNodes(3);
  const at = new Map<number, string>();
  const note = (): void => void at.set(log.state.index, inputs(log.state));
  const say = (command: Command, origin = "n1"): void => {
    log.nowMs += random.below(100);
    log.apply(command, { origin });
    note();
  };
  note();
  for (let step = 0; step < steps; step++) {
    const vm = pick([...log.state.vms.values(), undefined]);
    const nodeId = pick(["n1", "n2", "n3"]);
    switch (random.below(9)) {
      case 0:
        say({ type: "vm.create", vms: [{ id: `v${step}`, definition: definition(`v${step}`), hold: false, nodeId: null, power: "on" }] });
        break;
      case 1:
        if (vm === undefined) break;
        say({ type: "vm.place", placements: [{ vmId: vm.id, nodeId, generation: vm.generation }], rejections: [] });
        break;
      case 2:
        if (vm === undefined || vm.claim === null) break;
        say(
          {
            type: "vm.report",
            vmId: vm.id,
            nodeId: vm.claim.nodeId,
            generation: vm.generation,
            observed: pick([{ kind: "running" }, { kind: "gone", cause: pick(["failed", "shutdown"]), detail: "" }]),
          },
          vm.claim.nodeId,
        );
        break;
      case 3:
        if (vm === undefined) break;
        say({ type: "vm.desire", vmId: vm.id, action: pick(["start", "shutdown", "delete", "deploy"]), nodeId: null });
        break;
      case 4:
        say({ type: "node.enable", nodeId, enabled: pick([true, false]) });
        break;
      case 5:
        say({ type: "node.info", nodeId, info: { ...INFO, memoryMib: 4_096 + random.below(3) } }, nodeId);
        break;
      case 6:
        say({ type: "setting.update", key: "scheduler.cpuRatio", value: random.below(4) });
        break;
      case 7:
        say(random.below(2) === 0 ? pool(`p${random.below(3)}`, true) : { type: "pool.delete", name: `p${random.below(3)}` });
        break;
      case 8:
        say(random.below(2) === 0 ? { type: "node.suspect", nodeId, silentMs: 1_500 } : { type: "node.alive", nodeId });
        break;
    }
  }
  return { log, at };
}

t.test("every index within retention can be had again, row for row and sum for sum", (t) => {
  for (let walk = 0; walk < 10; walk++) {
    const { log, at } = randomWalk(300, seed + walk);
    const past = new Past(log.state);
    for (const [index, text] of [...at].toReversed()) {
      const state = past.at(index);
      if (state === null || inputs(state) !== text)
        return t.equal(state === null ? "none" : inputs(state), text, `walk ${walk}, index ${index}`);
    }
    t.equal(past.at(0)?.vms.size, 0, "back to the beginning");
    t.equal(past.at(0)?.cluster, null);
  }
  t.end();
});

t.test("replicas agree on it, and a checkpoint carries it", (t) => {
  const { log } = randomWalk(200, seed);
  t.same([...log.replayed().history], [...log.state.history]);
  const { rows } = decodeCheckpoint(encodeCheckpoint(log.state, { index: log.state.index, term: 1, membership: NO_MEMBERSHIP }));
  const copy = new State();
  for (const row of rows) copy.write(row);
  t.same([...copy.history], [...log.state.history]);
  t.equal(copy.historyBytes, log.state.historyBytes);
  t.end();
});

t.test("what no filter reads leaves no trace", (t) => {
  const log = CommandLog.withNodes(2);
  log.running("v", "n1");
  const before = log.state.history.size;
  const pools = INFO.pools.map((one) => ({ ...one, freeBytes: 7 }));
  log.ok({ type: "node.info", nodeId: "n1", info: { ...INFO, bootId: "boot-n1", pools } }, { origin: "n1" });
  log.ok({ type: "token.create", id: "t", secretHash: "h", ttlMs: 1, uses: 1 });
  log.ok({ type: "vm.retry", vmId: "v" });
  t.equal(log.state.history.size, before);
  t.end();
});

t.test("retention: bytes by setting, oldest first, nothing at 0, and the same on every replica", (t) => {
  const log = CommandLog.withNodes(1);
  log.ok({ type: "setting.update", key: "scheduler.historyMib", value: 0.01 });
  const limit = 0.01 * 1024 * 1024;
  for (let i = 0; i < 300; i++) {
    log.create(`v${i}`);
    const sum = [...log.state.history.values()].reduce((bytes, row) => bytes + row.bytes, 0);
    if (sum > limit || sum !== log.state.historyBytes) return t.fail(`${sum} of ${limit} bytes, counted ${log.state.historyBytes}`);
  }
  const begins = historyBegins(log.state);
  t.ok(begins > 100 && begins < log.state.index - 10, `begins at ${begins} of ${log.state.index}`);
  t.ok(new Past(log.state).at(begins));
  t.equal(new Past(log.state).at(begins - 1), null);
  log.ok({ type: "setting.update", key: "scheduler.historyMib", value: 0 });
  for (let i = 0; i < 10; i++) log.create(`w${i}`);
  t.equal(log.state.history.size, 0);
  t.equal(new Past(log.state).at(log.state.index - 1), null);
  const again = new State();
  for (const { data, index, term } of log.entries) apply(again, decodeEnvelope(data), { index, term });
  t.equal(again.historyBytes, 0);
  t.end();
});

t.test("tasks are nothing that the scheduler reads: they fill no history", (t) => {
  const log = CommandLog.withNodes(1);
  log.running("v", "n1");
  log.ok({ type: "vm.desire", vmId: "v", action: "shutdown", nodeId: null });
  const tables = new Set([...log.state.history.values()].flatMap(({ undo }) => undo.map(({ table }) => table)));
  t.notOk(tables.has("tasks"), [...tables].join());
  t.ok(tables.has("vms"));
  t.end();
});
