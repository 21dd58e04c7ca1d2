/** Jobs on a node: what is done once and what again, what is told, and what is left when something goes wrong in the middle. */
import t from "tap";
import { RoostError } from "../../src/base/errors.ts";
import type { Operation } from "../../src/hypervisor/simulated.ts";
import type { Job, Task } from "../../src/model/task.ts";
import { oneNode } from "../support/one-node.ts";

const ID = "00000000-0000-4000-8000-00000000000a";
const OTHER = "00000000-0000-4000-8000-00000000000b";
const limits = { timeout: 20_000 };
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
const ended = ({ state }: Task): boolean => ["done", "failed", "cancelled", "unknown"].includes(state);
const jobOf = (task: Task | undefined, name: string): Job | undefined => task?.jobs.find((job) => job.name === name);
const away = new RoostError({ kind: "unavailable", reason: "the daemon died" });

/** The agent dies with the first answer that it gives while that holds. */
function diesAnswering({ store, agent }: Pick<Awaited<ReturnType<typeof oneNode>>, "store" | "agent">, when: () => boolean): Promise<void> {
  const propose = store.propose.bind(store);
  return new Promise((resolve) => {
    store.propose = (command, options) => {
      if (command.type !== "task.answer" || !when()) return propose(command, options);
      store.propose = propose;
      void agent.stop();
      resolve();
      return Promise.reject(away);
    };
  });
}

t.test("what happened is told step by step", limits, async (t) => {
  const { agent, create, reaches, tasksOf, task, desire, tuned } = await oneNode(t);
  tuned.prepare = async (_vm, { step, progress }) => {
    step("disk copy started", "p/base.raw");
    progress({ what: "copy", done: 1, total: 2, unit: "bytes" });
  };
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "running");
  const steps = (of: Task | undefined, name: string): string[] => (jobOf(of, name)?.steps ?? []).map((step) => step.name);
  const [deploy] = tasksOf(ID);
  t.equal(deploy?.state, "done");
  t.strictSame(steps(deploy, "configure"), ["disk copy started", "disks ready"]);
  t.strictSame(steps(deploy, "power-on").slice(1), [
    "registered with the keeper",
    "begun",
    "domain defined",
    "domain started paused",
    "claim confirmed",
    "CPUs resumed",
  ]);
  const off = await task((await desire(ID, "force-shutdown")).id, ended);
  t.strictSame(steps(off, "power-off"), ["domain ended", "unregistered at the keeper"]);
});

t.test("a job that takes long tells while it runs", limits, async (t) => {
  const { agent, create, reaches, store, tuned, tasksOf, until } = await oneNode(t);
  let go = (): void => {};
  tuned.prepare = async (_vm, { step, progress }) => {
    if (tasksOf(ID)[0]?.jobs[1]?.state !== "sent") return;
    step("disk copy started", "p/base.raw");
    progress({ what: "copy", done: 1, total: 2, unit: "bytes" });
    await new Promise<void>((resolve) => (go = resolve));
  };
  agent.start();
  await agent.ready;
  await create(ID);
  await until(ID, () => jobOf(tasksOf(ID)[0], "configure")?.progress !== null);
  t.match(jobOf(tasksOf(ID)[0], "configure"), { progress: { done: 1, total: 2 }, steps: [{ name: "disk copy started" }], state: "sent" });
  go();
  await reaches(ID, "running");
  t.equal(jobOf(tasksOf(ID)[0], "configure")?.progress, null);
  t.equal(store.view().tasks.size, 1);
});

t.test("a stalled VM holds its own slot and nothing else", limits, async (t) => {
  const { agent, create, reaches, tuned, store } = await oneNode(t);
  let go = (): void => {};
  const stalled = new Promise<void>((resolve) => (go = resolve));
  tuned.prepare = (vm) => (vm.id === ID ? stalled : Promise.resolve());
  agent.start();
  await agent.ready;
  await create(ID);
  for (let i = 0; i < 10; i++) await create(`${OTHER.slice(0, -1)}${i}`);
  for (let i = 0; i < 10; i++) await reaches(`${OTHER.slice(0, -1)}${i}`, "running");
  t.equal(store.view().vms.get(ID)?.state, "prolog");
  go();
  await reaches(ID, "running");
});

for (const operation of ["define", "start", "resume", "login"] as const) {
  for (const at of ["before", "during", "after"] as const) {
    if (at !== "before" && operation === "login") continue;
    t.test(`the hypervisor's daemon dies ${at} ${operation}: the start goes on, and runs the VM once`, limits, async (t) => {
      const { agent, create, reaches, driver, store, domains, tasksOf } = await oneNode(t);
      agent.start();
      await agent.ready;
      driver.order({ operation, at, fail: away });
      await create(ID);
      await reaches(ID, "running");
      t.strictSame(await domains(), [`${ID}/1 running`]);
      t.equal(driver.effectsOf("start", ID), 1);
      t.equal(driver.effectsOf("resume", ID), 1);
      t.equal(store.view().vms.get(ID)?.failures, 0);
      t.strictSame(
        tasksOf(ID).map(({ state }) => state),
        ["done"],
      );
    });

    t.test(`a start that fails for good ${at} ${operation} is taken back, and the next one succeeds`, limits, async (t) => {
      const { agent, create, reaches, driver, domains, keeper, tasksOf, task, done, place, store } = await oneNode(t);
      agent.start();
      await agent.ready;
      if (operation === "login") return; // not for good
      driver.order({ operation, at, fail: new RoostError({ kind: "internal", reason: "no more threads" }) });
      await create(ID);
      const failed = await task(tasksOf(ID)[0]?.id ?? "", ended);
      t.match(failed, { state: "failed", error: { code: "internal", message: /no more threads/ } });
      t.equal(jobOf(failed, "power-on")?.state, "undone");
      await reaches(ID, "pending");
      await turn();
      t.strictSame(keeper.state.vms.size, 0);
      t.equal(driver.sessions(), 0);
      t.ok(done.includes(`take back ${ID}`));
      store.nowMs += 100_000;
      await place(ID);
      await reaches(ID, "running");
      t.strictSame(await domains(), [`${ID}/2 running`], "nothing of the first start is left");
    });
  }
}

const operations: [Operation, "force-shutdown" | "shutdown" | "pause"][] = [
  ["destroy", "force-shutdown"],
  ["undefine", "force-shutdown"],
  ["state", "force-shutdown"],
  ["shutdown", "shutdown"],
  ["pause", "pause"],
];
for (const [operation, action] of operations) {
  for (const at of ["before", "during", "after"] as const) {
    t.test(`the hypervisor's daemon dies ${at} ${operation}: ${action} goes on`, limits, async (t) => {
      const { agent, create, reaches, driver, desire, domains, task } = await oneNode(t);
      agent.start();
      await agent.ready;
      await create(ID);
      await reaches(ID, "running");
      driver.order({ operation, at, fail: away });
      const { id } = await desire(ID, action);
      t.equal((await task(id, ended)).state, "done");
      if (action === "pause") t.strictSame(await domains(), [`${ID}/1 paused`]);
      else {
        await reaches(ID, "stopped");
        t.strictSame(await domains(), []);
      }
      t.ok(driver.effectsOf(operation, ID) <= 1 || operation === "shutdown", "the state is looked at before it is set again");
    });
  }
}

t.test("an unbroken daemon away for a while: jobs wait for it, and say so", limits, async (t) => {
  const { agent, create, reaches, driver, desire, task, until, tasksOf } = await oneNode(t);
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "running");
  driver.order({ operation: "destroy", fail: away, times: 2 });
  const { id } = await desire(ID, "force-shutdown");
  await until(ID, () => jobOf(tasksOf(ID).at(-1), "power-off")?.steps.some(({ name }) => name === "waits") === true);
  t.equal((await task(id, ended)).state, "done");
});

for (const action of ["restart", "force-restart"] as const) {
  const operation: Operation = action === "restart" ? "reboot" : "reset";
  t.test(`${action} is done once`, limits, async (t) => {
    const { agent, create, reaches, driver, desire, task } = await oneNode(t);
    agent.start();
    await agent.ready;
    await create(ID);
    await reaches(ID, "running");
    const { id } = await desire(ID, action);
    t.equal((await task(id, ended)).state, "done");
    t.equal(driver.effectsOf(operation, ID), 1);
  });

  for (const at of ["before", "during", "after"] as const) {
    t.test(`${action} whose answer is lost ${at} it happens is never repeated`, limits, async (t) => {
      const { agent, create, reaches, driver, desire, task, store } = await oneNode(t);
      agent.start();
      await agent.ready;
      await create(ID);
      await reaches(ID, "running");
      driver.order({ operation, at, fail: new RoostError({ kind: "timeout", what: "it", afterMs: 1 }) });
      const { id } = await desire(ID, action);
      t.match(await task(id, ended), { state: "unknown", error: { code: "unknown", message: /nobody knows whether it happened/ } });
      await new Promise((resolve) => setTimeout(resolve, 30)); // the late effect
      t.equal(driver.effectsOf(operation, ID), at === "before" ? 0 : 1);
      t.equal(store.view().vms.get(ID)?.state, "running");
    });
  }

  t.test(`${action}: an agent that dies between the decision and the answer leaves it unknown`, limits, async (t) => {
    const { agent, make, create, reaches, driver, desire, task, store } = await oneNode(t);
    agent.start();
    await agent.ready;
    await create(ID);
    await reaches(ID, "running");
    const dead = diesAnswering({ store, agent }, () => true);
    const { id } = await desire(ID, action);
    await dead;
    t.equal(driver.effectsOf(operation, ID), 1);
    make().start();
    t.match(await task(id, ended), { state: "unknown" });
    t.equal(driver.effectsOf(operation, ID), 1);
    t.equal(store.view().vms.get(ID)?.state, "running", "the VM itself goes on");
  });
}

t.test("a start begun by an agent that died is not begun again under its generation", limits, async (t) => {
  const { agent, make, create, reaches, driver, store, place, domains, done } = await oneNode(t);
  agent.start();
  await agent.ready;
  const dead = diesAnswering({ store, agent }, () => store.view().vms.get(ID)?.state === "boot");
  await create(ID);
  await dead;
  // Its guest dies, too, before another agent looks.
  await driver.end({ vmId: ID, generation: store.view().vms.get(ID)?.generation ?? 0 }, "crashed");
  make().start();
  await reaches(ID, "pending");
  t.match(store.view().vms.get(ID)?.reason, /interrupted/);
  t.notOk(done.includes(`take back ${ID}`), "what the guest wrote stays");
  store.nowMs += 100_000;
  await place(ID);
  await reaches(ID, "running");
  t.strictSame(await domains(), [`${ID}/2 running`]);
});

t.test("a guest that was let run, and nobody said so in time, has run: its disks are not taken back", limits, async (t) => {
  const { agent, create, reaches, driver, store, done, tasksOf } = await oneNode(t);
  await store.propose({ type: "setting.update", key: "vm.bootTimeoutMs", value: 5_000 }, { actor: "test" });
  const login = driver.login.bind(driver);
  driver.login = async (...call) => {
    const session = await login(...call);
    const resume = session.resume.bind(session);
    session.resume = async (ref) => {
      await resume(ref);
      await new Promise<never>(() => {});
    };
    return session;
  };
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "running");
  t.equal(driver.effectsOf("resume", ID), 1);
  t.notOk(done.includes(`take back ${ID}`));
  t.equal(tasksOf(ID)[0]?.state, "done");
});

t.test("a start that was answered by nobody is found done by the next agent", limits, async (t) => {
  const { agent, make, create, reaches, driver, store, tasksOf } = await oneNode(t);
  agent.start();
  await agent.ready;
  const dead = diesAnswering({ store, agent }, () => store.view().vms.get(ID)?.state === "boot");
  await create(ID);
  await dead;
  make().start();
  await reaches(ID, "running");
  t.equal(driver.effectsOf("start", ID), 1);
  t.equal(driver.effectsOf("resume", ID), 1);
  t.equal(tasksOf(ID)[0]?.state, "done");
});

t.test("a cancelled start stops copying and is taken back", limits, async (t) => {
  const { agent, create, store, tuned, task, tasksOf, done, until, reaches } = await oneNode(t);
  let aborted = false;
  tuned.prepare = (_vm, { signal }) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => {
        aborted = true;
        reject(new Error("stopped"));
      });
    });
  agent.start();
  await agent.ready;
  await create(ID);
  const id = tasksOf(ID)[0]?.id ?? "";
  await until(ID, () => jobOf(store.view().tasks.get(id), "configure")?.state === "sent");
  await turn();
  await store.propose({ type: "task.cancel", taskId: id }, { actor: "user:alice" });
  t.match(await task(id, ended), { state: "cancelled" });
  t.ok(aborted);
  t.ok(done.includes(`take back ${ID}`));
  await reaches(ID, "stopped");
});

t.test("force-shutdown overtakes a start, and delete everything", limits, async (t) => {
  const { agent, create, driver, task, desire, domains, reaches, until, keeper } = await oneNode(t);
  driver.order({ operation: "start", delayMs: 200 });
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "boot");
  const off = await desire(ID, "force-shutdown");
  t.equal((await task(off.id, ended)).state, "done");
  await reaches(ID, "stopped");
  await new Promise((resolve) => setTimeout(resolve, 250)); // the start that was under way
  while ((await domains()).length > 0) await turn();
  t.equal(keeper.state.vms.size, 0);
  const gone = await desire(ID, "delete");
  t.equal((await task(gone.id, ended)).state, "done");
  await until(ID, (vm) => vm === undefined);
});

t.test("a guest that does not listen: the setting is named, and the VM goes on", limits, async (t) => {
  const { agent, create, reaches, driver, desire, task, store, tuned } = await oneNode(t);
  agent.start();
  await agent.ready;
  await create(ID);
  await reaches(ID, "running");
  const login = driver.login.bind(driver);
  let asked = 0;
  driver.login = async () => {
    const session = await login();
    return Object.assign(session, { shutdown: () => Promise.resolve(void asked++) });
  };
  const { id } = await desire(ID, "shutdown");
  while (asked === 0) await turn();
  await task(id, (row) => jobOf(row, "wait-for-power-off")?.state === "sent");
  while (asked < 1) await turn();
  tuned.skewMs = 16_000; // asked again after 15 s
  agent.look();
  while (asked < 2) await turn();
  tuned.skewMs = 1_000_000;
  agent.look();
  t.match(await task(id, ended), {
    state: "failed",
    error: { code: "timeout", message: /did not shut down within \d+ ms \(setting vm.shutdownTimeoutMs\)/, hint: /force-shutdown/ },
  });
  t.match(store.view().vms.get(ID), { state: "running", desired: { power: "on" } });
});
