/** TaskService, LimitService and DoctorService over the store in memory, with agents that answer as told. */
import t from "tap";
import { authorize } from "../../src/api/auth.ts";
import { doctorService } from "../../src/api/services/doctor.ts";
import { limitService } from "../../src/api/services/limit.ts";
import { nodeService } from "../../src/api/services/node.ts";
import { taskService } from "../../src/api/services/task.ts";
import { vmService } from "../../src/api/services/vm.ts";
import { RoostError } from "../../src/base/errors.ts";
import { testCluster } from "../support/api.ts";
import type { TestCluster } from "../support/api.ts";
import { playAgents } from "../support/cli.ts";
import type { Answers } from "../support/cli.ts";
import { faultOf } from "../storage/support.ts";

const CREATE = { node: "", hold: false, stopped: false, plan: false, force: false, requestId: "" };
const LIST = { consistency: "CONSISTENCY_STALE", pageSize: 0, pageToken: "", vm: "", node: "", states: [] } as const;

function definition(name: string, vdc = "") {
  const none = { boot: null, disks: [], nics: [], labels: {}, restart: "", ha: null, partition: "", requirements: "", rank: "" };
  return { name, cpus: 1, memoryMib: 64, arch: "", vdc, cpuPinning: null, cpu: null, ...none };
}

async function create(cluster: TestCluster, names: string[]): Promise<string[]> {
  const answer = await vmService.CreateVm({ ...CREATE, definitions: names.map((name) => definition(name)) } as never, cluster.as());
  return answer.tasks ?? [];
}

/** A cluster whose agents answer as told; they look after each change. */
async function setUp(test: { teardown: (end: () => void) => void }, answers: Answers = () => ({ ok: true })) {
  const cluster = await testCluster(2);
  cluster.server.nowMs = () => cluster.store.nowMs;
  const context = (): ReturnType<TestCluster["as"]> => ({ ...cluster.as(), nowMs: () => cluster.store.nowMs });
  test.teardown(playAgents(cluster, cluster.nodeIds[1], (task, job) => answers(task, job)));
  return { cluster, context };
}

/** The states of a task as a watcher sees them, to its end. */
async function watched(cluster: TestCluster, id: string): Promise<string[]> {
  const states: string[] = [];
  for await (const { task } of taskService.WatchTask({ task: id }, cluster.as())) states.push(task?.state ?? "");
  return states;
}

t.test("create answers with the tasks at once; each is watched to its end", async (t) => {
  const { cluster } = await setUp(t);
  const tasks = await create(cluster, ["a", "b"]);
  t.same(tasks, ["t1", "t2"]);
  const states = await watched(cluster, "t2");
  t.equal(states[0], "waiting", "nobody was waited for");
  t.equal(states.at(-1), "done", "and the stream ends with the task");
  t.same(await watched(cluster, "1"), ["done"], "a number will do");
  const held = await vmService.CreateVm({ ...CREATE, hold: true, definitions: [definition("c")] } as never, cluster.as());
  const { task: waits } = await taskService.GetTask({ task: held.tasks?.[0] ?? "", consistency: "CONSISTENCY_STALE" }, cluster.as());
  t.match(waits, { state: "waiting", waits: [{ path: "0", kind: "scheduler", text: "it is held from the scheduler" }] });
});

t.test("a repeated request has the task of the first", async (t) => {
  const { cluster } = await setUp(t);
  await create(cluster, ["a"]);
  await watched(cluster, "t1");
  const ask = (): Promise<{ task?: string | undefined }> =>
    vmService.ShutdownVm({ vm: "a", force: false, requestId: "again@000001000000" }, cluster.as());
  const first = await ask();
  await watched(cluster, first.task ?? "");
  t.equal((await ask()).task, first.task);
  t.equal((await taskService.ListTasks({ ...LIST, states: [] }, cluster.as())).tasks?.length, 2);
});

t.test("lists: the newest first, in pages, by VM, node and state, also of a VM that is gone", async (t) => {
  const { cluster } = await setUp(t);
  for (const id of await create(cluster, ["a", "b", "c"])) await watched(cluster, id);
  const list = async (filter: object): Promise<string[]> =>
    ((await taskService.ListTasks({ ...LIST, states: [], ...filter }, cluster.as())).tasks ?? []).map(({ id }) => id ?? "");
  t.same(await list({}), ["t3", "t2", "t1"]);
  const page = await taskService.ListTasks({ ...LIST, states: [], pageSize: 2 }, cluster.as());
  t.same(await list({ pageSize: 2, pageToken: page.nextPageToken }), ["t1"]);
  t.same(await list({ vm: "b" }), ["t2"]);
  t.same(await list({ states: ["open"] }), []);
  t.same(await list({ node: "n2", states: ["done"] }), ["t3", "t2", "t1"]);
  t.same(await list({ node: "n1" }), []);
  const id = cluster.store.view().vmIdByName.get("b") ?? "";
  await watched(cluster, (await vmService.DeleteVm({ vm: "b", requestId: "" }, cluster.as())).task ?? "");
  t.same(await list({ vm: id }), ["t4", "t2"]);
  t.match(await faultOf(list({ vm: "b" })), { kind: "not-found" });
  t.match(await faultOf(list({ states: ["open", "asleep"] })), { kind: "invalid", violations: [{ field: "states[1]" }] });
});

t.test("what it waits for, and cancelling it", async (t) => {
  const { cluster, context } = await setUp(t, (_task, job) => (job.name === "configure" && job.state === "sent" ? null : { ok: true }));
  await create(cluster, ["a"]);
  const sent = async (): Promise<boolean> =>
    (await taskService.GetTask({ task: "t1", consistency: "CONSISTENCY_STALE" }, context())).task?.jobs?.[1]?.state === "sent";
  while (!(await sent())) await new Promise((resolve) => void setImmediate(resolve));
  const { task } = await taskService.GetTask({ task: "t1", consistency: "CONSISTENCY_STALE" }, context());
  t.match(task, {
    state: "running",
    waits: [{ path: "1", kind: "worker" }],
    jobs: [{ name: "place", node: "n2" }, { name: "configure" }, {}],
  });
  const { pools } = await limitService.ListLimits({ consistency: "CONSISTENCY_STALE" }, context());
  t.match(pools, [
    { connection: "n1", holders: [], limit: 2 },
    { connection: "n2", holders: [{ task: "t1", job: "configure" }], why: "openSession" },
  ]);
  const explained = await limitService.ExplainLimits({ task: "t1", consistency: "CONSISTENCY_STALE" }, context());
  t.match(explained.jobs, [{ why: /no slot/ }, { why: "it holds a slot", pool: { connection: "n2" } }, { place: 0 }]);

  const cancelled = await taskService.CancelTask({ task: "t1", requestId: "" }, cluster.as());
  t.match(cancelled.task, { state: "rolling-back", cancelledBy: "user:root@n1" });
  t.match(cancelled.task?.summary, /^Cancelled by user:root@n1\./);
  t.match(await faultOf(taskService.CancelTask({ task: "t9", requestId: "" }, cluster.as())), { kind: "not-found" });
});

t.test("a node speaks for itself only: it may be inspected, and manages no tasks", async (t) => {
  const { cluster } = await setUp(t);
  const view = cluster.store.view();
  const node = { kind: "node", nodeId: cluster.nodeIds[1] ?? "" } as const;
  t.doesNotThrow(() => authorize(node, "/roost.v1.NodeService/InspectNode", view));
  for (const path of ["/roost.v1.TaskService/CancelTask", "/roost.v1.TaskService/ListTasks", "/roost.v1.DoctorService/Diagnose"])
    t.throws(() => authorize(node, path, view), RoostError, path);
});

t.test("the doctor says only what stays, and whom it could not ask", async (t) => {
  const { cluster } = await setUp(t);
  const [n1 = ""] = cluster.nodeIds;
  const empty = { hypervisorProblem: "", registrations: [], keeperProblem: "", volumes: [], missingPools: [], sessions: 0 };
  const stray = { nodeId: n1, domains: [{ vmId: "v", generation: 1, name: "stray", state: "running" }], ...empty };
  cluster.inspections.set(n1, stray);
  t.match(await nodeService.InspectNode({}, cluster.as()), { nodeId: n1, domains: [{ name: "stray" }] });
  const hooks = {
    ...cluster.server.hooks,
    inspectOther: () => Promise.reject(new RoostError({ kind: "unavailable", reason: "no route" })),
  };
  const found = await doctorService.Diagnose({}, { ...cluster.as(), hooks });
  t.match(found, { findings: [{ code: "orphan-domain", where: "n1" }], asked: ["n1"], unasked: [{ node: "n2", why: "no route" }] });

  // Gone at the second look: it was only under way.
  let looks = 0;
  const inspect = () => Promise.resolve(looks++ === 0 ? stray : { ...stray, domains: [] });
  const passing = await doctorService.Diagnose({}, { ...cluster.as(), hooks: { ...cluster.server.hooks, inspect } });
  t.same(passing.findings, []);
  t.ok(looks >= 2);
});
