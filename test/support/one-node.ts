/** One node of one process: the real agent, keeper machine, state and orchestrator on a simulated hypervisor. */
import { Agent } from "../../src/agent/agent.ts";
import type { Keeper, KeeperReply } from "../../src/agent/keeper/client.ts";
import { startKeeper, statusOf, step } from "../../src/agent/keeper/machine.ts";
import type { KeeperState } from "../../src/agent/keeper/machine.ts";
import type { KeeperAnswer, KeeperRequest } from "../../src/agent/keeper/protocol.ts";
import type { Volumes } from "../../src/agent/operations.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { SimulatedDriver } from "../../src/hypervisor/simulated.ts";
import type { VmAction } from "../../src/model/lifecycle.ts";
import type { Task } from "../../src/model/task.ts";
import type { Vm, VmState } from "../../src/model/vm.ts";
import { nodeInfo } from "../sim/ha-node.ts";
import { MemoryStore } from "./memory-store.ts";
import { startOrchestrator } from "./orchestrator.ts";

/** How much faster the agent's time runs, so that its pauses cost tests little. */
const AGENT_SPEED = 8;

/** The real machine without a process; its time is set by the test. */
export class TestKeeper implements Keeper {
  state: KeeperState = startKeeper({ bootId: "b", nonce: "n1", killLeadMs: 500, feed: null });
  nowMs = 1_000;
  asked: string[] = [];
  #ask(request: KeeperRequest): KeeperAnswer {
    this.asked.push(request.op);
    const result = step(this.state, { kind: "request", request }, this.nowMs);
    this.state = result.state;
    return result.answer ?? { ok: true };
  }
  #reply(request: KeeperRequest): Promise<KeeperReply> {
    const answer = this.#ask(request);
    return Promise.resolve(answer.ok ? { ok: true, deadlineMs: 0 } : answer);
  }
  renew(): void {
    const answer = this.#ask({ op: "beat" });
    if (!("beat" in answer)) throw new Error("no beat");
    this.#ask({
      op: "ack",
      bootId: "b",
      nonce: this.state.nonce,
      seq: answer.beat.seq,
      grantedMs: 600_000,
      claimRevision: 0,
      claims: null,
    });
  }
  hello = (killLeadMs: number): Promise<KeeperReply> => this.#reply({ op: "hello", killLeadMs });
  beat: Keeper["beat"] = () => {
    const answer = this.#ask({ op: "beat" });
    return "beat" in answer ? Promise.resolve(answer.beat) : Promise.reject(new Error("no beat"));
  };
  ack: Keeper["ack"] = (acknowledgement) => this.#reply({ op: "ack", ...acknowledgement });
  register: Keeper["register"] = (registration) => this.#reply({ op: "register", ...registration });
  confirm: Keeper["confirm"] = (vm) => this.#reply({ op: "confirm", ...vm });
  unregister: Keeper["unregister"] = (vm) => this.#reply({ op: "unregister", ...vm });
  settled: Keeper["settled"] = async () => void (await this.#reply({ op: "settled" }));
  park: Keeper["park"] = (seq, durationMs) => this.#reply({ op: "park", seq, durationMs });
  unpark: Keeper["unpark"] = () => this.#reply({ op: "unpark" });
  list: Keeper["list"] = () => Promise.resolve(statusOf(this.state, this.nowMs, { pid: 1, guardian: "file" }));
  shutdown: Keeper["shutdown"] = () => this.#reply({ op: "shutdown" });
  close(): void {}
}

export async function oneNode(t: { teardown: (end: () => Promise<void>) => void }) {
  const store = new MemoryStore("n1");
  const joining = { id: "n1", name: "n1", zone: "", labels: {}, apiAddress: "n1:1", peerAddress: "n1:2" };
  await store.propose({ type: "cluster.init", clusterId: "c", name: "c", caCertificate: "", caKey: "", node: joining }, { actor: "test" });
  const driver = new SimulatedDriver({ clusterId: "c", shutdownDelayMs: 5 }, { clock: systemClock, log: silentLogger });
  const keeper = new TestKeeper();
  keeper.renew();
  const done: string[] = [];
  const orchestrator = startOrchestrator(store);
  let runs = 0;
  const tuned = {
    skewMs: 0,
    prepared: Promise.resolve(),
    infos: 0,
    /** What else preparing disks does. */
    prepare: (_vm: Vm, _call: Parameters<Volumes["prepare"]>[1]): Promise<void> => Promise.resolve(),
  };
  const agents: Agent[] = [];
  const make = (): Agent => {
    const agent = new Agent(
      { nodeId: "n1", apiAddress: "n1:1", peerAddress: "n1:2", run: `run ${++runs}`, parallel: 4 },
      {
        store,
        driver,
        keeper,
        clock: {
          ...systemClock,
          monotonicMs: () => systemClock.monotonicMs() * AGENT_SPEED + tuned.skewMs,
          after: (delayMs, run) => systemClock.after(delayMs / AGENT_SPEED, run),
        },
        log: silentLogger,
        ensureKeeper: () => Promise.resolve(),
        volumes: {
          prepare: (vm, call) =>
            tuned.prepared
              .then(() => tuned.prepare(vm, call))
              .then(() => void done.push(`prepare ${vm.id}`))
              .then(() => ({
                boot: {
                  kernelPath: "/k",
                  initrdPath: null,
                  cmdline: "",
                },
                disks: [],
              })),
          takeBack: (vm) => Promise.resolve(void done.push(`take back ${vm.id}`)),
          arriving: () => Promise.resolve({ boot: null, disks: [] }),
          clean: (vm) => Promise.resolve(void done.push(`clean ${vm.id}`)),
        },
        nodeInfo: () => {
          tuned.infos++;
          return Promise.resolve(nodeInfo("b"));
        },
        serialLogPath: () => null,
        identity: () => ({ ca: "", cert: "", key: "" }),
      },
    );
    agents.push(agent);
    return agent;
  };
  const agent = make();
  t.teardown(async () => {
    for (const one of agents) await one.stop();
    await driver.close();
    orchestrator.stop();
  });
  const until = (vmId: string, holds: (vm: Vm | undefined) => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = (): boolean => holds(store.view().vms.get(vmId));
      if (look()) return resolve();
      const stop = store.subscribe(() => {
        if (!look()) return;
        stop();
        resolve();
      });
    });
  const reaches = (vmId: string, state: VmState): Promise<void> => until(vmId, (vm) => vm?.state === state);
  const place = async (vmId: string): Promise<void> => {
    const generation = store.view().vms.get(vmId)?.generation ?? 0;
    await store.propose({ type: "vm.place", placements: [{ vmId, nodeId: "n1", generation }], rejections: [] }, { actor: "test" });
  };
  const create = async (vmId: string, restart: "always" | "never" = "always"): Promise<void> => {
    const definition = {
      name: vmId,
      cpus: 1,
      memoryMib: 16,
      arch: "x86_64",
      boot: null,
      disks: [],
      nics: [],
      labels: {},
      restart,
      ha: {
        enabled: true,
        priority: 0,
        onQuorumLoss: "stop" as const,
      },
    };
    await store.propose({ type: "vm.create", vms: [{ id: vmId, definition, hold: false, nodeId: null, power: "on" }] }, { actor: "test" });
    await place(vmId);
  };
  const desire = async (vmId: string, action: VmAction): Promise<Task> => {
    const { taskIds } = await store.propose({ type: "vm.desire", vmId, action, nodeId: null }, { actor: "test" });
    const task = store.view().tasks.get(taskIds?.[0] ?? "");
    if (task === undefined) throw new Error(`${action} made no task`);
    return task;
  };
  /** The task as it is when that holds. */
  const task = (id: string, holds: (task: Task) => boolean): Promise<Task> =>
    new Promise((resolve) => {
      const look = (): boolean => {
        const row = store.view().tasks.get(id);
        if (row === undefined || !holds(row)) return false;
        resolve(row);
        return true;
      };
      if (look()) return;
      const stop = store.subscribe(() => {
        if (look()) stop();
      });
    });
  const tasksOf = (vmId: string): Task[] => [...store.view().tasks.values()].filter(({ object }) => object.id === vmId);
  const domains = async (): Promise<string[]> => {
    const session = await driver.login();
    const list = await session.list();
    await session.logout();
    return list.map(({ vmId, generation, state }) => `${vmId}/${generation % 2 ** 32} ${state}`);
  };
  return { store, driver, keeper, agent, make, until, reaches, place, create, desire, domains, done, tuned, orchestrator, task, tasksOf };
}
