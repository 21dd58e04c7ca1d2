/** What each action consists of, and what each job is: the two tables that everything about tasks is read from. */
import type { SettingKey } from "./settings.ts";
import type { Job, JobName, JobTree, TaskAction } from "./task.ts";

const job = (name: JobName): JobTree => ({ kind: "job", name });
const sequence = (...of: JobTree[]): JobTree => ({ kind: "sequence", of });

const START = sequence(job("place"), job("configure"), job("power-on"));

export const DEFINITIONS: Record<TaskAction, JobTree> = {
  deploy: START,
  recover: START,
  shutdown: sequence(job("shutdown"), job("wait-for-power-off")),
  "force-shutdown": job("power-off"),
  restart: job("reboot"),
  "force-restart": job("reset"),
  pause: job("pause"),
  unpause: job("unpause"),
  delete: sequence(job("power-off"), job("unconfigure")),
  migrate: job("migrate"),
  "update-devices": job("configure-device"),
  backup: job("perform-backup"),
};

/** The tree as the jobs of a new task, in the order in which it is written. */
export function jobsOf(tree: JobTree): Job[] {
  const jobs: Job[] = [];
  lay(tree, "", [], jobs);
  return jobs;
}

/** @returns paths of the jobs that whatever comes next has to wait for. */
function lay(tree: JobTree, path: string, after: readonly string[], jobs: Job[]): readonly string[] {
  if (tree.kind === "job") {
    const own = path === "" ? "0" : path;
    jobs.push(newJob(own, tree.name, after));
    return [own];
  }
  const paths = tree.of.map((part, i) => ({ part, at: path === "" ? String(i) : `${path}.${i}` }));
  if (tree.kind === "concurrent") return paths.flatMap(({ part, at }) => lay(part, at, after, jobs));
  return paths.reduce((before, { part, at }) => lay(part, at, before, jobs), after);
}

function newJob(path: string, name: JobName, after: readonly string[]): Job {
  return {
    path,
    name,
    after: [...after],
    state: "waiting",
    attempt: 0,
    nodeId: null,
    generation: 0,
    slot: null,
    begunBy: null,
    sentAtMs: null,
    endedAtMs: null,
    error: null,
    retryAtMs: 0,
    steps: [],
    progress: null,
  };
}

export type PoolKind = "compute" | "device" | "backup";

export interface JobRule {
  /** Setting of its time limit (TSK-7); null: it waits for the scheduler. */
  limit: SettingKey | null;
  /** Of what its undo does; null: it has none, because it changes nothing or cannot be taken back. */
  undo: string | null;
  /** Whose slots (LIM-1): the hypervisor's connection, a network device's, a backup manager's. */
  pool: PoolKind;
  /** `configure` kinds always take a slot, `state-change` ones unless `faststatechanges`, `none` never (LIM-4, LIM-5). */
  takes: "configure" | "state-change" | "none";
  /** `rollback` the task, or go on trying because there is no way back. */
  onFailure: "rollback" | "retry";
  /** False: acting twice is not acting once; it is never repeated, and may end `unknown`. */
  repeatable: boolean;
}

export const JOBS: Record<JobName, JobRule> = {
  place: { limit: null, undo: "release the claim", pool: "compute", takes: "none", onFailure: "rollback", repeatable: true },
  configure: {
    limit: "vm.configureTimeoutMs",
    undo: "delete the disks that it made",
    pool: "compute",
    takes: "configure",
    onFailure: "rollback",
    repeatable: true,
  },
  "power-on": {
    limit: "vm.bootTimeoutMs",
    undo: "end the domain",
    pool: "compute",
    takes: "state-change",
    onFailure: "rollback",
    repeatable: true,
  },
  shutdown: { limit: "vm.operationTimeoutMs", undo: null, pool: "compute", takes: "state-change", onFailure: "rollback", repeatable: true },
  "wait-for-power-off": {
    limit: "vm.shutdownTimeoutMs",
    undo: null,
    pool: "compute",
    takes: "none",
    onFailure: "rollback",
    repeatable: true,
  },
  "power-off": { limit: "vm.operationTimeoutMs", undo: null, pool: "compute", takes: "state-change", onFailure: "retry", repeatable: true },
  unconfigure: { limit: "vm.configureTimeoutMs", undo: null, pool: "compute", takes: "configure", onFailure: "retry", repeatable: true },
  pause: {
    limit: "vm.operationTimeoutMs",
    undo: "unpause",
    pool: "compute",
    takes: "state-change",
    onFailure: "rollback",
    repeatable: true,
  },
  unpause: {
    limit: "vm.operationTimeoutMs",
    undo: "pause",
    pool: "compute",
    takes: "state-change",
    onFailure: "rollback",
    repeatable: true,
  },
  reboot: { limit: "vm.operationTimeoutMs", undo: null, pool: "compute", takes: "state-change", onFailure: "rollback", repeatable: false },
  reset: { limit: "vm.operationTimeoutMs", undo: null, pool: "compute", takes: "state-change", onFailure: "rollback", repeatable: false },
  migrate: {
    limit: "vm.migrateTimeoutMs",
    // Given up, the source has never stopped holding the VM, and the row says until when the target still has something of it.
    undo: null,
    pool: "compute",
    takes: "none",
    onFailure: "rollback",
    repeatable: true,
  },
  "configure-device": {
    limit: "vm.operationTimeoutMs",
    undo: "take its entries off the device",
    pool: "device",
    takes: "configure",
    onFailure: "rollback",
    repeatable: true,
  },
  "unconfigure-device": {
    limit: "vm.operationTimeoutMs",
    undo: null,
    pool: "device",
    takes: "configure",
    onFailure: "retry",
    repeatable: true,
  },
  "perform-backup": {
    limit: "vm.configureTimeoutMs",
    undo: "delete the unfinished backup",
    pool: "backup",
    takes: "configure",
    onFailure: "rollback",
    repeatable: true,
  },
};
