/**
 * The VMs that wait for a place, and when each is to be planned again (SCH-14): at once when something changed that could
 * undo what it was refused for, else after a back-off that doubles up to `scheduler.retryMs`. Followed change by change, so
 * that a run costs what waits and not what the cluster holds. Pure: times come in.
 */
import { limitsOf, nodeUsage, usageOf } from "../model/capacity.ts";
import type { Node } from "../model/node.ts";
import { settingsOf } from "../model/placement.ts";
import { isTaskId } from "../model/task.ts";
import type { View } from "../model/view.ts";
import type { PendingReason, Vm } from "../model/vm.ts";

/** The first wait of a VM that was refused, and of one whose plan was refused at commit, ms; each further one doubles. */
const FIRST_WAIT_MS = 1_000;
const FIRST_CONFLICT_WAIT_MS = 50;

interface Wait {
  attempts: number;
  /** Monotonic ms. */
  untilMs: number;
  /** Reasons of the last refusal; empty after a conflict, whose reason has gone with the view it was planned on. */
  codes: ReadonlySet<string>;
  /** As it was planned; another one is a new request. */
  asked: Vm;
}

/** A node as it was last seen. */
interface Seen {
  row: Node;
  facts: string;
  freeMemoryMib: number;
  freeCpus: number;
  claims: number;
}

export class Waiting {
  /** VMs without a claim that are to run, with what is known of the last try. */
  readonly #vms = new Map<string, Wait | null>();
  readonly #nodes = new Map<string, Seen>();
  #mark = "";

  /** Forgets everything and looks at the whole view. */
  reset(view: View): void {
    this.#vms.clear();
    this.#nodes.clear();
    this.#mark = markOf(view);
    for (const vm of view.vms.values()) if (waits(vm)) this.#vms.set(vm.id, null);
    for (const node of view.nodes.values()) this.#nodes.set(node.id, see(view, node, undefined));
  }

  /** Follows the rows that changed: ids of VMs, nodes and whatever else. */
  note(view: View, changedIds: Iterable<string>): void {
    const nodes: Node[] = [];
    let others = false;
    for (const id of changedIds) {
      const vm = view.vms.get(id);
      const node = view.nodes.get(id);
      if (isTaskId(id)) continue;
      if (vm !== undefined) this.#noteVm(vm);
      else if (node !== undefined) nodes.push(node);
      else {
        this.#vms.delete(id);
        this.#nodes.delete(id);
        others = true;
      }
    }
    if (others && this.#markChanged(view)) {
      // Settings, pools or policies: rare, and they may change any answer.
      for (const node of view.nodes.values()) this.#nodes.set(node.id, see(view, node, this.#nodes.get(node.id)));
      this.#wake(() => true);
      return;
    }
    if (nodes.length > 0) this.#noteNodes(view, nodes);
  }

  /** To be planned now. `nowMs` is monotonic, `wallMs` wall clock as `retryAtMs` is. In HA order for `recovering`, else by number. */
  due(view: View, state: "pending" | "recovering", nowMs: number, wallMs: number): Vm[] {
    const found: Vm[] = [];
    for (const [id, wait] of this.#vms) {
      const vm = view.vms.get(id);
      if (vm === undefined || !waits(vm)) {
        this.#vms.delete(id);
        continue;
      }
      if (vm.state !== state || vm.desired.hold || vm.retryAtMs > wallMs) continue;
      if (wait === null || nowMs >= wait.untilMs || askedAnew(wait.asked, vm)) found.push(vm);
    }
    return found.sort((a, b) => (state === "recovering" ? b.definition.ha.priority - a.definition.ha.priority : 0) || a.number - b.number);
  }

  /** No node would do. */
  refused(vm: Vm, reasons: readonly PendingReason[], nowMs: number, longestMs: number): void {
    this.#wait(vm, new Set(reasons.map(({ code }) => code)), FIRST_WAIT_MS, nowMs, longestMs);
  }

  /** Its plan was refused where it was applied, or nobody knows whether it was applied. */
  conflicted(vm: Vm, nowMs: number, longestMs: number): void {
    this.#wait(vm, new Set(), FIRST_CONFLICT_WAIT_MS, nowMs, longestMs);
  }

  #wait(vm: Vm, codes: ReadonlySet<string>, firstMs: number, nowMs: number, longestMs: number): void {
    const before = this.#vms.get(vm.id) ?? null;
    const attempts = before === null || askedAnew(before.asked, vm) ? 0 : Math.min(before.attempts, 30);
    const untilMs = nowMs + Math.min(longestMs, firstMs * 2 ** attempts);
    this.#vms.set(vm.id, { attempts: attempts + 1, untilMs, codes, asked: vm });
  }

  #noteVm(vm: Vm): void {
    if (!waits(vm)) this.#vms.delete(vm.id);
    else if (!this.#vms.has(vm.id)) this.#vms.set(vm.id, null);
  }

  #noteNodes(view: View, nodes: readonly Node[]): void {
    let [all, moved] = [false, false];
    const grown: Seen[] = [];
    for (const node of nodes) {
      const before = this.#nodes.get(node.id);
      const now = see(view, node, before);
      this.#nodes.set(node.id, now);
      all ||= before === undefined || before.facts !== now.facts;
      moved ||= before?.claims !== now.claims;
      if (before !== undefined && (now.freeMemoryMib > before.freeMemoryMib || now.freeCpus > before.freeCpus)) grown.push(now);
    }
    if (all) return this.#wake(() => true);
    const roomiest = notDominated(grown);
    if (roomiest.length === 0 && !moved) return;
    this.#wake(({ codes, asked: { definition } }) => {
      if (moved && codes.has("vm-policy")) return true;
      // Room anywhere may be what a failure would need.
      if (roomiest.length > 0 && codes.has("ha-reserve")) return true;
      if (!codes.has("memory") && !codes.has("cpus")) return false;
      return roomiest.some((node) => definition.memoryMib <= node.freeMemoryMib && definition.cpus <= node.freeCpus);
    });
  }

  #markChanged(view: View): boolean {
    const mark = markOf(view);
    if (mark === this.#mark) return false;
    this.#mark = mark;
    return true;
  }

  /** The back-off starts again too: what it was refused for is another matter now. */
  #wake(which: (wait: Wait) => boolean): void {
    for (const [id, wait] of this.#vms) if (wait !== null && which(wait)) this.#vms.set(id, { ...wait, attempts: 0, untilMs: 0 });
  }
}

/** Those with more of something than every other. */
function notDominated(nodes: readonly Seen[]): Seen[] {
  const kept: Seen[] = [];
  for (const node of nodes.toSorted((a, b) => b.freeMemoryMib - a.freeMemoryMib || b.freeCpus - a.freeCpus)) {
    if (kept.length === 0 || node.freeCpus > kept.at(-1)!.freeCpus) kept.push(node);
  }
  return kept;
}

function waits(vm: Vm): boolean {
  // What was arriving elsewhere when its claim ended must be gone, too (HA-8).
  if (vm.migration !== undefined) return false;
  return (vm.state === "pending" || vm.state === "recovering") && vm.claim === null && vm.desired.power === "on" && !vm.desired.deleted;
}

/** Rows share what did not change. */
function askedAnew(before: Vm, now: Vm): boolean {
  return (
    before.desired !== now.desired ||
    before.definition !== now.definition ||
    before.stateSinceMs !== now.stateSinceMs ||
    before.retryAtMs !== now.retryAtMs ||
    before.migration !== now.migration
  );
}

function see(view: View, node: Node, before: Seen | undefined): Seen {
  const limits = limitsOf(node, settingsOf(view));
  const used = nodeUsage(view.usage ?? usageOf(view), node.id);
  const facts = before !== undefined && sharesFacts(before.row, node) ? before.facts : factsOf(node);
  return {
    row: node,
    facts,
    freeMemoryMib: limits.memoryMib - used.memoryMib,
    freeCpus: limits.cpus - used.cpus,
    claims: node.claimRevision,
  };
}

function sharesFacts(a: Node, b: Node): boolean {
  return a.info === b.info && a.state === b.state && a.labels === b.labels && a.partition === b.partition && a.zone === b.zone;
}

/** Without free space of pools, which changes all the time and decides nothing. */
function factsOf({ info, labels, partition, zone, state }: Node): string {
  return JSON.stringify([state, zone, partition, labels, info], (key, value: unknown) =>
    key === "freeBytes" || key === "totalBytes" ? undefined : value,
  );
}

/** Changes when something that is neither a VM nor a node could have changed an answer. */
function markOf(view: View): string {
  const pools = [...view.pools.values()].map(({ id, revision }) => [id, revision]);
  const policies = [...view.policies.values()].map(({ id, enabled, revision }) => [id, enabled, revision]);
  return JSON.stringify([view.cluster?.settings, view.cluster?.vdcSettings, pools, policies, [...view.zoneRoles]]);
}
