import t from "tap";
import { startKeeper } from "../../src/agent/keeper/machine.ts";
import { RoostError } from "../../src/base/errors.ts";
import { oneNode } from "../support/one-node.ts";

const ID = "00000000-0000-4000-8000-00000000000a";
const limits = { timeout: 20_000 };

t.test("from a claim to a running VM, to its shutdown and deletion", limits, async (t) => {
  const { agent, create, reaches, desire, domains, done, until, keeper, driver, store } = await oneNode(t);
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
  t.strictSame(done, [`prepare ${ID}`, `prepare ${ID}`, `clean ${ID}`], "where disks are is asked again before the start");
  await agent.stop();
  t.equal(driver.sessions(), 0, "every session logged out");
});

t.test("a VM that dies behind its back is reported, and its next generation starts", limits, async (t) => {
  const { agent, create, reaches, place, driver, store, domains } = await oneNode(t);
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
  const { agent, create, reaches, driver, store, domains, keeper } = await oneNode(t);
  driver.order({ operation: "start", fail: new RoostError({ kind: "exhausted", reason: "no memory for it" }) });
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "pending");
  t.match(store.view().vms.get(ID)?.reason, /could not start: no memory for it/);
  t.strictSame(await domains(), []);
  t.equal(keeper.state.vms.size, 0);
});

t.test("a restarted agent keeps what runs and destroys what it has no claim for, before it is ready", limits, async (t) => {
  const { agent, make, create, reaches, driver, domains, store, keeper } = await oneNode(t);
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
  const { agent, create, reaches, keeper, store } = await oneNode(t);
  keeper.state = startKeeper({ bootId: "b", nonce: "n3", killLeadMs: 500, feed: null });
  agent.start();
  await agent.ready;
  await create(ID);
  while (!keeper.asked.includes("register")) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(store.view().vms.get(ID)?.state, "boot");
  t.equal(store.view().vms.get(ID)?.failures, 0);
  keeper.renew();
  await reaches(ID, "running");
});

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

t.test("a new keeper hears that all is settled only when no start is under way, and the node is described anew", limits, async (t) => {
  const { agent, create, reaches, keeper, driver, tuned } = await oneNode(t);
  agent.start();
  await agent.ready;
  let prepare = (): void => {};
  void reaches(ID, "boot").then(() => (tuned.prepared = new Promise((resolve) => (prepare = resolve))));
  await create(ID);
  await reaches(ID, "boot");
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
  const { agent, create, reaches, keeper, store, driver, until } = await oneNode(t);
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

t.test("where the hypervisor does not answer, a start is given up in time and all of it taken back", limits, async (t) => {
  const { agent, create, reaches, store, driver, tuned, done, tasksOf } = await oneNode(t);
  agent.start();
  await agent.ready;
  let logins = 0;
  driver.login = () => {
    logins++;
    return Promise.reject(new RoostError({ kind: "timeout", what: "logging in", afterMs: 1 }));
  };
  await create(ID);
  await reaches(ID, "boot");
  while (logins < 4) await turn();
  t.equal(store.view().vms.get(ID)?.state, "boot", "not at once");
  tuned.skewMs = 200_000; // more than vm.bootTimeoutMs
  await reaches(ID, "pending");
  t.match(
    store.view().vms.get(ID)?.reason,
    /power-on took longer than 120000 ms \(setting vm.bootTimeoutMs\); at last: the hypervisor does not answer/,
  );
  t.strictSame(done, [`prepare ${ID}`, `take back ${ID}`]);
  t.strictSame(
    tasksOf(ID)
      .map(({ state }) => state)
      .slice(0, 1),
    ["failed"],
  );
});
