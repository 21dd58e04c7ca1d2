/** Helpers of the storage tests. */
import { type Fault, RoostError } from "../../src/base/errors.ts";
import type { Pool } from "../../src/model/pool.ts";

/** The fault a promise ends with; throws if it ends well or with anything but a RoostError. */
export async function faultOf(promise: Promise<unknown>): Promise<Fault> {
  return (await errorOf(promise)).fault;
}

export async function errorOf(promise: Promise<unknown>): Promise<RoostError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof RoostError) return error;
    throw error;
  }
  throw new Error("it was expected to fail, and did not");
}

export function poolRow(path: string, over: Partial<Pool> = {}): Pool {
  return { id: "p1", name: "p", kind: "dir", path, shared: true, createdAtMs: 0, revision: 1, ...over };
}
