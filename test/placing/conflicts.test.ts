/**
 * SCH-20 with everything in the way: two schedulers that both believe to lead, plans that come late, in another order, twice or
 * never, users and agents in between. After each command no node holds more than it has room for and no generation is given
 * twice; in the end nobody who fits is left waiting. ROOST_SEED, ROOST_ROUNDS.
 */
import t from "tap";
import type { Clock } from "../../src/base/clock.ts";
import { RoostError } from "../../src/base/errors.ts";
import { seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import type { Store } from "../../src/cluster/store.ts";
import { limitsOf, nodeUsage } from "../../src/model/capacity.ts";
import { checkPlacement, settingsOf } from "../../src/model/placement.ts";
import type { VmPlace } from "../../src/state/commands.ts";
import { placingService } from "../../src/placing/loop.ts";
import { placingCluster } from "../support/placing.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 77);
const rounds = Number(process.env["ROOST_ROUNDS"] ?? 8);
t.comment(`seed ${seed}, ${rounds} rounds`);

type Cluster = Awaited<ReturnType<typeof placingCluster>>;

/** A plan on its way. */
interface Late {
  land(): Promise<void>;
  lose(): void;
}

/** A leader's view of the same state whose proposals land when the test says. */
function lateStore(cluster: Cluster, late: Late[], leads: () => boolean): Store {
  const { store } = cluster;
  return {
    view: () => store.view(),
    read: () => store.read(),
    subscribe: (listener) => store.subscribe(listener),
    eventsSince: (revision) => store.eventsSince(revision),
    leadership: () => ({ ...store.leads, leading: leads() }),
    propose: (command, options) =>
      new Promise((resolve, reject) => {
        late.push({
          land: () => store.propose(command, { actor: options.actor }).then(resolve, reject),
          lose: () => reject(new RoostError({ kind: "unavailable", reason: "lost on the way" })),
        });
      }),
  };
}

async function live(random: Random, where: string, fail: (text: string) => void): Promise<{ conflicts: number; placed: number }> {
  const cluster = await placingCluster(2 + random.below(3));
  const { store } = cluster;
  let nowMs = 0;
  const clock: Clock = { ...placedClock(), monotonicMs: () => nowMs, wallMs: () => store.nowMs };
  const late: Late[] = [];
  let leader = 0;
  let ids = 0;
  const services = [0, 1].map((i) =>
    placingService(
      lateStore(cluster, late, () => leader === i),
      { clock, newId: () => `s${++ids}` },
    ),
  );
  let [conflicts, placed] = [0, 0];
  const given = new Map<string, string>();
  const propose = store.propose.bind(store);
  store.propose = async (command, options) => {
    const result = await propose(command, options);
    if (command.type === "vm.place") {
      conflicts += result.refused?.length ?? 0;
      placed += result.ids?.length ?? 0;
      check(command, result.ids ?? []);
    }
    return result;
  };
  const check = (command: VmPlace, landed: readonly string[]): void => {
    for (const vmId of landed) {
      const vm = store.view().vms.get(vmId)!;
      const right = `${vmId} ${vm.generation}`;
      if (given.has(right)) fail(`${where}: generation ${vm.generation} of ${vmId} twice`);
      given.set(right, vm.claim?.nodeId ?? "");
    }
    for (const nodeId of new Set(command.placements.filter(({ vmId }) => landed.includes(vmId)).map((one) => one.nodeId))) {
      const limits = limitsOf(store.view().nodes.get(nodeId)!, settingsOf(store.view()));
      const used = nodeUsage(store.state.usage, nodeId);
      if (used.memoryMib > limits.memoryMib || used.cpus > limits.cpus)
        fail(`${where}: ${nodeId} holds ${used.memoryMib} of ${limits.memoryMib} MiB`);
    }
  };
  const runs: (Promise<void> | null)[] = [null, null];
  const run = (which: number): void => {
    runs[which] ??= services[which]!.run(1)
      .catch((thrown: unknown) => {
        if (!(thrown instanceof RoostError)) throw thrown;
      })
      .finally(() => (runs[which] = null));
  };
  const pause = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
  const deliver = async (): Promise<void> => {
    const [one] = late.splice(random.below(late.length), 1);
    if (random.below(6) === 0) one?.lose();
    else await one?.land();
    // A proposal that is repeated lands as another command here: the harder case.
    if (random.below(8) === 0) await one?.land();
    await pause();
  };
  for (let step = 0; step < 80; step++) {
    nowMs += random.below(400);
    store.nowMs += 200;
    if (random.below(6) === 0) leader = 1 - leader;
    if (random.below(2) === 0) await cluster.randomChange(random);
    // The one who led before goes on with what it began; now and then it does not know yet.
    run(random.below(5) === 0 ? 1 - leader : leader);
    await pause();
    if (late.length > 0 && random.below(2) === 0) await deliver();
  }
  // The storm is over: one leader, nothing is lost any more.
  for (let quiet = 0; quiet < 60; quiet++) {
    nowMs += 31_000;
    store.nowMs += 61_000;
    run(leader);
    do {
      while (late.length > 0) await late.shift()!.land();
      await pause();
    } while (late.length > 0 || runs.some((one) => one !== null));
  }
  for (const vm of store.view().vms.values()) {
    if (vm.claim !== null || vm.desired.power !== "on" || vm.desired.hold || (vm.state !== "pending" && vm.state !== "recovering"))
      continue;
    const free = [...store.view().nodes.values()].filter(
      (node) => checkPlacement(store.view(), vm, node, { usage: store.state.usage }) === null,
    );
    if (free.length > 0) fail(`${where}: ${vm.id} is left waiting, and ${free.map(({ name }) => name).join(", ")} would take it`);
    if (vm.pendingReasons.length === 0) fail(`${where}: ${vm.id} waits without a reason`);
  }
  return { conflicts, placed };
}

function placedClock(): Clock {
  return { monotonicMs: () => 0, wallMs: () => 0, after: () => () => {} };
}

t.test("never overbooked, never lost", async (t) => {
  let [conflicts, placed] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const faults: string[] = [];
    const lived = await live(seededRandom(seed + round), `round ${round}`, (text) => void faults.push(text));
    conflicts += lived.conflicts;
    placed += lived.placed;
    if (!t.same(faults, [], `round ${round}`)) return;
  }
  t.ok(placed > rounds * 10, `${placed} placed`);
  t.ok(rounds < 8 || conflicts > 20, `${conflicts} placements refused at commit: there were conflicts`);
});
