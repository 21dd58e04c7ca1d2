/** What people see, word for word. ROOST_GOLDEN=write rewrites test/golden/cli; read the difference before it is committed. */
import t from "tap";
import { RoostError } from "../../src/base/errors.ts";
import type { RpcClient } from "../../src/base/rpc-client.ts";
import type { NodeRun } from "../../src/model/run.ts";
import { placingService } from "../../src/placing/loop.ts";
import { cliHost, playAgents } from "../support/cli.ts";
import type { Answers } from "../support/cli.ts";
import { golden, transcript } from "../support/golden.ts";

const WEB = `name: web
cpus: 1
memory: 128MiB
boot:
  kernel: images/vmlinuz
  initrd: images/initrd.img
  cmdline: console=ttyS0
disks:
  - pool: images
    size: 1GiB
nics:
  - bridge: br0
labels:
  tier: front
`;

const TWO = `vms:
  - {name: a, cpus: 1, memory: 128MiB, labels: {tier: back}}
  - {name: b, cpus: 2, memory: 256MiB, restart: never}
`;

const BAD = `name: Web_1
cpu: 2
memory: 128
boot:
  kernel: ../etc/shadow
disks:
  - pool: imagez
    size: 10 apples
  - source: images/base.qcow2
    target: vdz9
nics:
  - bridge: br0
    mac: 01:00:00:00:00:01
restart: sometimes
ha:
  on-quorum-lost: keep
---
name: big
cpus: 1
memory: 64GiB
`;

t.test("a first cluster", async (t) => {
  const host = await cliHost(2);
  t.teardown(() => host.close());
  host.files.set("-", WEB);
  host.files.set("two.yaml", TWO);
  const stop = playAgents(host.cluster);
  t.teardown(stop);
  golden(
    t,
    "first-cluster",
    await transcript(host, [
      "cluster show",
      "node list",
      "node show n1",
      "pool create images --path /srv/images --shared",
      "pool list",
      "vm create -f - --plan",
      "vm create -f - --wait",
      "vm create -f two.yaml --hold",
      "vm list",
      "vm list -o wide -l tier=front",
      "vm show web",
      "vm start a --wait",
      "vm history a",
      "vm shutdown a --wait",
      "vm shutdown web --wait",
      "vm list",
      "vm export web",
      "vm delete a --wait",
      "node disable n2",
      "node list",
      "node enable n2",
      "events --from 1",
    ]),
  );
});

t.test("errors teach", async (t) => {
  const host = await cliHost(1);
  t.teardown(() => host.close());
  host.files.set("bad.yaml", BAD);
  host.files.set("broken.yaml", "name: web\n  cpus: 1\n");
  host.files.set("empty.yaml", "# nothing\n");
  host.files.set("web.yaml", TWO);
  host.files.set("dup.yaml", "name: c\ncpus: 1\nmemory: 64MiB\n---\nname: c\ncpus: 1\nmemory: 64MiB\n");
  golden(
    t,
    "errors",
    // Started side by side: either may be the first.
    (
      await transcript(host, [
        "vm create -f bad.yaml",
        "vm create -f broken.yaml",
        "vm create -f empty.yaml",
        "vm create -f missing.yaml",
        "vm create -f dup.yaml",
        "vm create -f web.yaml --stopped",
        "vm create -f web.yaml",
        "vm create -f web.yaml --plan",
        "vm create -f web.yaml --node n9",
        "vm show nobody",
        "vm show aa",
        "vm start a nobody b",
        "vm shutdown nobody --wait",
        "vm list -o xml",
        "vm list --timeout soon",
        "vm lst",
        "vm create",
        "node fence n1",
        "node show m1",
        "settings set ha.claimMs 5",
        "settings set ha.claimMs 1500",
        "settings set ha.claim 5000",
        "settings explain ha.claim",
        "settings profile agressive",
        "settings profile",
        "pool create Bad --path srv/../x",
        "pool delete none",
        "token revoke 1234",
        "config explain lisen",
        "help vm-fil",
        "completion powershell",
      ])
    ).replaceAll(/\(t\d\)/g, "(t<n>)"),
  );
});

t.test("fencing: devices without their secrets, and an attempt to its end", async (t) => {
  const host = await cliHost(3);
  t.teardown(() => host.close());
  const { cluster } = host;
  host.files.set("bmc.txt", "# the BMC's user\npassword=nobody-sees-this\n");
  host.files.set("odd.txt", "nobody-sees-this\n");
  const redfish = "node fencing set n2 --agent redfish --option ip=10.0.0.5 username=roost --secret-file bmc.txt";
  const n2 = cluster.nodeIds[1] ?? "";
  let text = await transcript(host, [
    "node fencing list",
    "node fencing test n2",
    redfish,
    "node fencing set n2 --agent fence_apc --device pdu-1 --level 2 --option ip=10.0.0.6 plug=4 --secret-file bmc.txt --time-limit 10s",
    "node fencing list -o wide",
    "node fencing list n2 -o json",
    "node fencing test n2",
    "node fencing set n2 --agent /bin/sh --option passwd=x action=on --level 0",
    "node fencing set n2 --agent redfish --secret-file odd.txt",
    "node fencing set n2 --agent redfish --secret-file none.txt",
    "node fencing unset n2 pdu-2",
    "node fence n2",
    "node fence n3",
  ]);
  cluster.fencing.power = () => Promise.resolve("off");
  text += await transcript(host, [redfish, "node fencing test n2"]);
  await cluster.store.propose({ type: "node.suspect", nodeId: n2, silentMs: 1_500 }, { actor: "leader", term: 1 });
  text += await transcript(host, ["node fence n2 --no-wait"]);
  const attempt = cluster.store.view().fencing?.get(n2)?.attempt?.id ?? 0;
  const about = { nodeId: n2, attempt };
  const executorId = cluster.nodeIds[0] ?? "";
  const leader = { actor: "leader", term: 1 };
  for (const [i, outcome] of [
    { off: false, reason: "redfish 10.0.0.5 says on" } as const,
    { off: true, device: "fence_apc 10.0.0.6 4" } as const,
  ].entries()) {
    await cluster.store.propose({ type: "fence.try", ...about, executorId, newRound: false, gaveUp: null }, leader);
    await cluster.store.propose({ type: "fence.report", ...about, try: i + 1, executorId, outcome }, { actor: `node:${executorId}` });
  }
  text += await transcript(host, ["node fencing list n2", "node fence n2 --no-wait -o json", "node fencing unset n2", "node fencing list"]);
  t.notMatch(text, "nobody-sees-this");
  golden(t, "fencing", text);
});

const POLICY = `name: db-east
rule: must
members: [a]
zones: [east]
---
name: web-apart
rule: must
member-labels: {tier: back}
place: different-nodes
`;

const BAD_POLICY = `name: Web Apart
rule: musst
member: [a]
members: [a, bb]
nodes: [n7]
zones: [east]
`;

/** What the file itself gets right is for the cluster to find wrong. */
const BAD_NAMES = `name: apart
rule: musst
members: [a, bb]
nodes: [n7]
zones: [wast]
`;

const EXPRESSIONS = `name: pinned
cpus: 4
memory: 64MiB
requirements: cpu >= 8
rank: freeMemory + 1
cpu-pinning: {numa: two}
cpu: {model: "no model", features: [avx2, "a b"]}
partition: Gold
---
name: sound
cpus: 1
memory: 64MiB
requirements: probe.GPUS > 0 & label.disk = "ssd"
`;

const BIG = `name: big
cpus: 1
memory: 512MiB
vdc: blue
`;

t.test("tasks in trouble", async (t) => {
  const host = await cliHost(2);
  t.teardown(() => host.close());
  const { store, nodeIds, inspections } = host.cluster;
  const [n1 = "", n2 = ""] = nodeIds;
  host.files.set("-", WEB);
  host.files.set("two.yaml", TWO);
  host.files.set("big.yaml", BIG);
  const full = { code: "exhausted", message: "pool images: no space left on device", hint: "free space in pool images (roost pool list)" };
  const busy = { code: "conflict", message: "volume vda is open: qemu-img (pid 4711) reads it", hint: "" };
  let answers: Answers = () => ({ ok: true });
  t.teardown(playAgents(host.cluster, n2, (task, job) => answers(task, job)));
  const quiet = (): Promise<void> => new Promise((resolve) => void setTimeout(resolve, 20));
  const later = async (ms: number): Promise<void> => {
    store.nowMs += ms;
    // A change of anything makes the players look.
    await store.propose({ type: "setting.update", key: "ha.suspectMs", value: 1_500 + (store.nowMs % 7) }, { actor: "test" });
    await quiet();
  };
  let text = await transcript(host, [
    "pool create images --path /srv/images --shared",
    "vm create -f - --wait",
    "task list",
    "task show t1",
    "vm pause web --wait",
    "vm unpause web --wait",
    "vm restart web --wait",
    "vm tasks web",
    "task show t1 -o json",
  ]);
  // Nobody knows whether it was reset; the same is asked for again by hand only.
  answers = (_task, job) =>
    job.name === "reset"
      ? { ok: false, error: { code: "unknown", message: "the agent of n2 ended after it began", hint: "" } }
      : { ok: true };
  text += await transcript(host, ["vm force-restart web --wait", "task show t5"]);
  // A disk cannot be made: undone, and tried again after a while.
  answers = (_task, job) => (job.name === "configure" && job.state === "sent" ? { ok: false, error: full } : { ok: true });
  text += await transcript(host, ["vm create -f big.yaml"]);
  await quiet();
  text += await transcript(host, [
    "task list --vm big",
    "task show t6",
    "task show t7",
    "vm show big",
    "task cancel t8 --wait",
    "task show t8",
    "task cancel t8",
  ]);
  const web = [...store.view().vms.values()].find((vm) => vm.definition.name === "web");
  const images = [...store.view().pools.keys()][0] ?? "";
  const volume = (vmId: string) => ({ poolId: images, name: `vm-${vmId}-vda.qcow2`, vmId, allocatedBytes: 196_608 });
  const empty = { hypervisorProblem: "", registrations: [], keeperProblem: "", missingPools: [], sessions: 0 };
  const running = { vmId: web?.id ?? "", generation: web?.generation ?? 0, name: "web", state: "running" };
  inspections.set(n2, { nodeId: n2, domains: [running], volumes: [volume(running.vmId)], ...empty });
  // A start fails, and so does its undo, again and again.
  answers = (_task, job) => {
    if (job.name === "power-on" && job.state === "sent")
      return { ok: false, error: { code: "internal", message: "the hypervisor could not start it: no such machine type", hint: "" } };
    return job.state === "undo-sent" && job.name === "configure" ? { ok: false, error: busy } : { ok: true };
  };
  text += await transcript(host, ["vm start big"]);
  await later(5_000);
  await later(5_000);
  text += await transcript(host, ["task show t9", "doctor"]);
  answers = () => ({ ok: true });
  await later(60_000);
  await later(600_000);
  // More than there are slots for: two of one vdc hold them, two of another wait.
  answers = (_task, job) => (job.name === "configure" ? null : { ok: true });
  text += await transcript(host, ["settings set openSession 1", "vm create -f two.yaml"]);
  await quiet();
  text += await transcript(host, [
    "limits",
    "limits --all -o wide",
    "limits explain t12",
    "task show t12",
    "settings set simulated.openSession 2",
    "settings set simulated.openSession.byvdc true",
    "settings list",
    "settings reset simulated.openSession",
    "settings set openSessions 2",
    "settings set openSession.libvirt 2",
    "settings set vcd.openSession many",
  ]);
  // The node that has the job falls silent.
  store.origin = n1;
  await store.propose({ type: "node.suspect", nodeId: n2, silentMs: 1_600 }, { actor: "leader", term: store.term });
  text += await transcript(host, ["task show t11", "task list --open", "task list --state sleeping", "task show t99", "task show web"]);
  const stray = "00000099-0000-4000-8000-000000000000";
  const registrations = [{ vmId: stray, generation: 1, phase: "live" }];
  inspections.set(n1, { nodeId: n1, domains: [running], volumes: [volume(stray)], ...empty, registrations, sessions: 2 });
  text += await transcript(host, ["doctor"]);
  golden(t, "tasks", text);
});

t.test("policies, zones, labels, expressions", async (t) => {
  const host = await cliHost(3);
  t.teardown(() => host.close());
  host.files.set("two.yaml", TWO);
  host.files.set("policy.yaml", POLICY);
  host.files.set("bad.yaml", BAD_POLICY);
  host.files.set("names.yaml", BAD_NAMES);
  host.files.set("expressions.yaml", EXPRESSIONS);
  t.teardown(playAgents(host.cluster));
  golden(
    t,
    "policies",
    await transcript(host, [
      "vm create -f two.yaml --wait",
      "node zone n1 east",
      "node set n2 --zone west --label disk=ssd rack=r2",
      "node set n3 --zone west --label disk=ssd rack=r2",
      "node label n3 rack- gpu=1",
      "node show n3",
      "zone set east primary",
      "zone set west secondary",
      "zone set wst primary",
      "zone list",
      "policy create apart --rule must --vms a,b --place different-nodes",
      "policy create together --rule must --vms a,b --place same-node",
      "policy create together --rule must --vms a,b --place same-node --off",
      "policy enable together",
      "policy create -f policy.yaml",
      "policy create warm --rule prefer --label tier=back --node-label disk=ssd --weight 5",
      "policy create -f bad.yaml",
      "policy create -f names.yaml",
      "policy create nothing --rule prefer --vms a",
      "policy list",
      "policy show apart",
      "policy update warm --nodes n2 --weight 7",
      "policy lint",
      "policy lint -f policy.yaml -o json",
      "policy disable apart",
      "policy delete apart none",
      "policy list -o wide",
      "settings set scheduler.scoring consolidate --vdc web",
      "settings set ha.claimMs 5000 --vdc web",
      "settings explain scheduler.scoring",
      "settings reset scheduler.scoring --vdc web",
      "settings set scheduler.rank freeMemory",
      "vm create -f expressions.yaml",
      "vm migrate a --node n2",
      "vm shutdown a --wait",
      "vm migrate a --node n2 -o json",
      "vm show a",
      "help policy-file",
      "events --from 1",
    ]),
  );
});

const DECIDED = `vms:
  - {name: db, cpus: 2, memory: 1GiB, labels: {tier: back}}
  - {name: web, cpus: 1, memory: 512MiB, labels: {tier: front}}
`;

const WAITING = `vms:
  - {name: far, cpus: 1, memory: 256MiB, requirements: label.disk = "nvme"}
  - {name: big, cpus: 1, memory: 1536MiB, labels: {tier: back}}
`;

t.test("where VMs ran", async (t) => {
  const host = await cliHost(3);
  t.teardown(() => host.close());
  const { server, store, nodeIds } = host.cluster;
  host.files.set("-", "name: web\ncpus: 1\nmemory: 128MiB\n");
  await host.run(["vm", "create", "-f", "-", "--stopped"]);
  const vmId = [...store.view().vms.keys()][0] ?? "";
  const day = Date.UTC(2026, 10, 20, 14);
  const run = (generation: number, fromMs: number, toMs: number | null, more: Partial<NodeRun> = {}): NodeRun => ({
    vmId,
    generation: 2 ** 32 + generation,
    fromMs: day + fromMs,
    toMs: toMs === null ? null : day + toMs,
    sureFromMs: day + fromMs,
    sureToMs: day + (toMs ?? 60_000),
    sawBegin: true,
    ended: toMs === null ? "" : "ended by the keeper",
    hostWentDown: false,
    ...more,
  });
  const down = { sureToMs: day + 12_000, ended: "its host went down", hostWentDown: true };
  const own = [run(1, 0, 5_000), run(3, 21_000, null)];
  let others = [run(2, 6_000, 50_000, down)];
  server.nowMs = () => day + 60_000;
  server.hooks.runs = () => Promise.resolve({ runs: own, sinceMs: day - 1_000, lost: 0 });
  server.hooks.nodeClient = (nodeId) => ({
    close: () => {},
    watch: () => {
      throw new Error("not asked for");
    },
    call: (async () => {
      if (nodeId === nodeIds[2]) throw new RoostError({ kind: "unavailable", reason: "connect ECONNREFUSED 10.0.0.3:7710" });
      return { nowMs: day + 60_000, runs: others.map((one) => ({ ...one, toMs: one.toMs ?? 0 })), sinceMs: day, lost: 0 };
    }) as unknown as RpcClient["call"],
  });
  const honest = await transcript(host, [
    "audit runs",
    "audit runs web -o json",
    "audit runs --from 2026-11-20T14:00:10Z",
    "audit runs --from noon",
  ]);
  others = [run(2, 3_000, 9_000)];
  golden(t, "audit", honest + (await transcript(host, ["audit runs web"])));
});

t.test("decisions explained, made again, and what if", async (t) => {
  const host = await cliHost(3);
  t.teardown(() => host.close());
  host.files.set("decided.yaml", DECIDED);
  host.files.set("waiting.yaml", WAITING);
  host.files.set("two.yaml", TWO);
  let seeds = 0;
  const { store } = host.cluster;
  const clock = { monotonicMs: () => 0, wallMs: () => store.nowMs, after: () => () => {} };
  const scheduler = placingService(store, { clock, newId: () => `seed-${++seeds}` });
  const first = await transcript(host, [
    "node set n1 --zone east --label disk=ssd",
    "node set n2 --zone west --label disk=ssd",
    "node set n3 --zone west",
    "policy create back-ssd --rule must --label tier=back --node-label disk=ssd",
    "vm create -f decided.yaml",
    "explain db",
    "explain db --why-not all",
  ]);
  await scheduler.run(store.term);
  const second = await transcript(host, ["explain db", "explain web", "explain db --why-not n3", "vm create -f waiting.yaml"]);
  await scheduler.run(store.term);
  const third = await transcript(host, [
    "vm list",
    "vm show big",
    "explain big",
    "explain big --why-not all",
    "explain far --why-not all",
    "explain big -o json",
    "explain big --why-not n3 -o json",
    "explain db --revision 3",
    "explain db --why-not n7",
    "explain nobody",
    "scheduler replay",
    "scheduler replay --set scheduler.scoring=consolidate",
    "scheduler replay --set scheduler.memoryRatio=0.5 -o json",
    "scheduler replay --from 9999",
    "scheduler replay --set scoring=even",
    "scheduler export live.json",
    "settings set scheduler.historyMib 0",
    "vm create -f two.yaml --hold",
    "explain db",
    "scheduler replay",
  ]);
  const whatIf = [
    ["what-if", "fail n1; add 2 web; drain n2"],
    ["what-if", "fail zone west"],
    ["what-if", "disable n3; enable n3; stop db; start db; remove web; resize big cpus=1 memory=256MiB"],
    ["what-if", "set scheduler.memoryRatio 2; disable policy back-ssd; enable policy back-ssd"],
    ["what-if", "drain n1", "-o", "json"],
    ["what-if", "explode n1"],
    ["what-if", "fail n9"],
    ["what-if", "add 0 web; resize db memory=lots"],
  ];
  let fourth = "";
  for (const words of whatIf) fourth += await transcript(host, [words]);
  golden(t, "decisions", first + second + third + fourth);
});

const UNEVEN = `vms:
  - {name: a, cpus: 1, memory: 128MiB}
  - {name: b, cpus: 2, memory: 256MiB}
  - {name: c, cpus: 1, memory: 512MiB}
  - {name: d, cpus: 2, memory: 640MiB}
`;

t.test("rebalancing", async (t) => {
  const host = await cliHost(3);
  t.teardown(() => host.close());
  host.files.set("uneven.yaml", UNEVEN);
  t.teardown(playAgents(host.cluster));
  golden(
    t,
    "rebalance",
    await transcript(host, [
      "cluster rebalance --plan",
      "vm create -f uneven.yaml --wait",
      "settings set scheduler.cpuRatio 2",
      "cluster rebalance",
      "cluster rebalance --plan",
      "cluster rebalance --plan --max-steps 1 --explain",
      "cluster rebalance --plan --max-mib 300 -o json",
      "cluster rebalance --plan --min-gain 1",
      "cluster rebalance --plan --max-mib 1.5",
      "cluster rebalance --plan --min-gain often",
      "node disable n2",
      "node disable n3",
      "cluster rebalance --plan",
      "help cluster rebalance",
    ]),
  );
});

t.test("settings, tokens, contexts, help", async (t) => {
  const host = await cliHost(1);
  t.teardown(() => host.close());
  golden(
    t,
    "rest",
    await transcript(host, [
      "settings set scheduler.scoring consolidate",
      "settings explain ha.claimMs",
      "token create --ttl 10m --uses 3",
      "token list",
      "token revoke 00000003",
      "token list",
      "context issue --user alice",
      "context use lab",
      "context list",
      "config explain listen",
      "ha show",
      "scheduler plan --cluster c.yaml --request r.yaml",
      "scheduler plan --cluster c.yaml --request r.yaml -o json",
      "scheduler replay --cluster c.yaml --request r.yaml --set scheduler.scoring=consolidate",
      "help vm-file",
      "help exit-codes",
      "help environment",
      "help vm",
    ]),
  );
});
