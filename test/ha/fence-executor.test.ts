import t from "tap";
import { systemClock } from "../../src/base/clock.ts";
import { RoostError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { PowerFence } from "../../src/fencing/driver.ts";
import { FenceExecutor } from "../../src/ha/fence-executor.ts";
import { fencerService } from "../../src/ha/fencer.ts";
import type { FenceDevice } from "../../src/model/fencing.ts";
import { CommandLog } from "../state/log.ts";
import { MemoryStore } from "../support/memory-store.ts";

/** n1 leads, n2 helps, n3 is silent and holds `kept`, which only a fence frees. Devices are named by level. */
function setUp(t: { teardown(run: () => void): void }, levels: number[] = [1]) {
  const log = CommandLog.withNodes(3);
  log.running("kept", "n3", { ha: { enabled: true, priority: 0, onQuorumLoss: "keep" } });
  for (const level of levels) {
    const device = { name: `d${level}`, level, agent: "redfish", options: {}, secrets: {}, timeoutMs: 1_000 };
    log.ok({ type: "fencing.set", nodeId: "n3", device });
  }
  log.suspect("n3");
  const store = new MemoryStore("n1", log.state);
  store.leads = { leading: true, leaderNodeId: "n1", term: 1, silentMs: 0 };
  /** What the devices do, by their names, as `node` reaches them. */
  const world: { power: string; asked: string[]; broken: Set<string>; reads: (() => void) | null } = {
    power: "on",
    asked: [],
    broken: new Set(),
    reads: null,
  };
  const open = (nodeId: string) => (device: FenceDevice) => {
    const name = device.name;
    const check = (): void => {
      if (world.broken.has(`${nodeId} ${name}`) || world.broken.has(name))
        throw new RoostError({ kind: "unavailable", reason: `${name} cannot be reached` });
    };
    const fence: PowerFence = {
      name,
      off: () => {
        world.asked.push(`${nodeId} ${name}`);
        check();
        world.power = "off";
        return Promise.resolve();
      },
      status: () => {
        check();
        return Promise.resolve(world.power === "off" ? "off" : "on");
      },
    };
    return Promise.resolve(fence);
  };
  const executors = ["n1", "n2"].map((nodeId) => {
    // Each node speaks for itself.
    const own = Object.create(store) as MemoryStore;
    own.read = () => {
      world.reads?.();
      return Promise.resolve(store.view());
    };
    own.propose = (command, options) => {
      const before = store.origin;
      store.origin = nodeId;
      const result = store.propose(command, options);
      store.origin = before;
      return result;
    };
    own.subscribe = (listener) => store.subscribe(listener);
    const executor = new FenceExecutor({ nodeId, store: own, open: open(nodeId), clock: systemClock, log: silentLogger });
    executor.start();
    return executor;
  });
  const now = { ms: 10_000 };
  const clock = { ...systemClock, monotonicMs: () => now.ms };
  const source = { leadingSinceMs: () => 0, beats: () => [] };
  const fencer = fencerService({ nodeId: "n1", store, source, clock, log: silentLogger });
  t.teardown(() => {
    for (const executor of executors) executor.stop();
  });
  /** The leader looks again and again until it is so. */
  const until = async (what: string, isSo: () => boolean): Promise<void> => {
    for (let i = 0; i < 500; i++) {
      await fencer.run(1);
      if (isSo()) return;
      now.ms += 50;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`never: ${what}; ${JSON.stringify(log.state.fencing.get("n3")?.attempt)}`);
  };
  const attempt = () => log.state.fencing.get("n3")?.attempt;
  return { log, store, world, until, attempt };
}

t.test("a silent node with a VM that only a fence frees: switched off by the leader, seen, freed", async (t) => {
  const { log, world, until, attempt } = setUp(t);
  await until("done", () => attempt()?.state === "done");
  t.strictSame(world.asked, ["n1 d1"]);
  t.match(log.vm("kept"), { state: "recovering", claim: null, failover: { proof: { kind: "fence", by: "power", observerId: "n1" } } });
});

t.test("the leader cannot reach the device: another node does it", async (t) => {
  const { log, world, until, attempt } = setUp(t);
  world.broken.add("n1 d1");
  await until("done", () => attempt()?.state === "done");
  t.strictSame(world.asked, ["n1 d1", "n2 d1"]);
  t.match(log.vm("kept").failover?.proof, { observerId: "n2" });
  t.match(attempt()?.steps[0], { nodeId: "n1", text: /d1 was not seen off/ });
});

t.test("levels: the next device where the first is broken", async (t) => {
  const { world, until, attempt, log } = setUp(t, [1, 2]);
  world.broken.add("d1");
  await until("done", () => attempt()?.state === "done");
  t.strictSame(world.asked, ["n1 d1", "n1 d2"]);
  t.match(log.vm("kept").failover?.proof, { device: "d2" });
});

t.test("no majority stands behind it at the moment of the order: nobody is switched off", async (t) => {
  const { world, until, attempt, log } = setUp(t);
  world.reads = () => {
    throw new RoostError({ kind: "unavailable", reason: "no leader is known" });
  };
  await until("both have tried", () => attempt()?.tried.length === 2 && attempt()?.current === null);
  t.strictSame(world.asked, []);
  t.match(attempt()?.steps.at(-1)?.text, /no leader is known/);
  world.reads = null;
  await until("done", () => attempt()?.state === "done");
  t.match(log.vm("kept").claim, null);
});

t.test("it comes back between the intent and the order: left alone", async (t) => {
  const { world, until, attempt, log, store } = setUp(t);
  let reads = 0;
  world.reads = () => {
    reads += 1;
    // The second look is the one right before the order.
    if (reads === 2) void store.propose({ type: "node.alive", nodeId: "n3" }, { actor: "leader", term: 1 });
  };
  await until("cancelled", () => attempt()?.state === "cancelled");
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.strictSame(world.asked, []);
  t.match(log.vm("kept").claim, { nodeId: "n3" });
});
