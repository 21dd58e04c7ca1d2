/** Pools: folders where volumes lie. */
import { RoostError } from "../../base/errors.ts";
import type { Violation } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { isName, NAME_RULE } from "../../model/definition.ts";
import { propose, readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { toPool } from "../convert.ts";

/** An absolute path in its plain form: no empty, `.` or `..` part. */
function isPlainPath(path: string): boolean {
  const parts = path.slice(1).split("/");
  return (
    path.startsWith("/") &&
    path.length <= 4_096 &&
    parts.every((part) => part !== "" && part !== "." && part !== "..") &&
    !path.includes("\0")
  );
}

export const poolService: ServiceMethods<"PoolService", CallContext> = {
  async CreatePool(request, context) {
    const violations: Violation[] = [];
    if (!isName(request.name)) violations.push({ field: "name", message: `expected ${NAME_RULE}` });
    if (request.kind !== "" && request.kind !== "dir")
      violations.push({ field: "kind", message: `expected dir, not ${JSON.stringify(request.kind)}` });
    if (!isPlainPath(request.path))
      violations.push({ field: "path", message: "expected an absolute path without `.` or `..`, such as /srv/roost" });
    if (violations.length > 0) throw new RoostError({ kind: "invalid", violations });
    const { name, path, shared } = request;
    const result = await propose(
      context,
      { type: "pool.create", pool: { id: context.newId(), name, kind: "dir", path, shared } },
      request.requestId,
    );
    const view = context.store.view();
    const pool = view.pools.get(result.ids?.[0] ?? view.poolIdByName.get(name) ?? "");
    return { pool: pool === undefined ? null : toPool(view, pool) };
  },

  async ListPools(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const pools = [...view.pools.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
    return { pools: pools.map((pool) => toPool(view, pool)), read: info };
  },

  async DeletePool(request, context) {
    await propose(context, { type: "pool.delete", name: request.name }, request.requestId);
    return {};
  },
};
