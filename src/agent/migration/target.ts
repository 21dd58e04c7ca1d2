/** The target's half of a live migration: what another agent's call begins, as long as the cluster's state says that it is wanted. */
import { pipeline } from "node:stream/promises";
import type { Duplex } from "node:stream";
import { RoostError, asRoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { DirectBoot, DiskAttachment, DomainRef, DomainSpec, Session } from "../../hypervisor/driver.ts";
import { settingsOf } from "../../model/placement.ts";
import type { View } from "../../model/view.ts";
import type { Vm } from "../../model/vm.ts";
import { Wire } from "./wire.ts";

export interface TargetDeps {
  nodeId: string;
  /** Linearizable: the call may be faster than the log. */
  read(): Promise<View>;
  /** Does the work as the VM's only one here; false if there is another. `register`: with the keeper, before anything of it exists. */
  occupy(ref: DomainRef, run: (tools: { session: Session; signal: AbortSignal; register: () => Promise<void> }) => Promise<void>): boolean;
  arriving(vm: Vm, signal: AbortSignal): Promise<{ boot: DirectBoot | null; disks: DiskAttachment[] }>;
  spec(vm: Vm, ref: DomainRef, attachments: { boot: DirectBoot | null; disks: DiskAttachment[] }): DomainSpec;
  log: Logger;
}

const OFFER_MS = 10_000;

/** @param caller the node whose certificate the call came with. */
export async function immigrate(deps: TargetDeps, caller: string, stream: Duplex): Promise<void> {
  const wire = new Wire(stream);
  const fail = (error: unknown): void => {
    wire.say({ say: "failed", fault: asRoostError(error).fault });
    wire.close();
  };
  try {
    const { vmId, generation, offer } = await wire.hear("offer", OFFER_MS);
    const view = await deps.read();
    const vm = view.vms.get(vmId);
    const { migration } = vm ?? {};
    const wanted =
      vm?.claim?.nodeId === caller &&
      migration?.phase === "incoming" &&
      migration.claim.nodeId === deps.nodeId &&
      migration.claim.generation === generation;
    if (!wanted) throw new RoostError({ kind: "conflict", reason: "the cluster knows of no such migration to this node" });
    const ref = { vmId, generation };
    const log = deps.log.child("migration", { vmId, from: caller });
    const timeoutMs = settingsOf(view)["vm.migrateTimeoutMs"];
    const taken = deps.occupy(ref, async ({ session, signal, register }) => {
      try {
        await register();
        const attachments = await deps.arriving({ ...vm, claim: migration.claim }, signal);
        const immigration = await session.immigrate(deps.spec(vm, ref, attachments), Buffer.from(offer, "base64"));
        const ended = AbortSignal.any([signal, wire.gone]);
        try {
          wire.say({ say: "ticket", ticket: Buffer.from(immigration.ticket).toString("base64") });
          // QEMU knows from the bytes where they end, and may close first; whether all came, `complete` says.
          const carried = Promise.allSettled([
            pipeline(wire.body, immigration.stream, { end: true, signal: ended }),
            pipeline(immigration.stream, wire.body, { end: false, signal: ended }),
          ]);
          const { receipt } = await unless(ended, wire.hear("receipt", timeoutMs));
          await immigration.complete(Buffer.from(receipt, "base64"));
          wire.say({ say: "complete" });
          log.info("arrived, waits to be handed over");
          // The row says whose it is, and ends this; or the source is gone, and the next look finds out.
          await new Promise<void>((resolve) => {
            if (ended.aborted) resolve();
            else ended.addEventListener("abort", () => resolve(), { once: true });
          });
          await carried;
        } finally {
          await immigration.close();
        }
      } catch (error) {
        log.warn("a VM could not be taken in", { reason: asRoostError(error).message });
        fail(error);
      } finally {
        wire.close();
      }
    });
    if (!taken) throw new RoostError({ kind: "conflict", reason: "this node has other work to do for the VM first" });
  } catch (error) {
    deps.log.warn("a migration was refused", { from: caller, reason: asRoostError(error).message });
    fail(error);
  }
}

async function unless<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = (): void => reject(asRoostError(signal.reason));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
    work.catch(() => {}); // its end is the connection's
  }
}
