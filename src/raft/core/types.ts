/**
 * The data that goes into and comes out of the Raft core: plain objects, no behaviour.
 *
 * Peers are positive integers. Terms and indexes are safe integers counted from 1; 0 means "none". Sizes are bytes.
 * The core never changes an Entry, a Checkpoint or a byte array that it was given or has handed out; neither may its user.
 */

/** No peer: an unknown leader, a vote not given, a message without sender. */
export const NONE = 0;
/** Address of the local storage thread that appends to the log (asynchronous storage writes). */
export const APPEND_THREAD = -1;
/** Address of the local thread that applies committed entries (asynchronous storage writes). */
export const APPLY_THREAD = -2;

/** A size or count without limit. */
export const NO_LIMIT = Number.POSITIVE_INFINITY;

export type PeerId = number;

/**
 * What an entry is for. `empty` is the entry without data with which a leader opens its term; `refused` stands where a
 * membership change stood that the leader found impossible: both apply as nothing. `conf-v1` holds one membership change
 * in the older form, `conf` any number of them (data: see confdata.ts); `conf` without data leaves a joint configuration.
 */
export type EntryKind = "normal" | "empty" | "refused" | "conf-v1" | "conf";

export interface Entry {
  readonly term: number;
  readonly index: number;
  readonly kind: EntryKind;
  readonly data: Uint8Array;
}

/** The identity of an entry: no two different entries share both. */
export interface EntryId {
  readonly term: number;
  readonly index: number;
}

export type MessageType =
  // Between peers.
  | "append"
  | "append-reply"
  | "heartbeat"
  | "heartbeat-reply"
  | "vote"
  | "vote-reply"
  | "pre-vote"
  | "pre-vote-reply"
  | "checkpoint"
  | "timeout-now"
  // From users of any peer, passed on to the leader.
  | "propose"
  | "read-index"
  | "read-index-reply"
  | "transfer-leader"
  // Inside one peer only.
  | "forget-leader"
  | "campaign"
  | "beat"
  | "check-quorum"
  | "unreachable"
  | "checkpoint-status"
  | "storage-append"
  | "storage-append-reply"
  | "storage-apply"
  | "storage-apply-reply";

/**
 * One flat shape for all messages (one hidden class, so that the engine's inline caches stay monomorphic). Fields that a
 * type does not use hold 0, false, null or an empty list; `message()` in message.ts fills them in.
 */
export interface Message {
  type: MessageType;
  to: PeerId;
  from: PeerId;
  /** Term of the sender; 0 for messages that belong to no term (local ones, proposals, reads). */
  term: number;
  /** Term of the entry at `index`: the one before `entries` (append), the hint (reply), the last durable one (storage). */
  logTerm: number;
  index: number;
  entries: readonly Entry[];
  commit: number;
  /** Only in `storage-append`: the vote to make durable. */
  vote: PeerId;
  checkpoint: Checkpoint | null;
  reject: boolean;
  /** In a refusing append-reply: the highest index at which the logs may still agree. */
  rejectHint: number;
  /** heartbeat(-reply): the read round it confirms; vote: 1 = campaign on the leader's wish, overrides stickiness. 0 = none. */
  context: number;
  /** storage-append, storage-apply: what to deliver (to peers, or back to `step`) once the work is done. */
  responses: readonly Message[];
}

/** Membership at one index. `outgoing` is non-empty only in a joint configuration. */
export interface ConfState {
  readonly voters: readonly PeerId[];
  readonly outgoing: readonly PeerId[];
  readonly learners: readonly PeerId[];
  /** Voters of the outgoing half that become learners when the joint configuration is left. */
  readonly learnersNext: readonly PeerId[];
  readonly autoLeave: boolean;
}

/** The state up to and including `index`, in place of the log. `data` is opaque to the core: bytes or a handle to them. */
export interface Checkpoint {
  readonly index: number;
  readonly term: number;
  readonly confState: ConfState;
  readonly data: Uint8Array;
}

/** `update` changes nothing in the core: it only carries the context through the log. */
export type ChangeKind = "voter" | "learner" | "remove" | "update";

export interface PeerChange {
  readonly kind: ChangeKind;
  readonly peer: PeerId;
}

/**
 * A membership change. With `auto` and one change the simple protocol is used, else joint consensus; `implicit` leaves the
 * joint configuration by itself, `explicit` waits for an empty change (`auto`, no changes).
 */
export interface ConfChange {
  /** Encode in the older one-change form. */
  readonly v1: boolean;
  readonly transition: "auto" | "implicit" | "explicit";
  readonly changes: readonly PeerChange[];
  /** Carried along for the user. */
  readonly context: Uint8Array | null;
}

/** What must survive a crash besides the entries. */
export interface HardState {
  readonly term: number;
  readonly vote: PeerId;
  readonly commit: number;
}

export type Role = "follower" | "pre-candidate" | "candidate" | "leader";

export interface SoftState {
  readonly lead: PeerId;
  readonly role: Role;
}

/** Answer to `readIndex`: once everything up to `index` is applied, the read that carried `context` is linearizable. */
export interface ReadState {
  readonly index: number;
  readonly context: Uint8Array;
}

/**
 * Work for the driver. In synchronous mode: (1) make `checkpoint`, `entries` and `hardState` durable in one write (fsync if
 * `mustSync`), (2) send `messages`, (3) apply `committed`, calling `applyConfChange` for conf entries, (4) call `advance()`.
 * In asynchronous mode `messages` may go out at once; the storage work is in the `storage-append` and `storage-apply`
 * messages among them, and `advance` is not used.
 */
export interface Ready {
  readonly soft: SoftState | null;
  readonly hard: HardState | null;
  readonly entries: readonly Entry[];
  readonly checkpoint: Checkpoint | null;
  readonly committed: readonly Entry[];
  readonly messages: readonly Message[];
  readonly readStates: readonly ReadState[];
  /** False if losing this write in a crash breaks no promise (only the commit index moved). */
  readonly mustSync: boolean;
}

/** Why a message or call was not taken. `proposal-dropped` may succeed later or at another peer. */
export type Refusal = "proposal-dropped" | "local-message" | "unknown-peer";

export type LogFault = "compacted" | "unavailable";

/** The durable log as the core reads it. All calls are synchronous and must not wait for a disk. */
export interface LogReader {
  /** Read once, by the constructor of the node. */
  initialState(): { hardState: HardState; confState: ConfState };
  /** Index after the last compacted one. */
  firstIndex(): number;
  /** Index of the last durable entry, or of the checkpoint if there is none. */
  lastIndex(): number;
  /** Term of the entry at `index` in [firstIndex - 1, lastIndex]. */
  term(index: number): number | LogFault;
  /** Entries in [from, to), cut off where their encoded size exceeds `maxBytes`, but at least one. A fresh array. */
  entries(from: number, to: number, maxBytes: number): readonly Entry[] | LogFault;
  /** The newest checkpoint, to be sent to a peer that needs compacted entries; null: ask again later. */
  checkpoint(): Checkpoint | null;
}

export interface RaftConfig {
  id: PeerId;
  /** Ticks without a leader's message before an election; randomised in [electionTicks, 2·electionTicks). */
  electionTicks: number;
  /** Ticks between a leader's heartbeats; less than electionTicks. */
  heartbeatTicks: number;
  storage: LogReader;
  /** Uniform integer in [0, limit): spreads elections in time. */
  random: (limit: number) => number;
  /** Last index already applied, so that it is not handed out again; 0: everything after the checkpoint is. */
  applied?: number;
  asyncStorageWrites?: boolean;
  /** Encoded entries in one append message; 0: one entry each. */
  maxSizePerMessage: number;
  /** Encoded entries handed out for applying and not yet acknowledged; default maxSizePerMessage. */
  maxCommittedSizePerReady?: number;
  /** Payload bytes of uncommitted entries at the leader, above which proposals are dropped. */
  maxUncommittedSize?: number;
  /** Append messages in flight to one peer. */
  maxInflightMessages: number;
  /** Payload bytes in flight to one peer; not less than maxSizePerMessage. */
  maxInflightBytes?: number;
  /** The leader steps down when it has not heard from a quorum for an election time; followers of a live leader ignore candidates. */
  checkQuorum?: boolean;
  /** Ask for votes before raising the term (thesis 9.6). */
  preVote?: boolean;
  /** `lease` trusts clocks and needs checkQuorum. */
  reads?: "safe" | "lease";
  /**
   * Answer reads as etcd's core does where the group has a single voter: at once, even before the first commit of the term, and
   * even if that voter is not this leader. Both can miss what was acknowledged before (the commit index needs no fsync; a removed
   * leader does not know its successor), so by default they wait like all others. For conformance tests.
   */
  hastySingleReads?: boolean;
  disableProposalForwarding?: boolean;
  /** Take membership changes without looking at the current configuration: only for tests. */
  disableConfChangeValidation?: boolean;
  /** A leader that is no voter any more steps down when it applies that. */
  stepDownOnRemoval?: boolean;
  /** Rare events in words, for the log. The texts promise nothing. */
  log?: (level: "debug" | "info" | "warn", text: string) => void;
}

export type ProgressState = "probe" | "replicate" | "checkpoint";

/** What a leader knows of one peer. */
export interface ProgressStatus {
  readonly id: PeerId;
  readonly state: ProgressState;
  readonly match: number;
  readonly next: number;
  readonly learner: boolean;
  readonly paused: boolean;
  readonly pendingCheckpoint: number;
  readonly recentActive: boolean;
  readonly inflight: number;
  readonly inflightFull: boolean;
}

export interface RaftStatus {
  readonly id: PeerId;
  readonly hard: HardState;
  readonly soft: SoftState;
  readonly applied: number;
  readonly lastIndex: number;
  readonly firstIndex: number;
  readonly transferee: PeerId;
  readonly confState: ConfState;
  /** Sorted by id; empty unless leader. */
  readonly progress: readonly ProgressStatus[];
}
