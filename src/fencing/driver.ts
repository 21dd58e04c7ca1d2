/**
 * The contract of power devices, and the one way to a proof: off is what the device says when it is asked afterwards, never that it took
 * the order. Both drivers pass test/contract/power-fence.ts.
 */
import type { Clock } from "../base/clock.ts";
import { asRoostError, RoostError } from "../base/errors.ts";

export type PowerState = "on" | "off";

/** One device that can switch one node off. Calls end soon after their signal is aborted. */
export interface PowerFence {
  /** For people and proofs: `redfish 10.0.0.5`. Never a secret. */
  readonly name: string;
  /** Asks for power off, hard. Resolves when the order was taken, which proves nothing; off already is no error. */
  off(signal: AbortSignal): Promise<void>;
  /** What the device says now. Throws where it says neither on nor off. */
  status(signal: AbortSignal): Promise<PowerState>;
}

/** All devices were off when each was asked last. Made here only. */
export interface SeenOff {
  readonly off: true;
  readonly devices: readonly string[];
}

export interface SwitchOffStep {
  fence: PowerFence;
  /** From the order to the observed off, ms. */
  timeoutMs: number;
}

/** Between two questions for the power state. */
const POLL_MS = 250;
/** Of a single question: a device that hangs is asked again. */
const STATUS_MAX_MS = 20_000;
const STATUS_MIN_MS = 2_000;

/**
 * Switches the devices of one level off, one after the other, then looks at all of them again: of two power supplies one may have been
 * switched on meanwhile. Throws `unavailable` or `timeout` with what each said.
 * @param confirm asked right before each order; a throw stops everything. What it waits for is part of no device's time.
 */
export async function switchOff(
  steps: readonly SwitchOffStep[],
  { clock, signal, confirm }: { clock: Clock; signal: AbortSignal; confirm: () => Promise<void> },
): Promise<SeenOff> {
  if (steps.length === 0) throw new RoostError({ kind: "precondition", reason: "there is no device to switch off" });
  for (const step of steps) {
    await confirm();
    await untilOff(step, clock, signal);
  }
  if (steps.length > 1) {
    for (const { fence, timeoutMs } of steps) {
      const state = await limited(Math.min(timeoutMs, STATUS_MAX_MS), fence.name, signal, (inner) => fence.status(inner));
      if (state !== "off") throw new RoostError({ kind: "unavailable", reason: `${fence.name} was off and is on again` });
    }
  }
  return { off: true, devices: steps.map(({ fence }) => fence.name) };
}

async function untilOff({ fence, timeoutMs }: SwitchOffStep, clock: Clock, signal: AbortSignal): Promise<void> {
  const endMs = clock.monotonicMs() + timeoutMs;
  let complaint = "";
  try {
    await limited(timeoutMs, fence.name, signal, (inner) => fence.off(inner));
  } catch (error) {
    if (signal.aborted) throw error;
    // It may be off all the same: some refuse the order then, some die on it.
    complaint = asRoostError(error).message;
  }
  let last = "";
  for (;;) {
    signal.throwIfAborted();
    const leftMs = endMs - clock.monotonicMs();
    // Asked at least once even if the order took all the time there was, and never for too short a time to answer.
    const askMs = Math.max(STATUS_MIN_MS, Math.min(leftMs, STATUS_MAX_MS));
    try {
      if ((await limited(askMs, fence.name, signal, (inner) => fence.status(inner))) === "off") return;
      last = "says on";
    } catch (error) {
      if (signal.aborted) throw error;
      last = asRoostError(error).message;
      if (!(error instanceof RoostError) || error.fault.kind === "denied" || error.fault.kind === "invalid") break;
    }
    if (clock.monotonicMs() + POLL_MS > endMs) break;
    await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
  }
  const told = complaint === "" || complaint === last ? "" : `; the order: ${complaint}`;
  throw new RoostError({ kind: "unavailable", reason: `${fence.name} was not seen off within ${timeoutMs} ms: ${last}${told}` });
}

/** With a time limit that also ends the work. */
export async function limited<T>(afterMs: number, what: string, outer: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort(outer.reason);
  if (outer.aborted) abort();
  outer.addEventListener("abort", abort);
  const timer = setTimeout(() => controller.abort(new RoostError({ kind: "timeout", what, afterMs: Math.round(afterMs) })), afterMs);
  try {
    const ended = new Promise<never>((_, reject) => {
      const fail = (): void => reject(controller.signal.reason as Error);
      if (controller.signal.aborted) fail();
      controller.signal.addEventListener("abort", fail);
    });
    return await Promise.race([work(controller.signal), ended]);
  } finally {
    clearTimeout(timer);
    outer.removeEventListener("abort", abort);
  }
}
