/** A key-value store in the replicated state for measuring and for tests of consistency. Off until an admin wants it. */
import { RoostError } from "../../base/errors.ts";
import type { Violation } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { BENCH_LIMITS } from "../../model/bench.ts";
import type { View } from "../../model/view.ts";
import { propose, readState } from "../context.ts";
import type { CallContext } from "../context.ts";

function isEnabled(view: View): boolean {
  return view.cluster?.settings["bench.enabled"] === "true";
}

function refuse(): never {
  throw new RoostError({ kind: "precondition", reason: "roost.v1.Bench is switched off" }, "roost settings set bench.enabled true");
}

function check(key: string, value: Uint8Array): void {
  const violations: Violation[] = [];
  const keyBytes = Buffer.byteLength(key);
  if (keyBytes === 0 || keyBytes > BENCH_LIMITS.keyBytes)
    violations.push({ field: "key", message: `expected 1 to ${BENCH_LIMITS.keyBytes} bytes, not ${keyBytes}` });
  if (value.length > BENCH_LIMITS.valueBytes)
    violations.push({ field: "value", message: `expected at most ${BENCH_LIMITS.valueBytes} bytes, not ${value.length}` });
  if (violations.length > 0) throw new RoostError({ kind: "invalid", violations });
}

const NOTHING = new Uint8Array(0);

export const benchService: ServiceMethods<"Bench", CallContext> = {
  async Put(request, context) {
    check(request.key, request.value);
    // This node may not have heard yet that it was switched on; switched off, nothing of it shall reach the log.
    if (!isEnabled(context.store.view())) {
      const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
      if (!isEnabled(view)) refuse();
    }
    const value = request.value.toString("base64");
    const result = await propose(context, { type: "bench.put", key: request.key, value }, request.requestId);
    return { index: result.index ?? 0 };
  },

  async Get(request, context) {
    check(request.key, NOTHING);
    const { view } = await readState(context, request.stale ? "CONSISTENCY_STALE" : "CONSISTENCY_LINEARIZABLE");
    if (!isEnabled(view)) refuse();
    const row = view.bench?.get(request.key);
    if (row === undefined) return { value: Buffer.alloc(0), index: 0, found: false, revision: view.index };
    return { value: Buffer.from(row.value, "base64"), index: row.index, found: true, revision: view.index };
  },
};
