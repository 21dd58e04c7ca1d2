/** Sessions in use, with a limit (VM-16). */
import { RoostError } from "../base/errors.ts";

export class SessionCounter {
  readonly limit: number;
  private used = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get inUse(): number {
    return this.used;
  }

  /** Takes a place; the returned function gives it back, once however often it is called. Throws `exhausted` at the limit. */
  take(): () => void {
    if (this.used >= this.limit) {
      throw new RoostError({ kind: "exhausted", reason: `${this.limit} hypervisor sessions are in use already` });
    }
    this.used++;
    let held = true;
    return () => {
      if (held) this.used--;
      held = false;
    };
  }
}
