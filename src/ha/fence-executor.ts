/**
 * Does the tries that the leader gave this node: reads the state linearizably, so that a majority stands behind it at this moment,
 * switches the devices off, looks, and reports. Runs on every node; what it saw becomes a proof only where the report is applied
 * (src/state/appliers/fencing.ts).
 */
import type { Clock } from "../base/clock.ts";
import { asRoostError, RoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Store } from "../cluster/store.ts";
import { type PowerFence, type SeenOff, switchOff } from "../fencing/driver.ts";
import type { FenceDevice, Fencing } from "../model/fencing.ts";
import type { View } from "../model/view.ts";
import type { FenceReport } from "../state/commands.ts";
import { ownRequestId } from "../state/requests.ts";

const READ_LIMIT_MS = 3_000;
const REPORT_LIMIT_MS = 5_000;
const AGAIN_MS = 200;
/** Of nodes at once; the rest waits. */
const AT_ONCE = 8;

export interface FenceExecutorDeps {
  nodeId: string;
  store: Store;
  /** Throws if it cannot be opened here. */
  open(device: FenceDevice): Promise<PowerFence>;
  clock: Clock;
  log: Logger;
}

interface Run {
  attempt: number;
  number: number;
  abort: AbortController;
}

export class FenceExecutor {
  readonly #deps: FenceExecutorDeps;
  readonly #log: Logger;
  readonly #runs = new Map<string, Run>();
  #unsubscribe: () => void = () => {};
  #stopped = false;

  constructor(deps: FenceExecutorDeps) {
    this.#deps = deps;
    this.#log = deps.log.child("fence");
  }

  start(): void {
    this.#unsubscribe = this.#deps.store.subscribe(() => this.#look());
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#unsubscribe();
    for (const run of this.#runs.values()) run.abort.abort(new RoostError({ kind: "unavailable", reason: "the agent stops" }));
  }

  #look(): void {
    if (this.#stopped) return;
    const view = this.#deps.store.view();
    for (const [nodeId, run] of this.#runs) {
      if (!isCurrent(view, nodeId, run, this.#deps.nodeId))
        run.abort.abort(new RoostError({ kind: "conflict", reason: "the attempt was ended" }));
    }
    for (const fencing of view.fencing?.values() ?? []) {
      const { attempt, nodeId } = fencing;
      if (attempt?.state !== "open" || attempt.current?.executorId !== this.#deps.nodeId) continue;
      if (this.#runs.has(nodeId) || this.#runs.size >= AT_ONCE) continue;
      const run = { attempt: attempt.id, number: attempt.current.number, abort: new AbortController() };
      this.#runs.set(nodeId, run);
      void this.#run(nodeId, run).finally(() => {
        this.#runs.delete(nodeId);
        // The next try of the same may be here already.
        this.#deps.clock.after(0, () => this.#look());
      });
    }
  }

  async #run(nodeId: string, run: Run): Promise<void> {
    let outcome: FenceReport["outcome"];
    try {
      outcome = await this.#switchOff(nodeId, run);
    } catch (error) {
      outcome = { off: false, reason: asRoostError(error).message };
    }
    this.#log.info(outcome.off ? "a node was seen off" : "a node was not seen off", {
      nodeId,
      attempt: run.attempt,
      ...(outcome.off ? { device: outcome.device } : { reason: outcome.reason }),
    });
    await this.#report(nodeId, run, outcome);
  }

  /** Level after level until one is seen off; throws with what each said. */
  async #switchOff(nodeId: string, run: Run): Promise<FenceReport["outcome"]> {
    const { clock } = this.#deps;
    const fencing = await this.#confirm(nodeId, run);
    const reasons: string[] = [];
    for (const level of levelsOf(fencing)) {
      try {
        const steps = await Promise.all(
          level.map(async (device) => ({ fence: await this.#deps.open(device), timeoutMs: device.timeoutMs })),
        );
        const confirm = async (): Promise<void> => void (await this.#confirm(nodeId, run));
        const seen: SeenOff = await switchOff(steps, { clock, signal: run.abort.signal, confirm });
        return { off: seen.off, device: seen.devices.join(" and ") };
      } catch (error) {
        run.abort.signal.throwIfAborted();
        reasons.push(asRoostError(error).message);
      }
    }
    return { off: false, reason: reasons.join("; ") || "it has no fence device" };
  }

  /**
   * The state as a majority has it now still wants this try: a node that is cut off, or that reads an old log after an absence,
   * switches nobody off.
   */
  async #confirm(nodeId: string, run: Run): Promise<Fencing> {
    const { store } = this.#deps;
    run.abort.signal.throwIfAborted();
    const view = await store.read({ timeoutMs: READ_LIMIT_MS });
    const fencing = view.fencing?.get(nodeId);
    if (fencing === undefined || !isCurrent(view, nodeId, run, this.#deps.nodeId))
      throw new RoostError({ kind: "conflict", reason: "the attempt was ended" });
    return fencing;
  }

  /** Until it is applied or refused, or counts no more: the report of a try is the same however often it is sent. */
  async #report(nodeId: string, run: Run, outcome: FenceReport["outcome"]): Promise<void> {
    const { store, clock } = this.#deps;
    const executorId = this.#deps.nodeId;
    const command: FenceReport = { type: "fence.report", nodeId, attempt: run.attempt, try: run.number, executorId, outcome };
    const requestId = ownRequestId(store.view().index, `fence/${run.attempt}/${run.number}`);
    while (!this.#stopped && isCurrent(store.view(), nodeId, run, executorId)) {
      try {
        await store.propose(command, { actor: `node:${executorId}`, requestId, timeoutMs: REPORT_LIMIT_MS });
        return;
      } catch (error) {
        const { kind } = asRoostError(error).fault;
        this.#log.warn("the outcome of a fencing is not committed", { nodeId, reason: asRoostError(error).message });
        if (kind !== "unavailable" && kind !== "timeout") return;
        await new Promise<void>((resolve) => clock.after(AGAIN_MS, resolve));
      }
    }
  }
}

function isCurrent(view: View, nodeId: string, run: { attempt: number; number: number }, executorId: string): boolean {
  const attempt = view.fencing?.get(nodeId)?.attempt;
  return (
    attempt?.state === "open" &&
    attempt.id === run.attempt &&
    attempt.current?.number === run.number &&
    attempt.current.executorId === executorId
  );
}

function levelsOf({ devices }: Fencing): FenceDevice[][] {
  const levels = new Map<number, FenceDevice[]>();
  for (const device of devices) levels.set(device.level, [...(levels.get(device.level) ?? []), device]);
  return [...levels].toSorted(([a], [b]) => a - b).map(([, level]) => level);
}
