/** The cases of LIM-7, each with a trace of who worked when that proves what overlapped and what did not; and LIM-1 to LIM-6, LIM-8. */
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { ignoredLimits, limitKey, parseLimit } from "../../src/model/limit-settings.ts";
import type { NodeInfo } from "../../src/model/node.ts";
import { explainLimits, poolsOf } from "../../src/tasks/queue-view.ts";
import { Factory, overlap, peak, trace, type FactoryOptions, type Span } from "../support/factory.ts";

const VCD: Partial<NodeInfo> = { driver: "vcd", vdcs: true };
const KVM: Partial<NodeInfo> = { driver: "kvm" };

const ofVdc = (vdc: string) => (span: Span) => span.vdc === vdc;
const named = (job: string) => (span: Span) => span.job === job;
const on = (node: string) => (span: Span) => span.node === node;

/** Two vdcs of eight VMs each on one node. */
async function twoVdcs(info: Partial<NodeInfo>, settings: FactoryOptions["settings"]): Promise<readonly Span[]> {
  const factory = new Factory({ nodes: { n1: info }, settings: settings ?? {} });
  factory.deploy("n1", "red", 8);
  factory.deploy("n1", "blue", 8);
  await factory.run();
  // 16 deploys, each configure and power-on.
  if (factory.spans.length !== 32) throw new Error(`${factory.spans.length} jobs were done, not 32:\n${trace(factory.spans)}`);
  return factory.spans;
}

const ONE_BY_VDC = { "vcd.openSession": 1, "vcd.openSession.byvdc": "true" };

t.test("LIM-7 a: vcd =1 and byvdc, two vdcs: one operation in each vdc at a time, the two overlap", async (t) => {
  const spans = await twoVdcs(VCD, ONE_BY_VDC);
  t.equal(peak(spans, ofVdc("red")), 1, trace(spans));
  t.equal(peak(spans, ofVdc("blue")), 1);
  t.ok(overlap(spans, ofVdc("red"), ofVdc("blue")));
  t.equal(peak(spans), 2);
});

t.test("LIM-7 b: the same settings, another driver: the default 2 whatever the vdc", async (t) => {
  for (const info of [KVM, { ...KVM, vdcs: true }]) {
    const spans = await twoVdcs(info, ONE_BY_VDC);
    t.equal(peak(spans), 2, trace(spans));
    const factory = new Factory({ nodes: { n1: info }, settings: ONE_BY_VDC });
    factory.deploy("n1", "red", 6);
    await factory.run();
    t.equal(peak(factory.spans), 2, "one vdc alone has both");
  }
});

t.test("LIM-7 c: byvdc with a driver without vdc: 2 in all", async (t) => {
  const spans = await twoVdcs(KVM, { "openSession.byvdc": "true", "kvm.openSession.byvdc": "true" });
  t.equal(peak(spans), 2, trace(spans));
});

t.test("LIM-7 d: =1 with faststatechanges: one configure at a time, each power-on at once after its configure", async (t) => {
  const factory = new Factory({
    nodes: { n1: KVM },
    settings: { "kvm.openSession": 1, "kvm.openSession.faststatechanges": "true" },
    takesMs: { configure: 100, "power-on": 60 },
  });
  const ids = factory.deploy("n1", "red", 8);
  await factory.run();
  const { spans } = factory;
  t.equal(peak(spans, named("configure")), 1, trace(spans));
  t.ok(overlap(spans, named("configure"), named("power-on")));
  for (const vm of ids) {
    const [configure, powerOn] = ["configure", "power-on"].map((job) => spans.find((span) => span.vm === vm && span.job === job));
    t.equal(powerOn?.fromMs, configure?.toMs, vm);
  }
  // No gap either: 8 × 100 ms.
  t.equal(Math.max(...spans.filter(named("configure")).map(({ toMs }) => toMs)), 800);
});

t.test("LIM-7 e: with faststatechanges deploys peak at twice openSession, and other state changes are unlimited", async (t) => {
  for (const powerOnMs of [20, 100, 700]) {
    const factory = new Factory({
      nodes: { n1: KVM },
      settings: { openSession: 3, "openSession.faststatechanges": "true" },
      takesMs: { configure: 100, "power-on": powerOnMs },
    });
    const ids = factory.deploy("n1", "red", 24);
    await factory.run();
    const deploys = [...factory.spans];
    t.equal(peak(deploys, named("configure")), 3, trace(deploys));
    if (powerOnMs < 100) t.ok(peak(deploys) <= 6);
    else t.equal(peak(deploys), 6);
    factory.spans.length = 0;
    for (const vmId of ids) factory.do({ type: "vm.desire", vmId, action: "pause", nodeId: null });
    await factory.run();
    t.equal(peak(factory.spans, named("pause")), 24);
  }
});

t.test("LIM-7 f: =1 on one endpoint leaves the others alone", async (t) => {
  const factory = new Factory({ nodes: { n1: VCD, n2: VCD, n3: KVM }, settings: { "vcd.openSession": 1 } });
  for (const node of ["n1", "n2", "n3"]) factory.deploy(node, "red", 6, node);
  await factory.run();
  const { spans } = factory;
  t.equal(peak(spans, on("n1")), 1, trace(spans));
  t.equal(peak(spans, on("n2")), 1);
  t.equal(peak(spans, on("n3")), 2);
  t.ok(overlap(spans, on("n1"), on("n2")), "each endpoint has its own");
  // 12 jobs of 100 ms, one at a time there and two at a time here: nobody waited for anybody else's.
  t.same(
    ["n1", "n2", "n3"].map((node) => Math.max(...spans.filter(on(node)).map(({ toMs }) => toMs))),
    [1_200, 1_200, 600],
  );
});

const MANAGER = { pool: "backup", name: "veeam-1", driver: "veeam", maxSessions: null, vdcs: false } as const;
const DEVICE = { pool: "device", name: "nsx-1", driver: "nsx", maxSessions: null, vdcs: true } as const;

t.test("LIM-7 g: saturating backup never delays compute", async (t) => {
  const ends = async (backups: number): Promise<number> => {
    const factory = new Factory({ nodes: { n1: { ...KVM, connections: [MANAGER] } }, takesMs: { "perform-backup": 1_000 } });
    const running = factory.deploy("n1", "red", 6);
    await factory.run();
    factory.spans.length = 0;
    const fromMs = factory.nowMs;
    for (const vmId of running.slice(0, backups)) factory.enqueue("backup", vmId, "veeam-1");
    factory.deploy("n1", "red", 4, "new");
    await factory.run();
    const { spans } = factory;
    t.equal(peak(spans, named("perform-backup")), Math.min(backups, 2), trace(spans));
    if (backups > 0) t.ok(overlap(spans, named("perform-backup"), named("configure")));
    return Math.max(...spans.filter(({ pool }) => pool === "compute").map(({ toMs }) => toMs)) - fromMs;
  };
  // 4 deploys of 2 × 100 ms, two at a time: 400 ms.
  t.equal(await ends(0), 400);
  t.equal(await ends(6), 400);
});

t.test("LIM-7 h: =2 with byvdc: 2 × vdcs in all", async (t) => {
  const factory = new Factory({ nodes: { n1: VCD }, settings: { openSession: 2, "openSession.byvdc": "true" } });
  const vdcs = ["red", "blue", "green", "white", "black"];
  for (const vdc of vdcs) factory.deploy("n1", vdc, 5);
  await factory.run();
  for (const vdc of vdcs) t.equal(peak(factory.spans, ofVdc(vdc)), 2, vdc);
  t.equal(peak(factory.spans), 2 * vdcs.length, trace(factory.spans));
});

t.test("LIM-1: never more than the driver allows for, or than it has CPUs", async (t) => {
  for (const [info, most] of [
    [{ cpus: 3 }, 3],
    [{ cpus: 64, maxSessions: 5 }, 5],
    [{ cpus: 4, maxSessions: 5 }, 4],
    [{ cpus: 64, maxSessions: null }, 8],
  ] as const) {
    const factory = new Factory({ nodes: { n1: info }, settings: { openSession: 8 } });
    factory.deploy("n1", "red", 12);
    await factory.run();
    t.equal(peak(factory.spans), most, JSON.stringify(info));
  }
});

t.test("LIM-2: the platform's value, a kind's own, live", async (t) => {
  const factory = new Factory({ nodes: { n1: KVM } });
  factory.deploy("n1", "red", 40);
  await factory.run(1_000);
  t.equal(peak(factory.spans), 2);
  factory.spans.length = 0;
  factory.do({ type: "setting.update", key: "kvm.openSession", value: 5 });
  await factory.run(2_000);
  t.equal(peak(factory.spans), 5, "more at once with the next change");
  factory.do({ type: "setting.reset", key: "kvm.openSession", vdc: "" });
  await factory.run(2_200);
  factory.spans.length = 0;
  await factory.run();
  t.equal(peak(factory.spans), 2, "and the platform's again");

  t.same(limitKey("vcd.openSession"), { kind: "vcd", base: "openSession" });
  t.same(limitKey("nsx.device.openSession.byvdc"), { kind: "nsx", base: "device.openSession.byvdc" });
  t.same(limitKey("veeam.backup.openSession"), { kind: "veeam", base: "backup.openSession" });
  for (const none of [
    "openSession",
    "device.openSession",
    "vcd.openSession.byVdc",
    "a.b.openSession",
    "nsx.device.openSession.faststatechanges",
    "Vcd.openSession",
  ])
    t.equal(limitKey(none), null, none);
  t.match(parseLimit("vcd.openSession", "0"), { ok: false, expected: /from 1/ });
  t.match(parseLimit("vcd.openSession.byvdc", "yes"), { ok: false });
});

t.test("LIM-4, LIM-5: without faststatechanges every state change takes a slot, and waiting for a guest none", async (t) => {
  const factory = new Factory({ nodes: { n1: KVM }, settings: { openSession: 2 }, takesMs: { "wait-for-power-off": 5_000 } });
  const ids = factory.deploy("n1", "red", 6);
  await factory.run();
  factory.spans.length = 0;
  for (const vmId of ids.slice(0, 5)) factory.do({ type: "vm.desire", vmId, action: "shutdown", nodeId: null });
  factory.do({ type: "vm.desire", vmId: ids[5] ?? "", action: "force-restart", nodeId: null });
  await factory.run();
  const { spans } = factory;
  t.equal(
    peak(spans, (span) => span.job !== "wait-for-power-off"),
    2,
    trace(spans),
  );
  t.equal(peak(spans, named("wait-for-power-off")), 5);
});

t.test("LIM-3, LIM-6: devices have a pool of their own, but for a cloud that does both", async (t) => {
  const both = async (info: Partial<NodeInfo>, settings: FactoryOptions["settings"]) => {
    const factory = new Factory({ nodes: { n1: info }, settings: settings ?? {}, takesMs: { "configure-device": 300 } });
    const ids = [...factory.deploy("n1", "red", 6), ...factory.deploy("n1", "blue", 6)];
    await factory.run();
    factory.spans.length = 0;
    for (const vmId of ids.slice(3)) factory.enqueue("update-devices", vmId, info.connections?.[0]?.name ?? "");
    factory.deploy("n1", "red", 6, "new");
    await factory.run();
    return { factory, spans: factory.spans };
  };
  const apart = await both({ ...KVM, connections: [DEVICE] }, { "nsx.device.openSession": 3, "nsx.device.openSession.byvdc": "true" });
  t.equal(peak(apart.spans, named("configure-device")), 6, "3 in each vdc");
  t.equal(
    peak(apart.spans, ({ pool }) => pool === "compute"),
    2,
    trace(apart.spans),
  );

  const cloud = { ...VCD, devices: true, connections: [{ ...DEVICE, name: "edge", driver: "vcd" }] };
  const one = await both(cloud, { "vcd.openSession": 3, "vcd.device.openSession": 9 });
  t.equal(peak(one.spans), 3, trace(one.spans));
  t.ok(overlap(one.spans, named("configure-device"), named("configure")));
  const { state } = one.factory.store;
  t.match(ignoredLimits(state.cluster, state.nodes.values()), [{ key: "vcd.device.openSession", why: /vcd.openSession holds for both/ }]);
  one.factory.do({ type: "setting.reset", key: "vcd.device.openSession", vdc: "" });
  t.same(ignoredLimits(state.cluster, state.nodes.values()), []);
  const plain = new Factory({ nodes: { n1: KVM }, settings: { "kvm.openSession.byvdc": "true" } }).store.state;
  t.match(ignoredLimits(plain.cluster, plain.nodes.values()), [{ key: "kvm.openSession.byvdc", why: /knows no vdcs/ }]);
});

t.test("LIM-8: under a flood by one vdc none waits longer than one operation of each other waiting vdc", async (t) => {
  const seed = Number(process.env["ROOST_SEED"] ?? 7);
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  const factory = new Factory({ nodes: { n1: KVM }, settings: { openSession: 1 } });
  factory.deploy("n1", "flood", 200);
  const late = ["red", "blue", "green"];
  let count = 0;
  for (let i = 0; i < 40; i++) {
    await factory.run(factory.nowMs + 50 + random.below(400));
    factory.deploy("n1", late[random.below(3)] as string, 1, `late${count++}`);
  }
  await factory.run();
  // In order of their begin, one at a time: between the moment when a vdc waits and its next operation each other has one turn at most.
  const { spans } = factory;
  t.equal(peak(spans), 1);
  const tasks = [...factory.store.state.tasks.values()];
  const waitsFrom = (span: Span): number => {
    const before = spans.find((other) => other.taskId === span.taskId && other.job === "configure");
    const placedMs = tasks.find(({ id }) => id === span.taskId)?.jobs[0]?.endedAtMs ?? 0;
    return span.job === "power-on" ? (before?.toMs ?? 0) : placedMs - 1_000_000;
  };
  let worst = 0;
  for (const span of spans.filter(({ vdc }) => vdc !== "flood")) {
    // Its own vdc's others may be before it; what counts is since the last turn of the vdc.
    const lastOwnMs = Math.max(
      waitsFrom(span),
      ...spans.filter((own) => own.vdc === span.vdc && own.toMs <= span.fromMs).map(({ toMs }) => toMs),
    );
    const between = spans.filter((other) => other.vdc !== span.vdc && other.fromMs >= lastOwnMs && other.fromMs < span.fromMs);
    for (const vdc of new Set(between.map((other) => other.vdc))) {
      const turns = between.filter(ofVdc(vdc)).length;
      worst = Math.max(worst, turns);
      if (turns > 1) t.fail(`${span.vm} ${span.job} at ${span.fromMs} waited for ${turns} of ${vdc}:\n${trace(between)}`);
    }
  }
  t.equal(worst, 1, "and it did wait for others");
});

t.test("recoveries have slots of their own: a busy node takes a dead one's VMs at once, and goes on with its own", async (t) => {
  const factory = new Factory({ nodes: { n0: KVM, n1: KVM, n2: KVM }, settings: { "ha.openSession": 5 } });
  const lost = factory.deploy("n1", "red", 20, "lost");
  await factory.run();
  factory.deploy("n2", "blue", 8);
  factory.do({ type: "node.suspect", nodeId: "n1", silentMs: 9_999 });
  factory.do({ type: "node.fence", nodeId: "n1", proof: { kind: "operator", nodeId: "n1", user: "test" } });
  const { state } = factory.store;
  const placements = lost.map((vmId) => ({ vmId, nodeId: "n2", generation: state.vms.get(vmId)?.generation ?? 0 }));
  factory.do({ type: "vm.place", placements, rejections: [] });
  const before = factory.spans.length;
  await factory.run(factory.nowMs + 50);
  t.match(
    poolsOf(state, factory.store.nowMs)
      .filter(({ connection }) => connection === "n2")
      .map(({ key, limit, why, holders }) => [key, limit, why, holders.length]),
    [
      ["compute/n2", 2, "openSession", 2],
      ["compute/n2/recovery", 5, "ha.openSession, for recoveries", 5],
    ],
  );
  await factory.run();
  const spans = factory.spans.slice(before);
  const recovered = (span: Span): boolean => span.vm.startsWith("lost");
  t.equal(spans.filter(recovered).length, 40, "each configured and powered on");
  t.equal(peak(spans, recovered), 5, trace(spans));
  t.equal(peak(spans, ofVdc("blue")), 2);
});

t.test("LIM-8: who holds, who waits at which place, and for about how long", async (t) => {
  const factory = new Factory({ nodes: { n1: KVM, n2: VCD }, settings: { "kvm.openSession": 1, "vcd.openSession.byvdc": "true" } });
  factory.deploy("n1", "red", 1, "old");
  await factory.run();
  factory.deploy("n1", "red", 3);
  factory.deploy("n1", "blue", 2);
  factory.deploy("n2", "blue", 3, "there");
  await factory.run(factory.nowMs + 10);
  const { state, nowMs } = factory.store;
  const pools = poolsOf(state, nowMs);
  t.same(
    pools.map(({ key, connection, vdc, limit, why, holders, waiting }) => [
      key,
      connection,
      vdc,
      limit,
      why,
      holders.map((one) => one.objectName),
      waiting.map((one) => one.objectName),
    ]),
    [
      ["compute/n1", "n1", "", 1, "kvm.openSession", ["red-0"], ["blue-0", "red-1", "blue-1", "red-2"]],
      ["compute/n2/vdc/blue", "n2", "blue", 2, "openSession, for each vdc", ["there-0", "there-1"], ["there-2"]],
    ],
  );
  const task = [...state.tasks.values()].find(({ object }) => object.name === "blue-1");
  if (task === undefined) return t.fail("no task");
  const jobs = explainLimits(state, task, nowMs);
  t.match(jobs[0], { job: "place", pool: null, why: "it takes no slot" });
  // Third in the queue for one slot, and such a job took 100 ms here.
  t.match(jobs[1], { job: "configure", place: 3, expectedMs: 300, why: "1 of 1 slots are taken" });
  t.match(jobs[2], { job: "power-on", place: 0, why: "its turn in the task has not come" });
});
