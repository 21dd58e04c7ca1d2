/** What every storage fence must do. The fixture writes as a node would, so that `cut` is judged by what reaches the disk. */
import type { Test } from "tap";
import type { StorageFence } from "../../src/storage/fence.ts";

export interface FencedStorage {
  fence: StorageFence;
  /** A write under a generation; resolves with whether it reached the disk. */
  write: (nodeId: string, generation: number) => Promise<boolean>;
  /** A write that is on its way until it is let go. */
  delayedWrite: (nodeId: string, generation: number) => () => Promise<boolean>;
}

const never = new AbortController().signal;

export function storageFenceContract(t: Test, setUp: () => Promise<FencedStorage>): void {
  t.test("cut is seen, and nothing of the node reaches the disk", async (t) => {
    const { fence, write } = await setUp();
    const client = { nodeId: "n1", generation: 3 };
    t.equal(await fence.observe(client, never), "open");
    t.ok(await write("n1", 3));
    await fence.fence(client, never);
    t.equal(await fence.observe(client, never), "cut");
    t.notOk(await write("n1", 3));
    t.notOk(await write("n1", 2), "generations before it, too");
    await fence.fence(client, never);
    t.equal(await fence.observe(client, never), "cut", "again is no error");
  });

  t.test("others, and the node under a later generation, write on", async (t) => {
    const { fence, write } = await setUp();
    await fence.fence({ nodeId: "n1", generation: 3 }, never);
    t.ok(await write("n2", 3));
    t.ok(await write("n1", 4));
    t.equal(await fence.observe({ nodeId: "n1", generation: 4 }, never), "open");
    t.equal(await fence.observe({ nodeId: "n2", generation: 3 }, never), "open");
  });

  t.test("a write that was under way when it was cut off does not come late", async (t) => {
    const { fence, delayedWrite } = await setUp();
    const letGo = delayedWrite("n1", 3);
    const client = { nodeId: "n1", generation: 3 };
    await fence.fence(client, never);
    t.equal(await fence.observe(client, never), "cut");
    t.notOk(await letGo());
  });

  t.test("an order that was given up is no fence by itself", async (t) => {
    const { fence, write } = await setUp();
    const client = { nodeId: "n1", generation: 3 };
    await t.rejects(fence.fence(client, AbortSignal.abort(new Error("given up"))), /given up/);
    // Whatever came of it, what is observed and what is written agree.
    t.equal(await fence.observe(client, never), (await write("n1", 3)) ? "open" : "cut");
  });
}
