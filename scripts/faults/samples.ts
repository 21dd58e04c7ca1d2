/**
 * Seeded points of the fault matrix on real libvirt: a lab of three nodes, real guests, and kill -9 of real processes. What a point
 * is about, its moment and the delay after it follow from the seed; what the processes do in between does not.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parse } from "yaml";
import { createClient, type RpcClient } from "../../src/base/rpc-client.ts";
import { seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { DEFINITIONS, jobsOf } from "../../src/model/task-definitions.ts";
import type { TaskAction } from "../../src/model/task.ts";
import type { Vm__Output } from "../../src/gen/types/roost/v1/Vm.ts";
import type { Task__Output } from "../../src/gen/types/roost/v1/Task.ts";
import { clusterForTest, guestDefinition, readSerial, SOON_MS } from "../../test/support/e2e.ts";
import type { Cluster } from "../../test/support/e2e.ts";
import type { LabNode } from "../lab/lab.ts";
import { waitFor } from "../lab/wait.ts";

export interface Sampled {
  text: string;
  problem: string | null;
}

const ACTIONS = ["deploy", "recover", "shutdown", "force-shutdown", "restart", "force-restart", "pause", "unpause", "delete"] as const;
type Action = (typeof ACTIONS)[number] & TaskAction;
const FAULTS = ["leader killed", "agent killed", "leader and agent killed", "libvirtd killed", "node killed", "cancelled"] as const;
const WHENS = ["before", "during", "after"] as const;

interface Point {
  action: Action;
  job: string;
  when: (typeof WHENS)[number];
  fault: (typeof FAULTS)[number];
  /** After the moment, ms. */
  delayMs: number;
}

type Standing = "absent" | "running" | "paused" | "stopped";
const BEFORE: Record<Action, Standing> = {
  deploy: "absent",
  recover: "running",
  shutdown: "running",
  "force-shutdown": "running",
  restart: "running",
  "force-restart": "running",
  pause: "running",
  unpause: "paused",
  delete: "running",
};

const RESTART_MS = 1_000;
const REST_MS = 120_000;

export async function runSamples(options: { seed: number; samples: number; tell: (line: string) => void }): Promise<Sampled[]> {
  const { seed, samples, tell } = options;
  const points = pointsOf(seededRandom(seed), samples);
  const ends: (() => Promise<void>)[] = [];
  const done: Sampled[] = [];
  let failed = false;
  const test = { teardown: (end: () => Promise<void>) => void ends.push(end), comment: tell, passing: () => !failed };
  try {
    const cluster = await clusterForTest(test, "faults");
    await cluster.layButtonImage();
    const lab = await openLab(cluster);
    for (const [i, point] of points.entries()) {
      const text = pointText(point);
      const startedMs = performance.now();
      const problem = await play(lab, point, `s${i}`).then(
        () => null,
        (thrown: unknown) => (thrown as Error).message,
      );
      done.push({ text, problem });
      tell(
        `${String(i + 1).padStart(3)}/${samples}  ${problem === null ? "ok    " : "FAILED"}  ${text}  ${((performance.now() - startedMs) / 1000).toFixed(1)} s`,
      );
      // What one leaves behind would be blamed on the next.
      if (problem !== null) {
        tell(`        ${problem}`);
        failed = true;
        break;
      }
    }
    lab.client.close();
    await cluster.sampler.stop();
  } finally {
    for (const end of ends.toReversed()) await end();
  }
  return done;
}

/** Every definition in turn, so that few points still see them all. */
function pointsOf(random: Random, samples: number): Point[] {
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)] as T;
  const order = [...ACTIONS].map((action) => ({ action, at: random.unit() })).toSorted((a, b) => a.at - b.at);
  return Array.from({ length: samples }, (_, i) => {
    const action = (order[i % order.length]?.action ?? "deploy") as Action;
    const job = pick(jobsOf(DEFINITIONS[action])).name;
    return { action, job, when: pick(WHENS), fault: pick(FAULTS), delayMs: Math.floor(random.unit() * 150) };
  });
}

function pointText({ action, job, when, fault, delayMs }: Point): string {
  return `${action}: ${fault} ${when} ${job} + ${delayMs} ms`;
}

interface OpenLab {
  cluster: Cluster;
  client: RpcClient;
}

async function openLab(cluster: Cluster): Promise<OpenLab> {
  const { endpoints, ca, cert, key } = parse(await readFile(cluster.lab.contextPath, "utf8")) as Record<"ca" | "cert" | "key", string> & {
    endpoints: string[];
  };
  return { cluster, client: createClient({ endpoints, tls: { ca, cert, key } }) };
}

async function play(lab: OpenLab, point: Point, name: string): Promise<void> {
  const { cluster } = lab;
  await bring(lab, name, BEFORE[point.action]);
  const before = await bootsOf(cluster, name);
  const known = (await tasksOf(lab, name)).map(({ number }) => number);
  const newest = Math.max(0, ...known);
  const faulted = strike(lab, point, name, newest);
  await ask(lab, point.action, name);
  await faulted;
  await rest(lab, name);
  // An agent that was away for long comes back to a keeper that has ended its VMs: what the state says is old until then.
  await findings(cluster);
  await rest(lab, name);
  const task = await findTask(lab, name, newest, point.action);
  if (task === null) throw new Error(`there is no ${point.action} of it`);
  await check(lab, point, name, task, before);

  // The same request again.
  await bring(lab, name, BEFORE[point.action]);
  const last = Math.max(0, ...(await tasksOf(lab, name)).map(({ number }) => number));
  await ask(lab, point.action, name);
  await waitFor(`another ${point.action} of ${name}`, () => findTask(lab, name, last, point.action), REST_MS, { everyMs: 100 });
  await rest(lab, name);
  const again = await findTask(lab, name, last, point.action);
  if (again?.state !== "done") throw new Error(`the same request then is ${again?.state ?? "never made"}: ${again?.summary ?? ""}`);
  await bring(lab, name, "absent");
  const left = await findings(cluster);
  if (left !== "") throw new Error(`deleted, and the doctor says: ${left}`);
}

/** Waits for the moment, and does it. */
async function strike(lab: OpenLab, point: Point, name: string, newest: number): Promise<void> {
  const { cluster } = lab;
  const task = await waitFor(`the ${point.action} of ${name}`, () => findTask(lab, name, newest, point.action), REST_MS, { everyMs: 10 });
  let last = task;
  const isMoment = (now: Task__Output): boolean => {
    const job = now.jobs.find((one) => one.name === point.job);
    if (job === undefined || now.endedAtMs !== 0) return true;
    const before = now.jobs.slice(0, now.jobs.indexOf(job)).every((one) => one.state === "done");
    if (point.when === "before") return before;
    return point.when === "during" ? job.state !== "waiting" : job.state !== "waiting" && job.state !== "sent";
  };
  for await (const { task: now } of lab.client.watch("TaskService", "WatchTask", { task: task.id }, { timeoutMs: REST_MS })) {
    if (now !== null) last = now;
    if (isMoment(last)) break;
  }
  await sleep(point.delayMs);
  const worker = cluster.lab.nodes.find((node) => last.jobs.some((job) => job.node === node.name)) ?? cluster.node(1);
  const nodes = await nodesOf(lab);
  const leader = cluster.lab.nodes.find((node) => nodes.some((row) => row.leader && row.name === node.name)) ?? worker;
  switch (point.fault) {
    case "leader killed":
      return await restart([leader]);
    case "agent killed":
      return await restart([worker]);
    case "leader and agent killed":
      return await restart(leader === worker ? [worker] : [leader, worker]);
    case "libvirtd killed":
      if (!worker.isOn()) return;
      await worker.kill("libvirtd");
      await sleep(RESTART_MS);
      return await worker.startLibvirtd();
    case "node killed":
      if (!worker.isOn()) return;
      await worker.kill("all");
      await sleep(3 * RESTART_MS);
      return await cluster.powerOn(worker);
    case "cancelled":
      // Too late is an answer, too.
      await cluster.roost(["task", "cancel", last.id]);
  }
}

async function restart(nodes: LabNode[]): Promise<void> {
  const on = nodes.filter((node) => node.isOn());
  await Promise.all(on.map((node) => node.kill("agent")));
  await sleep(RESTART_MS);
  for (const node of on) if (node.isOn() && node.processes("agent").length === 0) await node.startAgent();
}

async function ask(lab: OpenLab, action: Action, name: string): Promise<void> {
  const { cluster } = lab;
  // Whoever is asked may die with the answer: then the same is asked of another.
  const again = async (words: readonly string[], input?: string): Promise<void> => {
    await waitFor(
      `an answer to roost ${words.join(" ")}`,
      async (saw) => {
        const { code, stderr } = await cluster.roost(words, { timeoutMs: 20_000, ...(input === undefined ? {} : { input }) });
        saw(stderr);
        return code === 0 || code === 3 || code === 4;
      },
      SOON_MS,
    );
  };
  if (action === "deploy") return await again(["vm", "create", "-f", "-"], guestDefinition(name, "shared/button.img"));
  if (action !== "recover") return await again(["vm", action, name]);
  const lost = cluster.node((await vmOf(lab, name))?.node ?? "");
  await lost.kill("all");
  // Back when its VM is elsewhere; `rest` waits for both.
  void sleep(12_000).then(async () => {
    if (!lost.isOn()) await lost.powerOn();
  });
}

async function tasksOf({ client }: OpenLab, name: string): Promise<Task__Output[]> {
  try {
    const all = await client.call("TaskService", "ListTasks", { consistency: "CONSISTENCY_STALE", pageSize: 100 }, { timeoutMs: 5_000 });
    return all.tasks.filter((task) => task.objectName === name);
  } catch {
    return [];
  }
}

async function findTask(lab: OpenLab, name: string, after: number, action: string): Promise<Task__Output | null> {
  return (await tasksOf(lab, name)).toReversed().find((task) => task.number > after && task.action === action) ?? null;
}

/** Until every node is ready and nothing of the VM is under way. */
async function rest(lab: OpenLab, name: string): Promise<void> {
  await waitFor(
    `${name} at rest`,
    async (saw) => {
      const nodes = await nodesOf(lab);
      const open = (await tasksOf(lab, name)).filter((task) => task.endedAtMs === 0);
      saw([
        ...nodes.map((node) => `${node.name} ${node.state}`),
        ...open.map((task) => `${task.id} ${task.action} ${task.state}: ${task.summary}`),
      ]);
      return (
        nodes.length === 3 && nodes.every((node) => node.state === "ready") && open.length === 0 && (await standing(lab, name)) !== "other"
      );
    },
    REST_MS,
    { everyMs: 250 },
  );
}

/** Empty while nobody answers; a call is much cheaper than a command. */
async function nodesOf({ client }: OpenLab): Promise<{ name: string; state: string; leader: boolean }[]> {
  const answer = await client.call("NodeService", "ListNodes", {}, { timeoutMs: 5_000 }).catch(() => null);
  return answer?.nodes ?? [];
}

async function vmOf({ client }: OpenLab, name: string): Promise<Vm__Output | null | undefined> {
  const answer = await client.call("VmService", "ListVms", {}, { timeoutMs: 5_000 }).catch(() => null);
  return answer === null ? undefined : (answer.vms.find((vm) => vm.name === name) ?? null);
}

async function standing(lab: OpenLab, name: string): Promise<Standing | "other"> {
  const vm = await vmOf(lab, name);
  if (vm === undefined) return "other";
  if (vm === null) return "absent";
  return vm.state === "running" || vm.state === "paused" || vm.state === "stopped" ? vm.state : "other";
}

async function bring(lab: OpenLab, name: string, wanted: Standing): Promise<void> {
  const { cluster } = lab;
  const must = async (words: readonly string[], input?: string): Promise<void> => {
    await cluster.must([...words, "--wait", "--timeout", "60s"], {
      timeoutMs: SOON_MS + 10_000,
      ...(input === undefined ? {} : { input }),
    });
  };
  const is = await standing(lab, name);
  if (wanted === "absent") {
    if (is !== "absent") await must(["vm", "delete", name]);
    return;
  }
  if (is === "absent") await must(["vm", "create", "-f", "-"], guestDefinition(name, "shared/button.img"));
  if (is === "stopped") await must(["vm", "start", name]);
  if (wanted === "running" && is === "paused") await must(["vm", "unpause", name]);
  if (wanted === "paused" && is !== "paused") await must(["vm", "pause", name]);
}

/** How often its guest started, on all nodes. */
async function bootsOf({ lab }: Cluster, name: string): Promise<number> {
  let boots = 0;
  for (const node of lab.nodes) boots += (await readSerial(node, name).catch(() => null))?.boots ?? 0;
  return boots;
}

async function check(lab: OpenLab, point: Point, name: string, task: Task__Output, bootsBefore: number): Promise<void> {
  const { cluster } = lab;
  const is = await standing(lab, name);
  const wrong = (what: string): Error => new Error(`${what}; it is ${is}; ${task.id} ${task.action} is ${task.state}: ${task.summary}`);
  if (task.endedAtMs === 0) throw wrong("its task has not ended");
  const vm = (await vmOf(lab, name)) ?? undefined;
  if (vm?.desired === "on" && is !== "running" && is !== "paused") throw wrong("it shall run");
  if (vm?.desired === "off" && is !== "stopped") throw wrong("it shall be off");
  const running = vm === undefined ? 0 : cluster.lab.nodesRunning(vm.id).length;
  if (running !== (is === "running" || is === "paused" ? 1 : 0)) throw wrong(`${running} nodes run it`);
  const isReset = point.action === "restart" || point.action === "force-restart";
  if (task.state === "unknown" && !isReset) throw wrong("unknown, though it can be repeated");
  const boots = (await bootsOf(cluster, name)) - bootsBefore;
  if (isReset && point.fault !== "node killed" && boots > 1) throw wrong(`it was reset ${boots} times`);
  const found = await findings(cluster);
  if (found !== "") throw wrong(`the doctor says: ${found}`);
}

/** What the doctor finds once it can ask every node: an agent that was just killed needs a moment to be back. */
async function findings(cluster: Cluster): Promise<string> {
  return await waitFor(
    "a doctor who can ask every node",
    async (saw) => {
      const { code, stdout, stderr } = await cluster.roost(["doctor", "-o", "json"], { timeoutMs: 40_000 });
      saw(stderr || stdout);
      if (code > 1) return null;
      const answer = JSON.parse(stdout) as { findings: Record<string, string>[]; unasked: unknown[] };
      if (answer.unasked.length > 0) return null;
      return { text: answer.findings.map(({ code: kind, where, subject, what }) => `${kind} ${where}: ${subject} ${what}`).join("; ") };
    },
    SOON_MS,
    { everyMs: 500 },
  ).then(({ text }) => text);
}
