/** A view with placements that are not applied yet, put in and taken out again. Pure. */
import { replaceVm, usageOf } from "../model/capacity.ts";
import type { Usage } from "../model/capacity.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";
import type { PlannedPlacement } from "../scheduler/types.ts";

export class Supposed {
  readonly view: View;
  /** VMs that have their claim by `place`. */
  readonly added = new Set<string>();
  readonly #before: View;
  readonly #vms: Map<string, Vm>;
  readonly #claims: Map<string, ReadonlySet<string>>;
  readonly #usage: Usage;

  /** @param promised are there for good. */
  constructor(view: View, promised: readonly PlannedPlacement[]) {
    this.#before = view;
    this.#vms = new Map(view.vms);
    this.#claims = new Map(view.claimsByNode);
    const sums = view.usage ?? usageOf(view);
    this.#usage = { totalCpus: sums.totalCpus, nodes: new Map([...sums.nodes].map(([id, row]) => [id, { ...row }])) };
    this.view = { ...view, vms: this.#vms, claimsByNode: this.#claims, usage: this.#usage };
    this.place(promised);
    this.added.clear();
  }

  place(placements: readonly PlannedPlacement[]): void {
    for (const { vmId, nodeId, cpus } of placements) {
      const vm = this.#vms.get(vmId);
      // What was promised may be applied by now.
      if (vm === undefined || vm.claim !== null) continue;
      const claim = { nodeId, generation: vm.generation + 1, deadline: vm.underHa, sinceMs: 0, ...(cpus === undefined ? {} : { cpus }) };
      this.#write(vm, { ...vm, claim, state: "prolog", desired: { ...vm.desired, nodeId: null } });
      this.#claims.set(nodeId, new Set([...(this.#claims.get(nodeId) ?? []), vmId]));
      this.added.add(vmId);
    }
  }

  unplace(placements: readonly PlannedPlacement[]): void {
    for (const { vmId, nodeId } of placements) {
      if (!this.added.delete(vmId)) continue;
      this.#write(this.#vms.get(vmId)!, this.#before.vms.get(vmId)!);
      this.#claims.set(nodeId, new Set([...(this.#claims.get(nodeId) ?? [])].filter((id) => id !== vmId)));
    }
  }

  #write(before: Vm, after: Vm): void {
    this.#vms.set(after.id, after);
    replaceVm(this.#usage, before, after);
  }
}
