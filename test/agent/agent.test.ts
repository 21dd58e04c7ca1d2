import t from "tap";
import { Agent } from "../../src/agent/agent.ts";
import type { Keeper, KeeperReply } from "../../src/agent/keeper/client.ts";
import { startKeeper, statusOf, step } from "../../src/agent/keeper/machine.ts";
import type { KeeperState } from "../../src/agent/keeper/machine.ts";
import type { KeeperAnswer, KeeperRequest } from "../../src/agent/keeper/protocol.ts";
import { systemClock } from "../../src/base/clock.ts";
import { RoostError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { SimulatedDriver } from "../../src/hypervisor/simulated.ts";
import type { Vm, VmState } from "../../src/model/vm.ts";
import { nodeInfo } from "../sim/ha-node.ts";

/** The real machine without a process; its time is set by the test. */
class TestKeeper implements Keeper {
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

async function setUp(t: { teardown: (end: () => Promise<void>) => void }) {
  const store = new MemoryStore("n1");
  const joining = { id: "n1", name: "n1", zone: "", labels: {}, apiAddress: "n1:1", peerAddress: "n1:2" };
  await store.propose({ type: "cluster.init", clusterId: "c", name: "c", caCertificate: "", caKey: "", node: joining }, { actor: "test" });
  const driver = new SimulatedDriver({ clusterId: "c", shutdownDelayMs: 5 }, { clock: systemClock, log: silentLogger });
  const keeper = new TestKeeper();
  keeper.renew();
  const done: string[] = [];
  const tuned = { skewMs: 0, prepared: Promise.resolve(), infos: 0 };
  const make = (): Agent =>
    new Agent(
      { nodeId: "n1", apiAddress: "n1:1", peerAddress: "n1:2", parallel: 4 },
      {
        store,
        driver,
        keeper,
        clock: { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + tuned.skewMs },
        log: silentLogger,
        ensureKeeper: () => Promise.resolve(),
        volumes: {
          prepare: (vm) =>
            tuned.prepared
              .then(() => void done.push(`prepare ${vm.id}`))
              .then(() => ({
                boot: {
                  kernelPath: "/k",
                  initrdPath: null,
                  cmdline: "",
                },
                disks: [],
              })),
          clean: (vm) => Promise.resolve(void done.push(`clean ${vm.id}`)),
          arriving: () => Promise.resolve({ boot: null, disks: [] }),
        },
        nodeInfo: () => {
          tuned.infos++;
          return Promise.resolve(nodeInfo("b"));
        },
        serialLogPath: () => null,
        identity: () => ({ ca: "", cert: "", key: "" }),
      },
    );
  const agent = make();
  t.teardown(async () => {
    await agent.stop();
    await driver.close();
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
  const desire = async (vmId: string, action: "shutdown" | "delete"): Promise<void> => {
    await store.propose({ type: "vm.desire", vmId, action, nodeId: null }, { actor: "test" });
  };
  const domains = async (): Promise<string[]> => {
    const session = await driver.login();
    const list = await session.list();
    await session.logout();
    return list.map(({ vmId, generation, state }) => `${vmId}/${generation % 2 ** 32} ${state}`);
  };
  return { store, driver, keeper, agent, make, until, reaches, place, create, desire, domains, done, tuned };
}

const ID = "00000000-0000-4000-8000-00000000000a";
const limits = { timeout: 20_000 };

t.test("from a claim to a running VM, to its shutdown and deletion", limits, async (t) => {
  const { agent, create, reaches, desire, domains, done, until, keeper, driver, store } = await setUp(t);
  agent.start();
  await agent.ready;
  t.equal(store.view().nodes.get("n1")?.state, "ready");
  await create(ID);
  await reaches(ID, "running");
  t.strictSame(await domains(), [`${ID}/1 running`]);
  t.equal(keeper.state.vms.get(ID)?.phase, "live");
  const asked = keeper.asked.filter((op) => op === "register" || op === "confirm");
  t.strictSame(asked, ["register", "confirm"], "registered before it started, confirmed before it ran");
  await desire(ID, "shutdown");
  await reaches(ID, "stopped");
  t.strictSame(await domains(), []);
  t.equal(keeper.state.vms.size, 0);
  await desire(ID, "delete");
  await until(ID, (vm) => vm === undefined);
  t.strictSame(done, [`prepare ${ID}`, `clean ${ID}`]);
  await agent.stop();
  t.equal(driver.sessions(), 0, "every session logged out");
});

t.test("a VM that dies behind its back is reported, and its next generation starts", limits, async (t) => {
  const { agent, create, reaches, place, driver, store, domains } = await setUp(t);
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "running");
  await driver.end({ vmId: ID, generation: store.view().vms.get(ID)?.generation ?? 0 }, "crashed");
  await reaches(ID, "pending");
  t.match(store.view().vms.get(ID)?.reason, /crashed/);
  await place(ID);
  await reaches(ID, "running");
  t.strictSame(await domains(), [`${ID}/2 running`]);
});

t.test("a start that fails leaves nothing and says why", limits, async (t) => {
  const { agent, create, reaches, driver, store, domains, keeper } = await setUp(t);
  driver.order({ operation: "start", fail: new RoostError({ kind: "unavailable", reason: "no memory for it" }) });
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "pending");
  t.match(store.view().vms.get(ID)?.reason, /could not start: no memory for it/);
  t.strictSame(await domains(), []);
  t.equal(keeper.state.vms.size, 0);
});

t.test("a restarted agent keeps what runs and destroys what it has no claim for, before it is ready", limits, async (t) => {
  const { agent, make, create, reaches, driver, domains, store, keeper } = await setUp(t);
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "running");
  await agent.stop();
  const session = await driver.login();
  const stray = { vmId: "00000000-0000-4000-8000-00000000000b", generation: 5 };
  await session.define({
    ...stray,
    clusterId: "c",
    name: "stray",
    cpus: 1,
    memoryMib: 16,
    boot: { kernelPath: "/k", initrdPath: null, cmdline: "" },
    disks: [],
    nics: [],
    serialLogPath: null,
  });
  await session.start(stray, { paused: false });
  await session.logout();
  // A new keeper, too: it knows nothing.
  keeper.state = startKeeper({ bootId: "b", nonce: "n2", killLeadMs: 500, feed: keeper.state.fed });
  keeper.renew();
  const again = make();
  again.start();
  await again.ready;
  t.strictSame(await domains(), [`${ID}/1 running`]);
  t.equal(keeper.state.vms.get(ID)?.phase, "live", "registered again");
  t.ok(keeper.state.settled);
  t.equal(store.view().vms.get(ID)?.state, "running");
  await again.stop();
});

t.test("without acknowledged time nothing starts; it waits and does not count as failed", limits, async (t) => {
  const { agent, create, reaches, keeper, store } = await setUp(t);
  keeper.state = startKeeper({ bootId: "b", nonce: "n3", killLeadMs: 500, feed: null });
  agent.start();
  await agent.ready;
  await create(ID);
  while (!keeper.asked.includes("register")) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(store.view().vms.get(ID)?.state, "prolog");
  t.equal(store.view().vms.get(ID)?.failures, 0);
  keeper.renew();
  await reaches(ID, "running");
});

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

t.test("a new keeper hears that all is settled only when no start is under way, and the node is described anew", limits, async (t) => {
  const { agent, create, reaches, keeper, driver, tuned } = await setUp(t);
  agent.start();
  await agent.ready;
  let prepare = (): void => {};
  tuned.prepared = new Promise((resolve) => (prepare = resolve));
  await create(ID);
  await turn();
  keeper.state = startKeeper({ bootId: "b", nonce: "n4", killLeadMs: 500, feed: null });
  keeper.renew();
  const infos = tuned.infos;
  let looks = 0;
  const login = driver.login.bind(driver);
  driver.login = () => {
    looks++;
    void turn().then(() => agent.look());
    return login();
  };
  agent.look();
  while (looks < 4) await turn();
  t.notOk(keeper.state.settled);
  while (tuned.infos === infos) await turn();
  prepare();
  await reaches(ID, "running");
  driver.login = login;
  agent.look();
  while (!keeper.state.settled) await turn();
});

t.test("why a VM ended is not forgotten when its report fails", limits, async (t) => {
  const { agent, create, reaches, keeper, store, driver, until } = await setUp(t);
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "running");
  const causes: string[] = [];
  const propose = store.propose.bind(store);
  store.propose = (command, options) => {
    if (command.type !== "vm.report" || command.observed.kind !== "gone") return propose(command, options);
    causes.push(command.observed.cause);
    return causes.length === 1 ? Promise.reject(new RoostError({ kind: "timeout", what: "it", afterMs: 1 })) : propose(command, options);
  };
  const kept = keeper.state.vms.get(ID);
  if (kept === undefined) throw new Error("not registered");
  keeper.state = { ...keeper.state, vms: new Map([[ID, { ...kept, phase: "gone", why: "deadline" }]]) };
  await driver.end({ vmId: ID, generation: kept.generation }, "crashed");
  while (causes.length < 2) await turn();
  await until(ID, (vm) => vm?.claim === null);
  t.strictSame(causes, ["fenced", "fenced"]);
});

t.test("a VM in prolog where the hypervisor does not answer is given back", limits, async (t) => {
  const { agent, create, reaches, store, driver, tuned } = await setUp(t);
  agent.start();
  await agent.ready;
  let logins = 0;
  driver.login = () => {
    logins++;
    return Promise.reject(new RoostError({ kind: "timeout", what: "logging in", afterMs: 1 }));
  };
  await create(ID);
  while (logins < 4) await turn();
  t.equal(store.view().vms.get(ID)?.state, "prolog", "not at once");
  tuned.skewMs = 200_000; // more than vm.bootTimeoutMs
  await reaches(ID, "pending");
  t.match(store.view().vms.get(ID)?.reason, /the hypervisor does not answer/);
});
