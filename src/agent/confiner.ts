/**
 * Keeps VMs without CPUs of their own off those that belong to others, also where they run already when a pinned VM comes, and
 * lets them back when it goes. What starts beside a pinned VM is confined from its start (operations.ts).
 */
import { asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { within } from "../base/time-limit.ts";
import type { Driver } from "../hypervisor/driver.ts";
import { claimOn } from "../model/claims.ts";
import type { View } from "../model/view.ts";
import { cpuPlacementOf } from "./cpu-placement.ts";

const LIMIT_MS = 15_000;

interface Wish {
  vmId: string;
  generation: number;
  vcpus: number;
  cpus: number[];
}

export class Confiner {
  readonly #deps: { nodeId: string; driver: Pick<Driver, "login">; log: Logger };
  /** CPUs by `VM generation`, as the hypervisor was told. */
  readonly #told = new Map<string, string>();
  /** Until a pinned VM was seen here nobody has been confined, and nobody is asked about. */
  #needed = false;
  #busy = false;
  #again: View | null = null;

  constructor(deps: { nodeId: string; driver: Pick<Driver, "login">; log: Logger }) {
    this.#deps = deps;
  }

  /** Takes note of where VMs are now; what has to change is done in the background, and tried again at the next call. */
  follow(view: View): void {
    if (this.#busy) {
      this.#again = view;
      return;
    }
    const wishes = this.#wishes(view);
    if (wishes.length === 0) return;
    this.#busy = true;
    void this.#tell(wishes).then(() => {
      this.#busy = false;
      const next = this.#again;
      this.#again = null;
      if (next !== null) this.follow(next);
    });
  }

  #wishes(view: View): Wish[] {
    const { nodeId } = this.#deps;
    const all = (view.nodes.get(nodeId)?.info?.cpuTopology?.numa ?? []).flatMap((node) => node.cpus).toSorted((a, b) => a - b);
    const vms = [...(view.claimsByNode.get(nodeId) ?? [])].flatMap((id) => view.vms.get(id) ?? []);
    this.#needed ||= vms.some((vm) => claimOn(vm, nodeId)?.cpus !== undefined);
    if (!this.#needed || all.length === 0) return [];
    const present = new Set(vms.map((vm) => `${vm.id} ${vm.claim?.generation ?? 0}`));
    for (const key of this.#told.keys()) if (!present.has(key)) this.#told.delete(key);
    return vms.flatMap((vm) => {
      if (vm.claim?.nodeId !== nodeId || vm.claim.cpus !== undefined || (vm.state !== "running" && vm.state !== "paused")) return [];
      const cpus = cpuPlacementOf(view, vm, nodeId)?.cpus ?? all;
      const { generation } = vm.claim;
      return this.#told.get(`${vm.id} ${generation}`) === cpus.join() ? [] : [{ vmId: vm.id, generation, vcpus: vm.definition.cpus, cpus }];
    });
  }

  async #tell(wishes: readonly Wish[]): Promise<void> {
    const { driver, log } = this.#deps;
    try {
      const session = await within(driver.login(), LIMIT_MS, "logging in to the hypervisor");
      try {
        for (const { vmId, generation, vcpus, cpus } of wishes) {
          await within(session.confine({ vmId, generation }, { vcpus, cpus }), LIMIT_MS, "confining a domain");
          this.#told.set(`${vmId} ${generation}`, cpus.join());
        }
      } finally {
        await within(session.logout(), LIMIT_MS, "logging out of the hypervisor");
      }
    } catch (error) {
      // It may have ended meanwhile; whatever it was, the next look sees what is left to do.
      log.warn("a VM could not be kept off CPUs that belong to others", { reason: asRoostError(error).message });
    }
  }
}
