/** What renews a node's claims: its sign of life and the leader's answer (HA-2). Agent, keeper and leader all speak it. */

/** One placement of one VM. */
export interface VmGeneration {
  vmId: string;
  generation: number;
}

/** A node's sign of life. All of it is the keeper's, so that nothing else can renew its deadlines (HA-3). */
export interface Heartbeat {
  bootId: string;
  /** Minted by a keeper at its start: acknowledgements of an earlier keeper's heartbeats are worth nothing. */
  nonce: string;
  seq: number;
  /** Revision of the newest claim set that the keeper knows. */
  claimRevision: number;
}

/**
 * The leader's answer, sent only when a quorum knew the leader after the heartbeat had arrived. The claim set is at least as
 * new as everything of earlier terms (docs/design/001-threads.md).
 */
export interface Acknowledgement {
  bootId: string;
  nonce: string;
  seq: number;
  /** How long the node may run what it claims, counted from when it minted the heartbeat, ms. */
  grantedMs: number;
  /** Revision of the node's claim set; the whole set must be there if the heartbeat's revision was older. */
  claimRevision: number;
  claims: VmGeneration[] | null;
}
