/** A simulated network device or backup manager: what it has for each VM, how often each effect happened, and faults at its edges. */
import { RoostError } from "../../src/base/errors.ts";
import type { ConnectionDriver, ConnectionSession, ConnectionWork } from "../../src/hypervisor/connection.ts";

export type Edge = "before" | "after" | "never";

export class SimulatedConnection implements ConnectionDriver {
  readonly pool;
  readonly name: string;
  readonly kind: string;
  readonly maxSessions: number | null = null;
  readonly vdcs = false;
  /** Entries by VM: the task that made them. */
  readonly entries = new Map<string, string>();
  /** Effects, not calls: an `apply` of what is there already is none. */
  effects = 0;
  most = 0;
  /** Where the next call fails; `never` answers nothing until it is called off. */
  readonly faults: Edge[] = [];
  #sessions = 0;
  readonly #waits: (() => void)[] = [];
  #slow = false;

  constructor(pool: "device" | "backup", name: string, kind = "simulated") {
    this.pool = pool;
    this.name = name;
    this.kind = kind;
  }

  sessions(): number {
    return this.#sessions;
  }

  /** From now on calls wait for `release`. */
  hold(): void {
    this.#slow = true;
  }

  release(): void {
    this.#slow = false;
    for (const go of this.#waits.splice(0)) go();
  }

  login(): Promise<ConnectionSession> {
    this.#sessions += 1;
    this.most = Math.max(this.most, this.#sessions);
    let out = false;
    return Promise.resolve({
      apply: (work) =>
        this.#call(work, () => {
          const remove = work.job === "unconfigure-device";
          if (remove ? !this.entries.has(work.vmId) : this.entries.has(work.vmId)) return;
          this.effects += 1;
          if (remove) this.entries.delete(work.vmId);
          else this.entries.set(work.vmId, work.taskId);
        }),
      undo: (work) =>
        this.#call(work, () => {
          if (this.entries.get(work.vmId) !== work.taskId) return;
          this.effects += 1;
          this.entries.delete(work.vmId);
        }),
      logout: () => {
        if (!out) this.#sessions -= 1;
        out = true;
        return Promise.resolve();
      },
    });
  }

  async #call(work: ConnectionWork, effect: () => void): Promise<void> {
    const fault = this.faults.shift();
    work.step("device asked", this.name);
    if (fault === "before") throw broken("before");
    if (fault === "never" || this.#slow) await this.#waitFor(work.signal, fault === "never");
    effect();
    if (fault === "after") throw broken("after");
    await Promise.resolve();
  }

  #waitFor(signal: AbortSignal, forEver: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!forEver) this.#waits.push(resolve);
      signal.addEventListener("abort", () => reject(new RoostError({ kind: "unavailable", reason: "called off" })), { once: true });
    });
  }
}

function broken(when: string): RoostError {
  return new RoostError({ kind: "unavailable", reason: `the device broke ${when} it acted` });
}
