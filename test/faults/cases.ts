/** Every task definition as a case: how the VM stands before, how the task is asked for, and what must be so after it was done. */
import type { DomainStatus } from "../../src/hypervisor/driver.ts";
import { DEFINITIONS } from "../../src/model/task-definitions.ts";
import type { TaskAction } from "../../src/model/task.ts";
import type { VmDefinition } from "../../src/model/vm.ts";
import type { World } from "./world.ts";

type Standing = "absent" | "running" | "paused";

export interface Case {
  action: TaskAction;
  /** `shared`: under HA, recovered elsewhere. `local`: it waits for its node. */
  disks: "shared" | "local";
  before: Standing;
  after: Standing | "stopped";
  ask: (world: World, vmId: string) => Promise<void>;
}

/** Definitions that no user can start yet on this cluster, and why. */
export const NOT_COVERED: Partial<Record<TaskAction, string>> = {
  migrate: "no agent is sent it, two words in the log decide it: test/sim/ha.test.ts",
  "update-devices": "its jobs go to network devices: test/tasks/limits",
  backup: "its jobs go to backup managers: test/tasks/limits",
};

const desire =
  (action: "shutdown" | "force-shutdown" | "delete" | "pause" | "unpause" | "restart" | "force-restart" | "start") =>
  async (world: World, vmId: string): Promise<void> => {
    await world.request({ type: "vm.desire", vmId, action, nodeId: null });
  };

const ASKED: Partial<Record<TaskAction, Omit<Case, "action" | "disks">>> = {
  deploy: { before: "absent", after: "running", ask: create },
  recover: { before: "running", after: "running", ask: loseItsNode },
  shutdown: { before: "running", after: "stopped", ask: desire("shutdown") },
  "force-shutdown": { before: "running", after: "stopped", ask: desire("force-shutdown") },
  restart: { before: "running", after: "running", ask: desire("restart") },
  "force-restart": { before: "running", after: "running", ask: desire("force-restart") },
  pause: { before: "running", after: "paused", ask: desire("pause") },
  unpause: { before: "paused", after: "running", ask: desire("unpause") },
  delete: { before: "running", after: "absent", ask: desire("delete") },
};

/** One for each definition; those that make or delete disks also with disks of one node. */
export function cases(): Case[] {
  return (Object.keys(DEFINITIONS) as TaskAction[]).flatMap((action) => {
    const asked = ASKED[action];
    if (asked === undefined) {
      if (NOT_COVERED[action] === undefined) throw new Error(`no case for ${action}`);
      return [];
    }
    const kinds: Case["disks"][] = action === "deploy" || action === "delete" ? ["shared", "local"] : ["shared"];
    return kinds.map((disks) => ({ action, disks, ...asked }));
  });
}

function definition(disks: Case["disks"]): VmDefinition {
  const pool = disks === "shared" ? "images" : "local";
  const disk = {
    pool,
    sizeBytes: null,
    clone: true,
    format: "raw",
    bus: "virtio",
    device: "disk",
    readonly: false,
    cache: "none",
  } as const;
  return {
    name: "vm",
    cpus: 1,
    memoryMib: 64,
    arch: "x86_64",
    boot: null,
    // One that is copied, and one that is made.
    disks: [
      { ...disk, source: `${pool}/base.raw`, target: "vda" },
      { ...disk, source: null, sizeBytes: 2 ** 20, target: "vdb" },
    ],
    nics: [],
    labels: {},
    restart: "on-failure",
    ha: { enabled: null, priority: 0, onQuorumLoss: "stop" },
  };
}

async function create(world: World, vmId: string): Promise<void> {
  const vms = [{ id: vmId, definition: definition(world.disks), hold: false, nodeId: null, power: "on" as const }];
  await world.request({ type: "vm.create", vms });
}

/** The machine that runs it is off for a while. */
async function loseItsNode(world: World, vmId: string): Promise<void> {
  const nodeId = world.vm(vmId)?.claim?.nodeId ?? "";
  world.loseHost(world.host(nodeId));
}

/** How the VM stands, judged by the state. */
export function standing(world: World, vmId: string): Standing | "stopped" | "other" {
  const vm = world.vm(vmId);
  if (vm === undefined) return "absent";
  if (vm.state === "running" || vm.state === "paused" || vm.state === "stopped") return vm.state;
  return "other";
}

const PATIENCE_MS = 300_000;

/** Brings it there by hand, if it is not; throws with where it stays instead. */
export async function bring(world: World, vmId: string, wanted: Standing): Promise<void> {
  const { clock } = world;
  const reach = async (goal: Standing | "stopped"): Promise<void> => {
    const reached = await clock.until(() => standing(world, vmId) === goal && world.isQuiet(vmId), PATIENCE_MS);
    if (!reached) throw new Error(`asked for by hand, it is not ${goal}: ${world.describe(vmId)}`);
  };
  const act = async (work: (world: World, vmId: string) => Promise<void>, goal: Standing | "stopped"): Promise<void> => {
    await during(world, work(world, vmId));
    await reach(goal);
  };
  if (wanted === "absent") {
    if (standing(world, vmId) !== "absent") await act(desire("delete"), "absent");
    return;
  }
  if (standing(world, vmId) === "absent") await act(create, "running");
  if (standing(world, vmId) === "stopped" || world.vm(vmId)?.state === "failed") await act(desire("start"), "running");
  if (wanted === "running" && standing(world, vmId) === "paused") await act(desire("unpause"), "running");
  if (wanted === "paused" && standing(world, vmId) === "running") await act(desire("pause"), "paused");
  await reach(wanted);
}

/** Lets time pass until the work has ended. */
export async function during<T>(world: World, work: Promise<T>): Promise<T> {
  let over = false;
  const done = (): void => void (over = true);
  work.then(done, done);
  if (!(await world.clock.until(() => over, PATIENCE_MS))) throw new Error("a request is never answered");
  return await work;
}

/** What the hypervisors have of it. */
export async function domainsOf(world: World, vmId: string): Promise<Pick<DomainStatus, "generation" | "state">[]> {
  const found = await Promise.all(world.hosts.map((host) => host.domains.get(vmId)));
  return found.flatMap((domain) => (domain === null ? [] : [{ generation: domain.generation, state: domain.state }]));
}
