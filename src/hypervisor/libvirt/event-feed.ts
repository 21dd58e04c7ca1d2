/**
 * libvirt's life-cycle events as the contract's: in order, only for roost's domains, with the generation that the mark
 * names. A domain that roost did not start itself is looked up first; meanwhile later events wait their turn.
 */
import { asRoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { DomainEvent } from "../driver.ts";
import type { Inventory } from "./inventory.ts";
import type { Mark } from "./domain-xml.ts";
import { uuidText } from "./mark.ts";
import { constants } from "./protocol.gen.ts";
import type { DomainEventLifecycleMsg } from "./protocol.gen.ts";

/** Events that may wait for a lookup. Over it they are dropped and the receiver is told to list again. */
const MAX_WAITING = 1000;

export class EventFeed {
  private readonly inventory: Inventory;
  private readonly log: Logger;
  private readonly listeners = new Set<(event: DomainEvent) => void>();
  private tail: Promise<void> = Promise.resolve();
  private waiting = 0;
  private overflowed = false;

  constructor(inventory: Inventory, log: Logger) {
    this.inventory = inventory;
    this.log = log;
  }

  watch(listener: (event: DomainEvent) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  emit(event: DomainEvent): void {
    for (const listener of this.listeners) listener(event);
  }

  /** Emits after everything that waits now. */
  enqueue(event: DomainEvent): void {
    this.append(() => this.emit(event));
  }

  lifecycle(message: DomainEventLifecycleMsg): void {
    if (this.waiting >= MAX_WAITING) {
      this.overflowed = true;
      return;
    }
    this.append(async () => {
      const mark = await this.markOf(message);
      const event = mark === null ? null : translate(message, mark);
      if (mark === null || event === null) return;
      if (event.kind === "gone") this.inventory.forget(mark);
      this.emit(event);
    });
  }

  private append(step: () => void | Promise<void>): void {
    this.waiting++;
    this.tail = this.tail.then(step).catch((error: unknown) => {
      // Most likely the connection went away: the resync after the reconnect makes up for the event.
      this.log.warn("a life-cycle event was lost", { reason: asRoostError(error).message });
    });
    this.tail = this.tail.then(() => {
      this.waiting--;
      if (this.waiting > 0 || !this.overflowed) return;
      this.overflowed = false;
      this.emit({ kind: "resync" });
    });
  }

  private async markOf({ dom, event }: DomainEventLifecycleMsg): Promise<Mark | null> {
    const known = this.inventory.lastMark(uuidText(dom.uuid));
    // A new run may be of another generation than the one remembered; an ended one cannot be asked any more.
    if (event === constants.VIR_DOMAIN_EVENT_STOPPED) return known;
    if (event === constants.VIR_DOMAIN_EVENT_STARTED || known === null) return this.inventory.markOf(dom);
    return known;
  }
}

function translate({ event, detail }: DomainEventLifecycleMsg, mark: Mark): DomainEvent | null {
  const ref = { vmId: mark.vmId, generation: mark.generation };
  switch (event) {
    case constants.VIR_DOMAIN_EVENT_STARTED:
      return { kind: "started", ...ref };
    case constants.VIR_DOMAIN_EVENT_SUSPENDED:
      return { kind: "paused", ...ref };
    case constants.VIR_DOMAIN_EVENT_RESUMED:
      return { kind: "resumed", ...ref };
    case constants.VIR_DOMAIN_EVENT_STOPPED:
      return { kind: "gone", cause: goneCause(detail), ...ref };
    default:
      return null; // defined, undefined, shutting down, pm-suspended: no change that the contract has
  }
}

/** virDomainEventStoppedDetailType; `failed` is how libvirt calls a QEMU process that died by itself or was killed. */
function goneCause(detail: number): "shutdown" | "destroyed" | "crashed" | "unknown" {
  switch (detail) {
    case constants.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
      return "shutdown";
    case constants.VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
      return "destroyed";
    case constants.VIR_DOMAIN_EVENT_STOPPED_CRASHED:
    case constants.VIR_DOMAIN_EVENT_STOPPED_FAILED:
      return "crashed";
    default:
      return "unknown";
  }
}
