/**
 * Why a VM may be placed elsewhere (HA-4). No code path places a claimed VM again without one; it is recorded with
 * each recovery. Times are durations on the leader's monotonic clock, ms.
 */
export type Proof =
  /** The holder confirmed that the VM is gone. */
  | { kind: "release"; nodeId: string; generation: number }
  /** Longest granted duration + margin passed since the last acknowledgement (or since the leader's election), node with a guardian. */
  | { kind: "expiry"; nodeId: string; term: number; sinceAckMs: number; grantedMs: number; marginMs: number }
  /**
   * `power`: all of `device` were seen off at once by node `observerId`. `storage`: nothing of the node and its generations reaches the
   * disks any more.
   */
  | { kind: "fence"; nodeId: string; by: "power" | "storage"; device: string; observerId: string; attempt: number }
  | { kind: "operator"; nodeId: string; user: string };
