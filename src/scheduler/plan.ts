/**
 * The scheduler's core: a view and a request in, placements and reasons out. Pure; the same inputs give the same bytes.
 * What it answers passes `checkPlacement` placement by placement, in the order given (SCH-20).
 */
import { usageOf } from "../model/capacity.ts";
import type { Usage } from "../model/capacity.ts";
import { settingsOf } from "../model/placement.ts";
import type { View } from "../model/view.ts";
import type { PendingReason, Vm } from "../model/vm.ts";
import { CPUS, LIMIT_MEMORY, MEMORY, USED_MEMORY, WIDTH, arenaOf, column, mark, rewind } from "./arena.ts";
import type { Arena } from "./arena.ts";
import { compareValues, greedy, lift, placedIn, topUp, valueOf } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import { reachesBound } from "./bound.ts";
import { certify, playback } from "./certify.ts";
import { fewest } from "./fewest.ts";
import type { FilterContext } from "./filters.ts";
import { classesFor, haOrder, overlayFor, ownScorers, pinningFor, ranksByPriority, rowsOf, scorerOf, tieOf } from "./items.ts";
import type { Item, RequestClass } from "./items.ts";
import type { Kept } from "./kept.ts";
import { reasonsFor } from "./reasons.ts";
import { DEFAULT_REPACK_STEPS, repack } from "./repack.ts";
import type { Scorer } from "./scorers.ts";
import { DEFAULT_SEARCH_STEPS, search } from "./search.ts";
import type { Plan, PlanMethod, PlanRejection, PlanRequest, PlannedPlacement, Scoring } from "./types.ts";

/**
 * Plans the request on the view. `seed` decides ties only; the request's id is a good one. `usage`, if the caller keeps
 * one, must be that of the view: it saves a pass over all VMs. `kept` is for who plans again and again, on later and later views.
 */
export function plan(view: View, request: PlanRequest, seed: string, usage?: Usage, kept?: Kept): Plan {
  const solved = solve(view, request, seed, usage, kept);
  const { context, arena, items, score, scoring, refused, outcome } = solved;
  const chosen = outcome.attempt;
  const placements: PlannedPlacement[] = [];
  playback(arena, items, chosen, request.kind, (position, item) => {
    const i = chosen.node[chosen.order[position]!]!;
    if (i !== -1) placements.push({ vmId: item.vm.id, nodeId: arena.nodes[i]!.id, ...cpusFor(item, i) });
  });
  const reasons = reasonsFor(context, arena, items, chosen);
  const rejections: PlanRejection[] = [];
  for (const id of new Set(request.vms)) {
    const why = refused.get(id) ?? reasons.get(id);
    if (why !== undefined) rejections.push({ vmId: id, reasons: why });
  }
  return {
    placements,
    rejections,
    method: outcome.method,
    proven: outcome.proven,
    certificate: {
      viewIndex: view.index,
      seed,
      mode: request.mode,
      kind: request.kind,
      scoring,
      vms: [...request.vms],
      method: outcome.method,
      placed: outcome.placed,
      searchSteps: outcome.steps,
      decisions: certify(arena, items, chosen, score, request.kind),
    },
  };
}

/** CPUs of its own for a VM that asks, or, for HA to tell, that there are none (SCH-4). */
function cpusFor({ pinning, vm }: Item, i: number): Pick<PlannedPlacement, "cpus" | "unpinned"> {
  if (pinning === null) return {};
  const own = pinning(i);
  return own === null
    ? { unpinned: `no node left had ${vm.definition.cpus} CPUs to be this VM's alone, so its recovery went without` }
    : { cpus: [...own.cpus] };
}

/** Everything a plan was made from; explanations are read off it. */
export interface Solved {
  readonly context: FilterContext;
  readonly arena: Arena;
  readonly items: readonly Item[];
  readonly score: Scorer;
  readonly scoring: Scoring;
  /** VMs that were not to be planned at all, with the reason. */
  readonly refused: ReadonlyMap<string, PendingReason[]>;
  readonly outcome: Outcome;
}

/** The decisions of `plan` with the numbers they were made from. The arena is as the view has it. */
export function solve(view: View, request: PlanRequest, seed: string, usage: Usage = usageOf(view), kept?: Kept): Solved {
  const settings = settingsOf(view);
  const scoring = request.scoring ?? settings["scheduler.scoring"];
  const pinning = request.kind === "recover" ? ("preferred" as const) : ("needed" as const);
  const context: FilterContext = { view, settings, request, usage, inFlight: request.inFlight, pinning };
  const arena = kept?.arenaOf(view, usage, request.inFlight) ?? arenaOf(view, { usage, inFlight: request.inFlight });
  const { vms, refused } = admit(view, request);
  const items = itemsOf(context, arena, vms, seed, kept?.classesOf(view));
  const score = scorerOf(scoring, settings, request.kind);
  const outcome = request.mode === "batch" ? planBatch(arena, items, score, request, scoring) : planOneByOne(arena, items, score, request);
  return { context, arena, items, score, scoring, refused, outcome };
}

export interface Outcome {
  attempt: Attempt;
  method: PlanMethod;
  proven: boolean;
  placed: { balanced: number; compact: number | null; search: number | null };
  steps: number;
}

/** Those of the request that are to be planned, once each; for the others the reason. */
function admit(view: View, request: PlanRequest): { vms: Vm[]; refused: Map<string, PendingReason[]> } {
  const vms: Vm[] = [];
  const refused = new Map<string, PendingReason[]>();
  const seen = new Set<string>();
  for (const [k, vm] of rowsOf(view, request.vms).entries()) {
    const id = request.vms[k]!;
    if (seen.has(id)) continue;
    seen.add(id);
    const problem = vm === null ? { code: "vm-unknown", detail: `there is no VM with id ${id}` } : problemOf(vm, request);
    if (problem !== null) refused.set(id, [{ ...problem, nodes: 0 }]);
    else if (vm !== null) vms.push(vm);
  }
  return { vms, refused };
}

function problemOf(vm: Vm, request: PlanRequest): { code: string; detail: string } | null {
  const name = vm.definition.name;
  if (vm.state === "deleted") return { code: "vm-unknown", detail: `${name} is deleted` };
  if (vm.desired.hold && request.manual !== true) return { code: "held", detail: `${name} is held until it is deployed by hand` };
  if (request.kind === "start" && vm.claim !== null) return { code: "claimed", detail: `${name} has a node already` };
  if (request.kind === "migrate" && vm.claim === null) return { code: "not-running", detail: `${name} has no node to move from` };
  return null;
}

function itemsOf(context: FilterContext, arena: Arena, vms: readonly Vm[], seed: string, known?: Map<string, RequestClass>): Item[] {
  const classOf = classesFor(context, arena, known);
  const scorerFor = ownScorers(context);
  const recovery = context.request.kind === "recover";
  const rank = ranksByPriority(vms);
  const sizes = new Map<string, number>();
  return vms.map((vm) => {
    const own = classOf(vm);
    const pinning = pinningFor(context, arena, vm);
    return {
      vm,
      memory: vm.definition.memoryMib,
      cpus: vm.definition.cpus,
      tie: tieOf(seed, vm.id),
      class: own,
      size: numberOf(sizes, `${own.id} ${vm.definition.memoryMib} ${vm.definition.cpus}`),
      rank: recovery ? (rank.get(vm.definition.ha.priority) ?? 0) : 0,
      overlay: overlayFor(context, arena, vm, own, pinning),
      pinning,
      score: scorerFor(vm),
    };
  });
}

function numberOf(known: Map<string, number>, key: string): number {
  let found = known.get(key);
  if (found === undefined) known.set(key, (found = known.size));
  return found;
}

/** The order of the request; for a recovery, HA order. */
function requestOrder(items: readonly Item[], request: PlanRequest): number[] {
  const order = items.map((_, k) => k);
  if (request.kind === "recover") order.sort((a, b) => haOrder(items[a]!.vm, items[b]!.vm));
  return order;
}

function planOneByOne(arena: Arena, items: readonly Item[], score: Scorer, request: PlanRequest): Outcome {
  const attempt = greedy(arena, items, requestOrder(items, request), score, request.kind);
  const placed = placedIn(attempt);
  const proven = placed === items.length || withoutItems(arena, items, request, () => reachesBound(arena, items, attempt.value));
  return { attempt, method: "balanced", proven, placed: { balanced: placed, compact: null, search: null }, steps: 0 };
}

/** As many VMs as can be found; packing, on as few nodes. */
function planBatch(arena: Arena, items: readonly Item[], score: Scorer, request: PlanRequest, scoring: Scoring): Outcome {
  const most = placeMost(arena, items, score, request, scoring === "even" ? largestFirst(arena, items) : requestOrder(items, request));
  if (scoring !== "consolidate" || holdsRoom(arena, items, request)) return most;
  const budget = request.searchSteps ?? DEFAULT_REPACK_STEPS;
  const { attempt: packed, opened, bound } = fewest(arena, items, most.attempt, compactOrder(items), leastAvailable, request.kind, budget);
  const attempt = topUp(arena, items, packed, leastAvailable, request.kind);
  const method = attempt === most.attempt ? most.method : "compact";
  return { ...most, attempt, method, proven: most.proven && opened === bound };
}

function placeMost(arena: Arena, items: readonly Item[], score: Scorer, request: PlanRequest, order: readonly number[]): Outcome {
  const balanced = greedy(arena, items, order, score, request.kind);
  const outcome: Outcome = {
    attempt: balanced,
    method: "balanced",
    proven: true,
    placed: { balanced: placedIn(balanced), compact: null, search: null },
    steps: 0,
  };
  if (placedIn(balanced) === items.length) return outcome;

  const compact = greedy(arena, items, compactOrder(items), leastAvailable, request.kind);
  outcome.placed.compact = placedIn(compact);
  if (compareValues(compact.value, balanced.value) > 0) {
    outcome.attempt = compact;
    outcome.method = "compact";
  }
  const optimal = (): boolean => withoutItems(arena, items, request, () => reachesBound(arena, items, outcome.attempt.value));
  if (optimal()) return outcome;
  const better = improved(arena, items, outcome.attempt, request);
  if (compareValues(better.value, outcome.attempt.value) > 0) {
    outcome.attempt = better;
    outcome.method = "compact";
    outcome.placed.compact = placedIn(better);
    if (optimal()) return outcome;
  }
  // Where far too much is asked for, the many small ones are the most; the large ones first would leave them no room.
  const sparing = greedy(arena, items, smallestFirst(arena, items), leastAvailable, request.kind);
  if (compareValues(sparing.value, outcome.attempt.value) > 0) {
    outcome.attempt = sparing;
    outcome.method = "compact";
    outcome.placed.compact = placedIn(sparing);
    if (optimal()) return outcome;
  }
  outcome.proven = false;
  // The search does not know of policies between VMs.
  if (items.some((item) => item.overlay !== null)) return outcome;
  // The arena still holds the claims of VMs that are to move: a plan is applied one placement after the other.
  const result = search(arena, items, outcome.attempt.value, request.searchSteps ?? DEFAULT_SEARCH_STEPS);
  outcome.proven = result.complete && !holdsRoom(arena, items, request);
  outcome.steps = result.steps;
  if (result.node !== null) {
    outcome.attempt = { order: compactOrder(items), node: result.node, scorers: [], value: valueOf(items, result.node) };
    outcome.method = "search";
  }
  outcome.placed.search = placedIn(outcome.attempt);
  return outcome;
}

/** An attempt with its VMs exchanged among their nodes, so that more of them fit. */
function improved(arena: Arena, items: readonly Item[], attempt: Attempt, request: PlanRequest): Attempt {
  if (holdsRoom(arena, items, request)) return attempt;
  const node = repack(arena, items, attempt.node, request.searchSteps ?? DEFAULT_REPACK_STEPS);
  // What hangs on other VMs stays where it is and in its order.
  const bound = attempt.order.filter((k) => items[k]!.overlay !== null);
  const order = [...bound, ...compactOrder(items).filter((k) => items[k]!.overlay === null)];
  return topUp(arena, items, { order, node, scorers: [], value: valueOf(items, node) }, leastAvailable, request.kind);
}

/** True if a VM of the request holds room that another could have, were the order of moves the search's to choose. */
function holdsRoom(arena: Arena, items: readonly Item[], request: PlanRequest): boolean {
  if (request.kind === "migrate") return false;
  const held = new Set(items.map((item) => (item.vm.claim === null ? undefined : arena.indexOf.get(item.vm.claim.nodeId))));
  return items.some((item) => item.class.eligible.some((i) => held.has(i)));
}

/** Memory descending, vCPUs descending, id; in a recovery within one priority (SCH-11). */
function compactOrder(items: readonly Item[]): number[] {
  return items
    .map((_, k) => k)
    .sort((a, b) => {
      const left = items[a]!;
      const right = items[b]!;
      return left.rank - right.rank || right.memory - left.memory || right.cpus - left.cpus || (left.vm.id < right.vm.id ? -1 : 1);
    });
}

/** By the mean of the parts of the cluster's memory and vCPUs, descending: what is small evens out what is large. In HA order first. */
function largestFirst(arena: Arena, items: readonly Item[]): number[] {
  return bySize(arena, items, -1);
}

function smallestFirst(arena: Arena, items: readonly Item[]): number[] {
  return bySize(arena, items, 1);
}

function bySize(arena: Arena, items: readonly Item[], sign: 1 | -1): number[] {
  const sum = (which: number): number => column(arena, which).reduce((total, value) => total + value, 0);
  const [memory, cpus] = [sum(MEMORY), sum(CPUS)];
  const part = (item: Item): number => sign * (item.memory / memory + item.cpus / cpus);
  return items
    .map((_, k) => k)
    .sort((a, b) => items[a]!.rank - items[b]!.rank || part(items[a]!) - part(items[b]!) || (items[a]!.vm.id < items[b]!.vm.id ? -1 : 1));
}

/** Nodes with less available memory weigh more. */
const leastAvailable: Scorer = (arena, i) => arena.cells[i * WIDTH + LIMIT_MEMORY]! - arena.cells[i * WIDTH + USED_MEMORY]!;

/** Runs with the items' own parts taken out of the sums. */
function withoutItems<T>(arena: Arena, items: readonly Item[], request: PlanRequest, run: () => T): T {
  const before = mark(arena);
  for (const item of items) lift(arena, item, request.kind);
  const result = run();
  rewind(arena, before);
  return result;
}
