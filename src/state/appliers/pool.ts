/** Pools: where volumes lie. */
import { RoostError } from "../../base/errors.ts";
import { poolsOf } from "../../model/placement.ts";
import type { PoolCreate, PoolDelete } from "../commands.ts";
import type { CommandResult } from "../outcome.ts";
import type { Transaction } from "../transaction.ts";

export function create(tx: Transaction, command: PoolCreate): CommandResult {
  tx.needCluster();
  const { pool } = command;
  if (tx.state.pools.has(pool.id)) throw new RoostError({ kind: "exists", what: "pool", name: pool.id });
  if (tx.state.poolIdByName.has(pool.name)) throw new RoostError({ kind: "exists", what: "pool", name: pool.name });
  for (const other of tx.rows("pools")) {
    if (other.path === pool.path)
      throw new RoostError({ kind: "precondition", reason: `${pool.path} is the folder of pool ${other.name} already` });
  }
  tx.put("pools", pool.id, { ...pool, createdAtMs: tx.atMs, revision: tx.index });
  tx.emit("pool.created", pool.id, pool.name, `${pool.kind} pool at ${pool.path}${pool.shared ? ", shared" : ""}`);
  return { ids: [pool.id] };
}

export function remove(tx: Transaction, command: PoolDelete): CommandResult {
  const id = tx.state.poolIdByName.get(command.name);
  if (id === undefined) throw new RoostError({ kind: "not-found", what: "pool", name: command.name });
  const users = tx.rows("vms", (vm) => poolsOf(vm.definition).includes(command.name)).map((vm) => vm.definition.name);
  if (users.length > 0) {
    throw new RoostError(
      { kind: "precondition", reason: `pool ${command.name} is used by ${users.slice(0, 5).join(", ")}${users.length > 5 ? ", …" : ""}` },
      "delete these VMs first",
    );
  }
  tx.put("pools", id, null);
  tx.emit("pool.deleted", id, command.name, "deleted; its files stay");
  return { ids: [id] };
}
