/** Services as plain functions over a cluster in memory: no network here. */
import t from "tap";
import { vmService } from "../../src/api/services/vm.ts";
import { clusterService } from "../../src/api/services/cluster.ts";
import { nodeService } from "../../src/api/services/node.ts";
import { poolService } from "../../src/api/services/pool.ts";
import type { CallContext } from "../../src/api/context.ts";
import { RoostError } from "../../src/base/errors.ts";
import type { Fault } from "../../src/base/errors.ts";
import type { RequestOut } from "../../src/base/rpc.ts";
import { parseToken } from "../../src/cluster/tokens.ts";
import { nodeInfo, testCluster } from "../support/api.ts";
import type { TestCluster } from "../support/api.ts";

async function faultOf(call: Promise<unknown>): Promise<Fault> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RoostError) return error.fault;
    throw error;
  }
  throw new Error("the call succeeded, but must not");
}

type Create = RequestOut<"VmService", "CreateVm">;

function definition(name: string, changes: Partial<Create["definitions"][number]> = {}): Create["definitions"][number] {
  const rest = { vdc: "", partition: "", requirements: "", rank: "", cpuPinning: null, cpu: null };
  return {
    name,
    cpus: 1,
    memoryMib: 128,
    arch: "",
    boot: null,
    disks: [],
    nics: [],
    labels: {},
    restart: "",
    ha: null,
    ...rest,
    ...changes,
  };
}

function create(cluster: TestCluster, names: string[], changes: Partial<Create> = {}): ReturnType<typeof vmService.CreateVm> {
  const request: Create = {
    definitions: names.map((name) => definition(name)),
    node: "",
    hold: false,
    stopped: false,
    plan: false,
    force: false,
    requestId: "",
    ...changes,
  };
  return vmService.CreateVm(request, cluster.as());
}

const LIST = { consistency: "CONSISTENCY_UNSPECIFIED", pageSize: 0, pageToken: "", labels: [], node: "" } as const;

t.test("create answers at once, with defaults filled in", async (t) => {
  const cluster = await testCluster();
  const { vms = [] } = await create(cluster, ["a", "b"]);
  t.match(vms, [
    { name: "a", number: 1, state: "pending", desired: "on", nodeId: "", definition: { arch: "x86_64", restart: "on-failure" } },
    { name: "b", number: 2 },
  ]);
});

t.test("a repeated request gets its first answer, and creates nothing", async (t) => {
  const cluster = await testCluster();
  const first = await create(cluster, ["a"], { requestId: "r1@000001000000" });
  const again = await create(cluster, ["a"], { requestId: "r1@000001000000" });
  t.equal(again.vms?.[0]?.id, first.vms?.[0]?.id);
  t.equal(cluster.store.view().vms.size, 1);
  t.match(await faultOf(create(cluster, ["a"], { requestId: "r2@000001000000" })), { kind: "exists", name: "a" });
});

t.test("faults of all definitions at once, nothing created", async (t) => {
  const cluster = await testCluster();
  await create(cluster, ["taken"]);
  const disk = {
    pool: "nope",
    source: "",
    sizeBytes: 1,
    format: "",
    target: "",
    bus: "",
    device: "",
    readonly: false,
    shareable: false,
    cache: "",
  };
  const definitions = [
    definition("ok"),
    definition("Bad", { cpus: 0, disks: [disk] }),
    definition("ok"),
    definition("taken"),
    definition("big", { memoryMib: 1793 }),
  ];
  const fault = await faultOf(create(cluster, [], { definitions }));
  if (fault.kind !== "invalid") throw new Error(fault.kind);
  t.same(fault.violations.map((violation) => violation.field).toSorted(), [
    "definitions[1].cpus",
    "definitions[1].disks[0].pool",
    "definitions[1].name",
    "definitions[2].name",
    "definitions[3].name",
    "definitions[4].memory",
  ]);
  t.equal(cluster.store.view().vms.size, 1);
});

t.test("memory: what no node could ever hold is refused, what is only taken now is pending", async (t) => {
  const cluster = await testCluster(2);
  const [, second = ""] = cluster.nodeIds;
  // n2: (4096 - 256) × 1 = 3840 MiB for VMs; n1 has 1792.
  cluster.store.origin = second;
  await cluster.store.propose({ type: "node.info", nodeId: second, info: nodeInfo({ memoryMib: 4096 }) }, { actor: "test" });
  cluster.store.origin = cluster.nodeIds[0] ?? "";
  const asking = (memoryMib: number, node = ""): Promise<unknown> =>
    create(cluster, [], { definitions: [definition(`m${memoryMib}${node}`, { memoryMib })], node });
  await asking(3840);
  await asking(3839);
  const fault = await faultOf(asking(3841));
  t.match(fault, {
    kind: "invalid",
    violations: [{ field: "memory", message: /3841 MiB can never fit: the largest node, n2, has 3840 MiB/ }],
  });
  t.match(
    await faultOf(asking(1793, "n1")),
    { kind: "invalid", violations: [{ field: "memory", message: /node n1 has 1792 MiB/ }] },
    "the node asked for is what counts",
  );
  t.match(await faultOf(create(cluster, [], { definitions: [definition("arm", { arch: "aarch64" })] })), {
    kind: "invalid",
    violations: [{ field: "arch" }],
  });
});

t.test("plan checks and creates nothing", async (t) => {
  const cluster = await testCluster();
  const { vms } = await create(cluster, ["a"], { plan: true });
  t.match(vms, [{ name: "a", state: "pending" }]);
  t.equal(cluster.store.view().vms.size, 0);
});

t.test("lists: pages, labels, a VM that goes between pages", async (t) => {
  const cluster = await testCluster();
  const definitions = Array.from({ length: 5 }, (_, i) => definition(`v${i}`, { labels: { odd: String(i % 2) } }));
  await create(cluster, [], { definitions });
  const first = await vmService.ListVms({ ...LIST, labels: [], pageSize: 2 }, cluster.as());
  t.same(
    first.vms?.map((vm) => vm.name),
    ["v0", "v1"],
  );
  const gone = cluster.store.view().vmIdByName.get("v1") ?? "";
  await cluster.store.propose({ type: "vm.desire", vmId: gone, action: "delete", nodeId: null }, { actor: "test" });
  const second = await vmService.ListVms({ ...LIST, labels: [], pageSize: 2, pageToken: first.nextPageToken ?? "" }, cluster.as());
  t.same(
    second.vms?.map((vm) => vm.name),
    ["v2", "v3"],
  );
  const third = await vmService.ListVms({ ...LIST, labels: [], pageSize: 2, pageToken: second.nextPageToken ?? "" }, cluster.as());
  t.same(
    third.vms?.map((vm) => vm.name),
    ["v4"],
  );
  t.equal(third.nextPageToken, "");
  t.same(
    (await vmService.ListVms({ ...LIST, labels: ["odd=0"] }, cluster.as())).vms?.map((vm) => vm.name),
    ["v0", "v2", "v4"],
  );
  t.match(await faultOf(vmService.ListVms({ ...LIST, labels: [], pageToken: "x" }, cluster.as())), { kind: "invalid" });
  t.match(await faultOf(vmService.ListVms({ ...LIST, labels: ["odd"] }, cluster.as())), { kind: "invalid" });
});

t.test("names, ids and beginnings of ids", async (t) => {
  let count = 0;
  const ids = ["aaaa1111", "aaaa2222", "bbbb1111"].map((head) => `${head}-0000-4000-8000-000000000000`);
  const cluster = await testCluster();
  cluster.server.newId = () => ids[count++] ?? `cccc${count}`;
  await create(cluster, ["x"], { requestId: "1@000001000000" });
  await create(cluster, ["y"], { requestId: "2@000001000000" });
  await create(cluster, ["bbbb"], { requestId: "3@000001000000" });
  const get = async (vm: string): Promise<string | undefined> =>
    (await vmService.GetVm({ vm, consistency: "CONSISTENCY_STALE" }, cluster.as())).vm?.name;
  t.equal(await get("x"), "x");
  t.equal(await get("aaaa2222-0000-4000-8000-000000000000"), "y");
  t.equal(await get("aaaa1"), "x");
  t.equal(await get("bbbb"), "bbbb", "a name comes before the beginning of an id");
  t.match(await faultOf(get("aaaa")), { kind: "invalid", violations: [{ message: /beginning of 2 ids/ }] });
  t.match(await faultOf(get("aaa")), { kind: "not-found" }, "too short");
});

t.test("an action that is illegal names those that are legal", async (t) => {
  const cluster = await testCluster();
  await create(cluster, ["a"]);
  const id = cluster.store.view().vmIdByName.get("a") ?? "";
  const [nodeId = ""] = cluster.nodeIds;
  await cluster.store.propose(
    { type: "vm.place", placements: [{ vmId: id, nodeId, generation: cluster.store.view().vms.get(id)?.generation ?? 0 }], rejections: [] },
    { actor: "leader" },
  );
  const fault = await faultOf(vmService.ShutdownVm({ vm: "a", force: false, requestId: "" }, cluster.as()));
  t.match(fault, { kind: "precondition", legal: ["force-shutdown", "delete"] });
});

t.test("stale reads say how old they are and need nobody", async (t) => {
  const cluster = await testCluster();
  cluster.store.read = () => Promise.reject(new RoostError({ kind: "unavailable", reason: "no leader" }));
  cluster.store.leads = { leading: false, leaderNodeId: null, term: 3, silentMs: 1234.5 };
  t.match(await faultOf(vmService.ListVms({ ...LIST, labels: [] }, cluster.as())), { kind: "unavailable" });
  const { read } = await vmService.ListVms({ ...LIST, labels: [], consistency: "CONSISTENCY_STALE" }, cluster.as());
  t.match(read, { linearizable: false, ageMs: 1235 });
  t.match(await clusterService.GetCluster({ consistency: "CONSISTENCY_STALE" }, cluster.as()), { hasQuorum: false, leaderNodeId: "" });
});

t.test("a deadline that has passed is a timeout", async (t) => {
  const cluster = await testCluster();
  const late: CallContext = { ...cluster.as(), deadlineMs: Date.now() - 1 };
  t.match(await faultOf(vmService.ListVms({ ...LIST, labels: [] }, late)), { kind: "timeout" });
});

t.test("watching a VM: now, each change, and its end", async (t) => {
  const cluster = await testCluster();
  await create(cluster, ["a"]);
  const id = cluster.store.view().vmIdByName.get("a") ?? "";
  const seen: string[] = [];
  for await (const { vm, deleted } of vmService.WatchVm({ vm: "a" }, cluster.as())) {
    seen.push(deleted === true ? "end" : (vm?.state ?? ""));
    if (seen.length === 1)
      await cluster.store.propose({ type: "vm.desire", vmId: id, action: "shutdown", nodeId: null }, { actor: "test" });
    if (seen.length === 2) await cluster.store.propose({ type: "vm.desire", vmId: id, action: "delete", nodeId: null }, { actor: "test" });
  }
  t.same(seen, ["pending", "stopped", "end"]);
});

t.test("events: all kept, then on, with no gap and none twice", async (t) => {
  const cluster = await testCluster();
  const abort = new AbortController();
  const context = { ...cluster.as(), signal: abort.signal };
  const past: number[] = [];
  for await (const { event } of clusterService.WatchEvents({ fromRevision: 0, subjectIds: [], noFollow: true }, cluster.as()))
    if (event !== null && event !== undefined) past.push(event.revision ?? 0);
  t.ok(past.length >= 2);
  const followed: string[] = [];
  const marks: number[] = [];
  for await (const { event, bookmark } of clusterService.WatchEvents({ fromRevision: 1, subjectIds: [], noFollow: false }, context)) {
    if (event === undefined || event === null) {
      marks.push(bookmark ?? 0);
      if (followed.length === past.length + 4) abort.abort();
      continue;
    }
    followed.push(`${event.revision}`);
    // While the reader is busy with old ones, new ones come.
    if (followed.length === 1) await create(cluster, ["a", "b"]);
  }
  const last = cluster.store.view().index;
  // Two VMs and their tasks.
  t.same(followed, [...past, last, last, last, last].map(String));
  t.same(marks.at(-1), last, "a bookmark says that all of it was told");
});

t.test("tokens: the text is shown once, and says whom to call", async (t) => {
  const cluster = await testCluster(2);
  const made = await clusterService.CreateToken({ ttlMs: 0, uses: 0, requestId: "r@000001000000" }, cluster.as());
  const text = parseToken(made.token ?? "");
  t.same(text.addresses, ["10.0.0.1:7710", "10.0.0.2:7710"], "the node that answers comes first");
  t.equal((made.info?.expiresAtMs ?? 0) - (made.info?.createdAtMs ?? 0), 3_600_000);
  const kept = JSON.stringify([...cluster.store.view().tokens.values()]);
  t.notOk(kept.includes(text.secret), "only a hash is kept");
  t.notOk(JSON.stringify(cluster.store.eventsSince(0)).includes(text.secret));
  t.match(await faultOf(clusterService.CreateToken({ ttlMs: 0, uses: 0, requestId: "r@000001000000" }, cluster.as())), {
    kind: "conflict",
  });
  t.match(await faultOf(clusterService.CreateToken({ ttlMs: 8 * 86_400_000, uses: 1_001, requestId: "" }, cluster.as())), {
    kind: "invalid",
    violations: [{ field: "ttl_ms" }, { field: "uses" }],
  });
  await clusterService.RevokeToken({ id: text.id.slice(0, 8) }, cluster.as());
  t.match(await faultOf(clusterService.RevokeToken({ id: text.id }, cluster.as())), { kind: "not-found" });
});

t.test("join: a bad certificate request takes no use of the token", async (t) => {
  const cluster = await testCluster();
  const made = await clusterService.CreateToken({ ttlMs: 0, uses: 0, requestId: "" }, cluster.as());
  const text = parseToken(made.token ?? "");
  const request = {
    tokenId: text.id,
    tokenSecret: text.secret,
    certificateRequest: "none",
    nodeName: "n2",
    apiAddress: "h:1",
    peerAddress: "h:2",
    zone: "",
    labels: {},
    witness: false,
    requestId: "",
    level: 0,
  };
  t.match(await faultOf(clusterService.Join(request, cluster.as({ kind: "anonymous" }))), {
    kind: "invalid",
    violations: [{ field: "certificate_request" }],
  });
  t.equal(cluster.store.view().tokens.get(text.id)?.usesLeft, 1);
  t.match(
    await faultOf(
      clusterService.Join({ ...request, nodeName: "N 2", apiAddress: "h", labels: { A: "" } }, cluster.as({ kind: "anonymous" })),
    ),
    {
      kind: "invalid",
      violations: [{ field: "node_name" }, { field: "api_address" }, { field: "labels.A" }],
    },
  );
});

t.test("settings keep to their ranges and to each other", async (t) => {
  const cluster = await testCluster();
  const set = (key: string, value: string): Promise<unknown> =>
    clusterService.UpdateSetting({ key, value, requestId: "", vdc: "", reset: false }, cluster.as());
  await set("ha.claimMs", "8000");
  t.equal(cluster.store.view().cluster?.settings["ha.claimMs"], 8000);
  await set("ha.claimMs", "20s");
  t.equal(cluster.store.view().cluster?.settings["ha.claimMs"], 20_000);
  t.match(await faultOf(set("scheduler.cpuRatio", "1s")), { kind: "invalid", violations: [{ field: "value" }] }, "no time");
  t.match(await faultOf(set("raft.voters", "4")), { kind: "invalid", violations: [{ message: /one of 1, 3, 5, 7/ }] });
  await set("ha.claimMs", "8000");
  t.match(await faultOf(set("ha.claimMs", "")), { kind: "invalid", violations: [{ field: "value" }] });
  t.match(await faultOf(set("ha.heartbeatMs", "5000")), { kind: "precondition", reason: /at least 4 ×/ });
  t.match(await faultOf(set("toString", "1")), { kind: "invalid", violations: [{ field: "key" }] });
});

t.test("nodes: fencing wants a device or a word, pools want a plain path, agents stop by their hook", async (t) => {
  const cluster = await testCluster();
  t.match(await faultOf(nodeService.FenceNode({ node: "n1", confirmed: false, requestId: "" }, cluster.as())), {
    kind: "precondition",
    reason: /is alive/,
  });
  t.match(
    await faultOf(nodeService.FenceNode({ node: "n1", confirmed: true, requestId: "" }, cluster.as())),
    { kind: "precondition" },
    "it is alive",
  );
  t.same(await nodeService.StopAgent({ parkMs: 0, withoutParking: false }, cluster.as()), { parkedMs: 600_000 });
  t.same(await nodeService.StopAgent({ parkMs: 0, withoutParking: true }, cluster.as()), { parkedMs: 0 });
  t.match(await faultOf(nodeService.StopAgent({ parkMs: 1, withoutParking: true }, cluster.as())), { kind: "invalid" });
  t.same(cluster.stops, [
    { parkMs: 600_000, actor: "user:root@n1" },
    { parkMs: 0, actor: "user:root@n1" },
  ]);
  for (const path of ["srv", "/srv/../etc", "/srv//x", "/", "/srv/", ""]) {
    t.match(
      await faultOf(poolService.CreatePool({ name: "p", kind: "dir", path, shared: false, requestId: "" }, cluster.as())),
      { kind: "invalid", violations: [{ field: "path" }] },
      path,
    );
  }
  const { pool } = await poolService.CreatePool({ name: "p", kind: "", path: "/srv/p", shared: true, requestId: "" }, cluster.as());
  t.match(pool, { name: "p", kind: "dir", shared: true });
});
