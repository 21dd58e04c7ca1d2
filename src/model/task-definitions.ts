/** What each action consists of, and what each job is: the two tables that everything about tasks is read from. */
import type { SettingKey } from "./settings.ts";
import type { JobName, JobTree, TaskAction } from "./task.ts";

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
};

export interface JobRule {
  /** Setting of its time limit (TSK-7); null: it waits for the scheduler. */
  limit: SettingKey | null;
  /** Of what its undo does; null: it has none, because it changes nothing or cannot be taken back. */
  undo: string | null;
  /** `configure` kinds always take a slot, `state-change` ones unless `faststatechanges`, `none` never (LIM-4, LIM-5). */
  takes: "configure" | "state-change" | "none";
  /** `rollback` the task, or go on trying because there is no way back. */
  onFailure: "rollback" | "retry";
  /** False: acting twice is not acting once; it is never repeated, and may end `unknown`. */
  repeatable: boolean;
}

export const JOBS: Record<JobName, JobRule> = {
  place: { limit: null, undo: "release the claim", takes: "none", onFailure: "rollback", repeatable: true },
  configure: {
    limit: "vm.configureTimeoutMs",
    undo: "delete the disks that it made",
    takes: "configure",
    onFailure: "rollback",
    repeatable: true,
  },
  "power-on": { limit: "vm.bootTimeoutMs", undo: "end the domain", takes: "state-change", onFailure: "rollback", repeatable: true },
  shutdown: { limit: "vm.operationTimeoutMs", undo: null, takes: "state-change", onFailure: "rollback", repeatable: true },
  "wait-for-power-off": { limit: "vm.shutdownTimeoutMs", undo: null, takes: "none", onFailure: "rollback", repeatable: true },
  "power-off": { limit: "vm.operationTimeoutMs", undo: null, takes: "state-change", onFailure: "retry", repeatable: true },
  unconfigure: { limit: "vm.configureTimeoutMs", undo: null, takes: "configure", onFailure: "retry", repeatable: true },
  pause: { limit: "vm.operationTimeoutMs", undo: "unpause", takes: "state-change", onFailure: "rollback", repeatable: true },
  unpause: { limit: "vm.operationTimeoutMs", undo: "pause", takes: "state-change", onFailure: "rollback", repeatable: true },
  reboot: { limit: "vm.operationTimeoutMs", undo: null, takes: "state-change", onFailure: "rollback", repeatable: false },
  reset: { limit: "vm.operationTimeoutMs", undo: null, takes: "state-change", onFailure: "rollback", repeatable: false },
  migrate: {
    limit: "vm.migrateTimeoutMs",
    undo: "end the target's domain",
    takes: "state-change",
    onFailure: "rollback",
    repeatable: true,
  },
};
