/** The CLI run in the test's own process against a real API server on a socket, over a cluster in memory. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startApi } from "../../src/api/server.ts";
import type { Handlers } from "../../src/cli/handlers.ts";
import type { Io } from "../../src/cli/io.ts";
import { runProgram } from "../../src/cli/program.ts";
import { isSent, type Job, type Task } from "../../src/model/task.ts";
import { JOBS } from "../../src/model/task-definitions.ts";
import type { Command, TaskAnswer } from "../../src/state/commands.ts";
import { orchestrate, Turns } from "../../src/tasks/orchestrate.ts";
import { testCluster } from "./api.ts";
import type { TestCluster } from "./api.ts";

export interface Ran {
  out: string;
  err: string;
  code: number;
}

export interface CliHost {
  cluster: TestCluster;
  folder: string;
  socket: string;
  io: Io;
  /** Calls of handlers, as they came. */
  handled: unknown[][];
  files: Map<string, string>;
  run(words: string[], changes?: Partial<Io>): Promise<Ran>;
  close(): Promise<void>;
}

/** Ids that count, so that golden files stay the same: 00000000-0000-4000-8000-000000000001, … */
export function countingIds(): () => string {
  let count = 0;
  return () => `${String(++count).padStart(8, "0")}-0000-4000-8000-000000000000`;
}

/** Seconds between what happened (the store's clock stands at 1,000 s) and the CLI's now. */
export const LATER_MS = 1_000_000 + 65_000;

export async function cliHost(nodes = 1): Promise<CliHost> {
  const cluster = await testCluster(nodes, countingIds());
  const folder = await mkdtemp(join(tmpdir(), "roost-cli-"));
  const socket = join(folder, "roost.sock");
  // Waits and durations are told against the same clock that made the rows.
  const { store } = cluster;
  cluster.server.nowMs = () => store.nowMs;
  const api = await startApi(cluster.server, { socketPath: socket, tls: null });
  const handled: unknown[][] = [];
  const files = new Map<string, string>();
  const note =
    (name: string) =>
    async (...words: unknown[]): Promise<number> => {
      handled.push([name, ...words]);
      return 0;
    };
  const handlers: Handlers = {
    up: note("up"),
    join: note("join"),
    daemon: note("daemon"),
    keeper: note("keeper"),
    recover: async (options) => {
      handled.push(["recover", options]);
      const nodes = [
        { name: "n1", fate: "goes on" as const, lastTerm: 3, lastIndex: 40, vms: 2 },
        { name: "n2", fate: "unknown" as const, lastTerm: null, lastIndex: null, vms: 1 },
        { name: "n3", fate: "survives" as const, lastTerm: 3, lastIndex: 39, vms: 0 },
      ];
      return { done: options.yes, node: "n1", clusterId: "c", generation: 2, lastTerm: 3, lastIndex: 40, uncertain: 1, nodes };
    },
    rejoin: async (options) => {
      handled.push(["rejoin", options]);
      return { done: options.yes, node: "n3", from: 1, generation: 2, aside: ".generation-1" };
    },
    restore: async (options) => {
      handled.push(["restore", options]);
      const nodes = [{ name: "n2", off: options.off.includes("n2"), vms: 1 }];
      const { yes: done, as } = options;
      return {
        done,
        node: as ?? "n9",
        clusterId: "c",
        clusterName: "lab",
        generation: 2,
        revision: 40,
        createdAtMs: 1_000_000,
        vms: 3,
        nodes,
      };
    },
    schedulerPlan: async (...words) => (
      handled.push(["plan", ...words]),
      { json: { placed: 1 }, table: { head: ["VM", "NODE"], rows: [["a", "n1"]] } }
    ),
    schedulerExplain: async (...words) => (handled.push(["explain", ...words]), { json: [], table: { head: ["NODE"], rows: [] } }),
    schedulerReplay: async (...words) => (handled.push(["replay", ...words]), { json: {}, table: { head: ["VM"], rows: [] } }),
    schedulerRebalance: async (...words) => (handled.push(["rebalance", ...words]), { json: {}, table: { head: ["VM"], rows: [] } }),
    schedulerWhatIf: async (...words) => (handled.push(["what-if", ...words]), { json: {}, table: { head: ["VM"], rows: [] } }),
  };
  let requests = 0;
  const io: Io = {
    out: () => {},
    err: () => {},
    env: { ROOST_SOCKET: socket },
    isTerminal: false,
    isErrTerminal: false,
    nowMs: () => store.nowMs + LATER_MS - 1_000_000,
    newId: () => `cli-${++requests}@000001000000`,
    readFile: async (path) => files.get(path) ?? (await readFile(path, "utf8")),
    writeFile: async (path, text) => void files.set(path, text),
    createFile: async (path) => {
      const parts: Uint8Array[] = [];
      return {
        write: async (bytes) => void parts.push(bytes),
        commit: async () => void files.set(path, Buffer.concat(parts).toString("latin1")),
        discard: async () => {},
      };
    },
    readStdin: async () => files.get("-") ?? "",
    homeDir: folder,
    signal: new AbortController().signal,
  };
  return {
    cluster,
    folder,
    socket,
    io,
    handled,
    files,
    async run(words, changes = {}) {
      const ran: Ran = { out: "", err: "", code: 0 };
      const own: Io = { ...io, out: (text) => void (ran.out += text), err: (text) => void (ran.err += text), ...changes };
      ran.code = await runProgram(words, {
        io: own,
        handlers,
        listDir: async (path) => [...files.keys()].filter((file) => file.startsWith(`${path}/`)).map((file) => file.slice(path.length + 1)),
      });
      return ran;
    },
    async close() {
      await api.close(0);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** What agents answer; null leaves the job sent. */
export type Answers = (task: Task, job: Job) => TaskAnswer["outcome"] | null;

/** Plays scheduler, orchestrator and agents: what waits is placed and sent, what is sent is done, or as `answers` says. */
export function playAgents(cluster: TestCluster, nodeId = cluster.nodeIds[0] ?? "", answers: Answers = () => ({ ok: true })): () => void {
  const { store } = cluster;
  const turns = new Turns();
  const as = async (origin: string, command: Command): Promise<void> => {
    store.origin = origin;
    await store.propose(command, { actor: `node:${origin}`, term: store.term });
  };
  const act = async (): Promise<void> => {
    for (const node of store.view().nodes.values()) {
      const pools = [...store.view().pools.keys()].map((poolId) => ({
        poolId,
        available: true,
        problem: "",
        totalBytes: 2 ** 34,
        freeBytes: 2 ** 33,
      }));
      if (node.info === null || pools.length === node.info.pools.length) continue;
      await as(node.id, { type: "node.info", nodeId: node.id, info: { ...node.info, pools } });
    }
    for (const vm of store.view().vms.values()) {
      if ((vm.state !== "pending" && vm.state !== "recovering") || vm.desired.hold || vm.retryAtMs > store.nowMs) continue;
      await as(nodeId, { type: "vm.place", placements: [{ vmId: vm.id, nodeId, generation: vm.generation }], rejections: [] });
    }
    const sends = orchestrate(store.view(), { inFlight: [], turns, atMs: store.nowMs, max: 100 });
    if (sends.length > 0) await as(nodeId, { type: "task.dispatch", sends });
    for (const ids of store.view().tasksByNode.values()) {
      for (const task of [...ids].flatMap((id) => store.view().tasks.get(id) ?? [])) {
        for (const job of task.jobs) {
          const outcome = isSent(job) ? answers(task, job) : null;
          if (outcome === null || job.nodeId === null) continue;
          const key = { taskId: task.id, path: job.path, attempt: job.attempt };
          if (!JOBS[job.name].repeatable) await as(job.nodeId, { type: "task.begin", ...key, nodeId: job.nodeId, run: "run-1" });
          const steps = outcome.ok && job.state === "sent" ? stepsOf(job, store.nowMs) : [];
          await as(job.nodeId, { type: "task.answer", ...key, nodeId: job.nodeId, generation: job.generation, outcome, steps });
        }
      }
    }
  };
  let queue = Promise.resolve();
  let busy = false;
  let again = false;
  const wake = (): void => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    // After the call that made the change, as a real agent would.
    queue = queue
      .then(() => new Promise<void>((resolve) => void setImmediate(resolve)))
      .then(act)
      .finally(() => {
        busy = false;
        if (again) wake();
        again = false;
      });
  };
  const stop = store.subscribe(wake);
  wake();
  return stop;
}

function stepsOf({ name }: Job, atMs: number): { atMs: number; name: string; detail: string }[] {
  if (name === "configure") return [{ atMs, name: "disk made", detail: "images" }];
  return name === "power-on" ? [{ atMs, name: "CPUs resumed", detail: "" }] : [];
}
