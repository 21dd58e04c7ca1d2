/**
 * One guard of docs/never-twice.md taken away at a time: some seed must then show two copies, or a broken promise where another
 * guard still holds what this one held; else the simulation proves nothing about it. Where it is taken away: look for the name in
 * test/sim/ha*.ts.
 */
export const HA_MUTATIONS = [
  { name: "skip-margin", takes: "the margin from the wait before an expiry", seed: 124 },
  { name: "count-from-ack", takes: "counting from the heartbeat's mint: from the acknowledgement instead", seed: 6 },
  { name: "ack-without-quorum", takes: "the quorum round before an acknowledgement", seed: 1 },
  { name: "ack-before-own-term", takes: "acknowledging only after the own term's first entry was applied", seed: 20 },
  { name: "ack-after-stopping", takes: "that a node whose expiry is being decided is acknowledged no more", seed: 238 },
  { name: "resume-while-expiring", takes: "that nothing is resumed while an expiry's fate is unknown", seed: 295 },
  { name: "expire-in-any-term", takes: "the term that an expiry is bound to", seed: 6 },
  { name: "new-leader-does-not-wait", takes: "a new leader's wait from its election", seed: 1 },
  { name: "expire-parked", takes: "waiting for a park to end", seed: 135 },
  { name: "reuse-generation", takes: "that a generation is given once", seed: 1 },
  { name: "feed-unacknowledged", takes: "that the guardian is fed by acknowledgements only", seed: 79 },
  { name: "guardian-sleeps", takes: "the guardian, which the node still says it has", seed: 3 },
  { name: "keeper-forgets", takes: "what a keeper that starts again knows of the one before it", seed: 354 },
  { name: "late-ack-revives", takes: "that time passes before a late acknowledgement counts", seed: 74 },
  { name: "resume-unconfirmed", takes: "asking the keeper again before a started VM runs", seed: 4 },
  { name: "ignore-the-lock", takes: "the lock that a stopped host's guests still hold on their disks", seed: 10 },
  { name: "resume-before-release", takes: "that a migration's target waits for the source's release", seed: 3 },
  { name: "take-back-unasked", takes: "that the source resumes only what the cluster says was given up", seed: 30 },
  { name: "remove-is-proof", takes: "that removing a dead node ends no claim by itself", seed: 361 },
] as const;

export type Mutation = (typeof HA_MUTATIONS)[number]["name"] | null;
