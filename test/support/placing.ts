/** The scheduler's loop over a store in memory, and the life of a small cluster around it. */
import type { Clock } from "../../src/base/clock.ts";
import type { Random } from "../../src/base/random.ts";
import { RoostError } from "../../src/base/errors.ts";
import type { Command, VmPlace } from "../../src/state/commands.ts";
import type { NodeInfo } from "../../src/model/node.ts";
import type { Vm, VmDefinition } from "../../src/model/vm.ts";
import { placingService } from "../../src/placing/loop.ts";
import { orchestrate, Turns } from "../../src/tasks/orchestrate.ts";
import { MemoryStore } from "./memory-store.ts";
import { definition, fencing, INFO, joining } from "../state/log.ts";

const actor = { actor: "test" };

export async function placingCluster(nodes = 1) {
  const store = new MemoryStore("n1");
  const time = { monotonicMs: 0 };
  const clock: Clock = { monotonicMs: () => time.monotonicMs, wallMs: () => store.nowMs, after: () => () => {} };
  /** What the loop proposed. */
  const plans: VmPlace[] = [];
  const propose = store.propose.bind(store);
  store.propose = (command, options) => {
    if (command.type === "vm.place" && options.actor === "scheduler") plans.push(command);
    return propose(command, options);
  };
  let ids = 0;
  const service = placingService(store, { clock, newId: () => `seed-${++ids}` });
  const as = async (origin: string, command: Command): Promise<void> => {
    store.origin = origin;
    await store.propose(command, actor);
    store.origin = "n1";
  };
  const hello = (id: string, info: Partial<NodeInfo> = {}): Promise<void> =>
    as(id, { type: "node.hello", nodeId: id, info: { ...INFO, ...info }, parkRevision: 0, apiAddress: `${id}:1`, peerAddress: `${id}:2` });
  await as("n1", { type: "cluster.init", clusterId: "c", name: "c", caCertificate: "", caKey: "", node: joining("n1") });
  await hello("n1");
  const addNode = async (id: string, info: Partial<NodeInfo> = {}): Promise<void> => {
    await as("n1", { type: "token.create", id, secretHash: "h", ttlMs: 60_000, uses: 1 });
    await as("n1", { type: "node.join", tokenId: id, secretHash: "h", node: joining(id) });
    await hello(id, info);
  };
  for (let i = 2; i <= nodes; i++) await addNode(`n${i}`);
  const vm = (id: string): Vm => store.view().vms.get(id)!;
  const create = (id: string, changes: Partial<VmDefinition> = {}, hold = false): Promise<void> =>
    as("n1", { type: "vm.create", vms: [{ id, definition: definition(id, changes), hold, nodeId: null, power: "on" }] });
  const gone = (id: string, cause: "failed" | "crashed" | "destroyed" = "failed"): Promise<void> => {
    const { claim } = vm(id);
    return as(claim!.nodeId, {
      type: "vm.report",
      vmId: id,
      nodeId: claim!.nodeId,
      generation: claim!.generation,
      observed: { kind: "gone", cause, detail: "" },
    });
  };
  /** One run of the loop, so much later. */
  const run = async (laterMs = 0): Promise<void> => {
    time.monotonicMs += laterMs;
    store.nowMs += laterMs;
    await service.run(store.term);
  };
  /** All jobs are sent, and succeed: what is placed runs. */
  const work = async (): Promise<void> => {
    for (;;) {
      const sends = orchestrate(store.view(), { inFlight: [], turns: new Turns(), atMs: store.nowMs, max: 100 });
      if (sends.length === 0) return;
      await store.propose({ type: "task.dispatch", sends }, { ...actor, term: store.term });
      for (const { taskId, path, attempt, nodeId, generation } of sends)
        await as(nodeId, { type: "task.answer", taskId, path, attempt, nodeId, generation, outcome: { ok: true }, steps: [] });
    }
  };
  let created = 0;
  /** Something that happens to a cluster. */
  const randomChange = async (random: Random): Promise<void> => {
    const pick = <T>(list: readonly T[]): T => list[random.below(list.length)]!;
    const vms = [...store.view().vms.values()];
    const claimed = vms.filter((one) => one.claim !== null);
    const nodeId = pick([...store.view().nodes.keys()]);
    const refusable = async (act: Promise<void>): Promise<void> =>
      act.catch((thrown: unknown) => {
        if (!(thrown instanceof RoostError)) throw thrown;
      });
    switch (random.below(10)) {
      case 0:
      case 1:
      case 2:
      case 3:
        for (let i = 1 + random.below(6); i > 0; i--)
          await create(`v${++created}`, {
            memoryMib: 256 * (1 + random.below(8)),
            cpus: 1 + random.below(3),
            rank: random.below(6) === 0 ? "freeMemoryMib" : null,
            ha: { enabled: true, priority: random.below(3), onQuorumLoss: "stop" },
          });
        break;
      case 4:
        if (claimed.length > 0) await gone(pick(claimed).id, pick(["failed", "crashed", "destroyed"]));
        break;
      case 5:
        if (vms.length > 0)
          await refusable(
            as("n1", { type: "vm.desire", vmId: pick(vms).id, action: pick(["delete", "force-shutdown", "start"]), nodeId: null }),
          );
        break;
      case 6:
        await refusable(as("n1", { type: "node.enable", nodeId, enabled: random.below(3) > 0 }));
        break;
      case 7:
        if (random.below(2) === 0) await as("n1", { type: "node.suspect", nodeId, silentMs: 1_500 });
        await refusable(as("n1", fencing(nodeId)));
        await hello(nodeId, { memoryMib: 4_096 + 512 * random.below(4) });
        break;
      case 8:
        await as("n1", { type: "setting.update", key: "scheduler.scoring", value: pick(["balance", "consolidate"]) });
        break;
      case 9:
        await as("n1", { type: "setting.update", key: "scheduler.cpuRatio", value: pick([0, 2, 3]) });
        break;
    }
  };
  /** The same, mostly followed by a run of the loop. */
  const randomStep = async (random: Random): Promise<void> => {
    await randomChange(random);
    if (random.below(4) > 0) await run(random.below(5_000));
  };
  return {
    store,
    service,
    plans,
    as,
    hello,
    addNode,
    vm,
    create,
    gone,
    run,
    work,
    randomChange,
    randomStep,
  };
}
