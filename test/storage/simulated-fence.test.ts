import t from "tap";
import type { StorageFence } from "../../src/storage/fence.ts";
import { storageFenceContract } from "../contract/storage-fence.ts";

/** A storage in memory that knows up to which generation each node is cut off; asked at the moment a write arrives at the disk. */
t.test("simulated storage fence", (t) => {
  storageFenceContract(t, () => {
    const cut = new Map<string, number>();
    const isCut = (nodeId: string, generation: number): boolean => generation <= (cut.get(nodeId) ?? -1);
    const fence: StorageFence = {
      device: "simulated",
      fence({ nodeId, generation }, signal) {
        if (signal.aborted) return Promise.reject(signal.reason as Error);
        cut.set(nodeId, Math.max(cut.get(nodeId) ?? -1, generation));
        return Promise.resolve();
      },
      observe: ({ nodeId, generation }) => Promise.resolve(isCut(nodeId, generation) ? "cut" : "open"),
    };
    const write = (nodeId: string, generation: number): Promise<boolean> => Promise.resolve(!isCut(nodeId, generation));
    return Promise.resolve({ fence, write, delayedWrite: (nodeId, generation) => () => write(nodeId, generation) });
  });
  t.end();
});
