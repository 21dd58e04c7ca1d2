/**
 * What one planner keeps from plan to plan, so that none begins by reading the cluster: the columns with their trees, and the
 * fixed filters' answers by class. Plans come out as without it, byte for byte; it only saves time.
 */
import type { Reservation, Usage } from "../model/capacity.ts";
import type { Node } from "../model/node.ts";
import type { View } from "../model/view.ts";
import { arenaOf, follow } from "./arena.ts";
import type { Arena } from "./arena.ts";
import type { RequestClass } from "./items.ts";

/** Beyond so many classes all are forgotten: one for each of many VMs with wishes of its own. */
const MAX_CLASSES = 256;

export class Kept {
  private arena: Arena | null = null;
  private classes = new Map<string, RequestClass>();
  /** What the classes were made from. */
  private facts: readonly unknown[] = [];

  /** The arena of this view, as a fresh one would be. */
  arenaOf(view: View, usage: Usage, inFlight: ReadonlyMap<string, Reservation> | undefined): Arena {
    if (this.arena === null || !follow(this.arena, view, usage, inFlight)) {
      this.arena = arenaOf(view, { usage, inFlight });
      this.facts = [];
    }
    return this.arena;
  }

  /** Known classes for the arena that was asked for last. */
  classesOf(view: View): Map<string, RequestClass> {
    const facts = factsOf(view, this.arena?.nodes ?? []);
    const same = facts.length === this.facts.length && facts.every((fact, k) => fact === this.facts[k]);
    if (!same || this.classes.size > MAX_CLASSES) this.classes = new Map();
    this.facts = facts;
    return this.classes;
  }
}

/** Rows are never changed in place: equal references mean equal answers of the fixed filters. Claims and revisions do not count. */
function factsOf(view: View, nodes: readonly Node[]): unknown[] {
  const facts: unknown[] = [view.cluster?.settings, ...view.policies.values(), ...view.pools.values(), ...[...view.zoneRoles].flat()];
  for (const { info, state, stateWhy, labels, partition, zone, name, witness } of nodes)
    facts.push(info, state, stateWhy, labels, partition, zone, name, witness);
  return facts;
}
