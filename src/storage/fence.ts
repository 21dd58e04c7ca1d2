/**
 * The contract of storage fences (HA-4): cutting a node off from the disks of one storage instead of the current. What proves is what is
 * observed afterwards, as with power. It covers only VMs all of whose writable disks are in that storage: such a proof says
 * `{ kind: "fence", by: "storage" }`. All drivers pass test/contract/storage-fence.ts.
 */

/** A node as a storage knows it: what it logs in with carries the generation, so that one that comes back under a later one is let in. */
export interface StorageClient {
  nodeId: string;
  /** Everything of the node up to this one is meant. */
  generation: number;
}

/** `cut`: nothing that the client still sends, or has sent and was not answered, is written any more. */
export type StorageAccess = "cut" | "open";

export interface StorageFence {
  /** For people and proofs: `rbd vms`, `iscsi san1`. Never a secret. */
  readonly device: string;
  /** Asks for it. Resolves when the order was taken, which proves nothing; cut already is no error. */
  fence(client: StorageClient, signal: AbortSignal): Promise<void>;
  /** What the storage says now. */
  observe(client: StorageClient, signal: AbortSignal): Promise<StorageAccess>;
}
