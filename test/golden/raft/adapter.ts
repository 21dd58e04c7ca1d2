/**
 * Our Raft core under the names of etcd's raft, so that interaction files written for that one replay here (and ours there).
 * Maps names and nothing else: the behaviour is src/raft/core's, the log is src/raft/storage/memory.ts.
 */
import { decodeConfChange, encodeConfChange } from "../../../src/raft/core/confdata.ts";
import { message, NO_DATA } from "../../../src/raft/core/message.ts";
import { RaftNode } from "../../../src/raft/core/node.ts";
import type {
  ChangeKind,
  Checkpoint,
  ConfChange,
  ConfState,
  Entry,
  EntryKind,
  LogReader,
  Message,
  MessageType,
  PeerId,
  ProgressState,
  Refusal,
  Role,
} from "../../../src/raft/core/types.ts";
import { APPEND_THREAD, APPLY_THREAD, NO_LIMIT } from "../../../src/raft/core/types.ts";
import { MemoryLog } from "../../../src/raft/storage/memory.ts";

export type WireId = number | "A" | "P";

export interface WireConfChange {
  v1?: boolean | undefined;
  transition?: string | number | undefined;
  changes: { op: string; id: number }[];
}

export interface WireEntry {
  term: number;
  index: number;
  type: string;
  data: string;
  cc: WireConfChange | null;
}

export interface WireConfState {
  voters: number[];
  votersOutgoing: number[];
  learners: number[];
  learnersNext: number[];
  autoLeave: boolean;
}

export interface WireSnapshot {
  index: number;
  term: number;
  data: string;
  confState: WireConfState;
}

export interface WireHardState {
  term: number;
  vote: number;
  commit: number;
}

export interface WireMessage {
  type: string;
  to: WireId;
  from: WireId;
  term: number;
  logTerm: number;
  index: number;
  commit: number;
  vote: number;
  reject: boolean;
  rejectHint: number;
  entries: WireEntry[];
  snapshot: WireSnapshot | null;
  responses: WireMessage[];
  /** Read round of a heartbeat, or the mark of a transfer in a vote. Left out if unused; to be handed back as it is. */
  context?: number;
}

export interface WireReady {
  soft: { lead: number; state: string } | null;
  hard: WireHardState | null;
  entries: WireEntry[];
  snapshot: WireSnapshot | null;
  committed: WireEntry[];
  messages: WireMessage[];
  mustSync: boolean;
  readStates: { index: number; ctx: string }[];
}

export interface WireConfig {
  id: number;
  electionTick?: number;
  heartbeatTick?: number;
  maxInflightMsgs?: number;
  maxSizePerMsg?: number;
  maxCommittedSizePerReady?: number;
  preVote?: boolean;
  checkQuorum?: boolean;
  async?: boolean;
  readOnly?: string;
  stepDownOnRemoval?: boolean;
  disableConfChangeValidation?: boolean;
  disableProposalForwarding?: boolean;
  maxUncommittedEntriesSize?: number;
  maxInflightBytes?: number;
  applied?: number;
}

export interface WireStatus {
  id: number;
  term: number;
  lead: number;
  state: string;
  isVoter: boolean;
  progress: {
    id: number;
    state: string;
    match: number;
    next: number;
    learner: boolean;
    paused: boolean;
    pendingSnap: number;
    inactive: boolean;
    inflight: number;
    full: boolean;
  }[];
}

const TYPES: Record<MessageType, string> = {
  campaign: "MsgHup",
  beat: "MsgBeat",
  propose: "MsgProp",
  append: "MsgApp",
  "append-reply": "MsgAppResp",
  vote: "MsgVote",
  "vote-reply": "MsgVoteResp",
  checkpoint: "MsgSnap",
  heartbeat: "MsgHeartbeat",
  "heartbeat-reply": "MsgHeartbeatResp",
  unreachable: "MsgUnreachable",
  "checkpoint-status": "MsgSnapStatus",
  "check-quorum": "MsgCheckQuorum",
  "transfer-leader": "MsgTransferLeader",
  "timeout-now": "MsgTimeoutNow",
  "read-index": "MsgReadIndex",
  "read-index-reply": "MsgReadIndexResp",
  "pre-vote": "MsgPreVote",
  "pre-vote-reply": "MsgPreVoteResp",
  "storage-append": "MsgStorageAppend",
  "storage-append-reply": "MsgStorageAppendResp",
  "storage-apply": "MsgStorageApply",
  "storage-apply-reply": "MsgStorageApplyResp",
  "forget-leader": "MsgForgetLeader",
};
const TYPES_BACK = new Map(Object.entries(TYPES).map(([ours, theirs]) => [theirs, ours as MessageType]));
const ROLES: Record<Role, string> = {
  follower: "StateFollower",
  candidate: "StateCandidate",
  leader: "StateLeader",
  "pre-candidate": "StatePreCandidate",
};
const PROGRESS: Record<ProgressState, string> = { probe: "StateProbe", replicate: "StateReplicate", checkpoint: "StateSnapshot" };
const ENTRIES: Record<EntryKind, string> = {
  normal: "EntryNormal",
  empty: "EntryNormal",
  refused: "EntryNormal",
  "conf-v1": "EntryConfChange",
  conf: "EntryConfChangeV2",
};
const OPS: Record<ChangeKind, string> = { voter: "v", learner: "l", remove: "r", update: "u" };
const OPS_BACK = new Map(Object.entries(OPS).map(([ours, theirs]) => [theirs, ours as ChangeKind]));
const TRANSITIONS = new Map<string | number | undefined, ConfChange["transition"]>([
  [undefined, "auto"],
  [0, "auto"],
  [1, "implicit"],
  [2, "explicit"],
  ["", "auto"],
  ["auto", "auto"],
  ["implicit", "implicit"],
  ["explicit", "explicit"],
  ["ConfChangeTransitionAuto", "auto"],
  ["ConfChangeTransitionJointImplicit", "implicit"],
  ["ConfChangeTransitionJointExplicit", "explicit"],
]);
const REFUSALS: Record<Refusal, string> = {
  "proposal-dropped": "raft proposal dropped",
  "local-message": "raft: cannot step raft local message",
  "unknown-peer": "raft: cannot step as peer not found",
};
const COMPACTED = "requested index is unavailable due to compaction";
const UNAVAILABLE = "requested entry at index is unavailable";
const OUT_OF_DATE = "requested index is older than the existing snapshot";

export class WireError extends Error {
  readonly raft = true;
}

function bytes(text: string): Uint8Array {
  return text === "" ? NO_DATA : new TextEncoder().encode(text);
}

function text(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

/** Entries that went out, by what they went out as: `EntryNormal` hides our kind, which their size depends on. */
const originals = new WeakMap<WireEntry, Entry>();

function entryOut(entry: Entry): WireEntry {
  const conf = entry.kind === "conf" || entry.kind === "conf-v1";
  let cc: WireConfChange | null = null;
  if (conf) {
    const { v1, transition, changes } = decodeConfChange(entry);
    cc = { v1, transition, changes: changes.map(({ kind, peer }) => ({ op: OPS[kind], id: peer })) };
  }
  const out = { term: entry.term, index: entry.index, type: ENTRIES[entry.kind], data: conf ? "" : text(entry.data), cc };
  originals.set(out, entry);
  return out;
}

function entryIn(entry: WireEntry): Entry {
  const original = originals.get(entry);
  if (original !== undefined) return original;
  const { term, index } = entry;
  if (entry.type === "EntryNormal") return { term, index, kind: entry.data ? "normal" : "empty", data: bytes(entry.data ?? "") };
  const kind = entry.type === "EntryConfChange" ? "conf-v1" : "conf";
  return { term, index, kind, data: entry.cc ? encodeConfChange(confChangeIn({ ...entry.cc, v1: kind === "conf-v1" })) : NO_DATA };
}

function confChangeIn(cc: WireConfChange): ConfChange {
  const transition = TRANSITIONS.get(cc.transition);
  if (transition === undefined) throw new Error(`unknown transition ${String(cc.transition)}`);
  const changes = (cc.changes ?? []).map(({ op, id }) => {
    const kind = OPS_BACK.get(op);
    if (kind === undefined) throw new Error(`unknown change ${op}`);
    return { kind, peer: id };
  });
  return { v1: cc.v1 ?? false, transition, changes, context: null };
}

function confStateOut(state: ConfState): WireConfState {
  return {
    voters: [...state.voters],
    votersOutgoing: [...state.outgoing],
    learners: [...state.learners],
    learnersNext: [...state.learnersNext],
    autoLeave: state.autoLeave,
  };
}

function confStateIn(state: Partial<WireConfState> | undefined): ConfState {
  return {
    voters: state?.voters ?? [],
    outgoing: state?.votersOutgoing ?? [],
    learners: state?.learners ?? [],
    learnersNext: state?.learnersNext ?? [],
    autoLeave: state?.autoLeave ?? false,
  };
}

function snapshotOut(checkpoint: Checkpoint | null): WireSnapshot | null {
  if (checkpoint === null) return null;
  const { index, term, confState, data } = checkpoint;
  return { index, term, data: text(data), confState: confStateOut(confState) };
}

function snapshotIn(snapshot: WireSnapshot | null | undefined): Checkpoint | null {
  if (snapshot === null || snapshot === undefined) return null;
  const { index, term, confState, data } = snapshot;
  return { index, term, confState: confStateIn(confState), data: bytes(data ?? "") };
}

function idOut(id: PeerId): WireId {
  return id === APPEND_THREAD ? "A" : id === APPLY_THREAD ? "P" : id;
}

function idIn(id: WireId): PeerId {
  return id === "A" ? APPEND_THREAD : id === "P" ? APPLY_THREAD : (id ?? 0);
}

function messageOut(m: Message): WireMessage {
  return {
    type: TYPES[m.type],
    to: idOut(m.to),
    from: idOut(m.from),
    term: m.term,
    logTerm: m.logTerm,
    index: m.index,
    commit: m.commit,
    vote: m.vote,
    reject: m.reject,
    rejectHint: m.rejectHint,
    entries: m.entries.map(entryOut),
    snapshot: snapshotOut(m.checkpoint),
    responses: m.responses.map(messageOut),
    ...(m.context === 0 ? {} : { context: m.context }),
  };
}

function messageIn(wire: WireMessage): Message {
  const type = TYPES_BACK.get(wire.type);
  if (type === undefined) throw new Error(`unknown message type ${wire.type}`);
  const m = message(type, idIn(wire.to), idIn(wire.from));
  m.term = wire.term ?? 0;
  m.logTerm = wire.logTerm ?? 0;
  m.index = wire.index ?? 0;
  m.commit = wire.commit ?? 0;
  m.vote = wire.vote ?? 0;
  m.reject = wire.reject ?? false;
  m.rejectHint = wire.rejectHint ?? 0;
  m.entries = (wire.entries ?? []).map(entryIn);
  m.checkpoint = snapshotIn(wire.snapshot);
  m.responses = (wire.responses ?? []).map(messageIn);
  m.context = wire.context ?? 0;
  return m;
}

function check(refusal: Refusal | null): void {
  if (refusal !== null) throw new WireError(REFUSALS[refusal]);
}

/** A peer and its log under etcd's names. */
export class WireNode {
  private readonly config: WireConfig;
  private readonly store = new MemoryLog();
  private readonly getSnapshot: () => WireSnapshot | null;
  private readonly log: (level: string, message: string) => void;
  private node: RaftNode;

  constructor(
    config: WireConfig,
    bootstrap: WireSnapshot | null,
    log: (level: string, message: string) => void,
    getSnapshot: () => WireSnapshot | null,
  ) {
    this.config = config;
    this.getSnapshot = getSnapshot;
    this.log = log;
    const first = snapshotIn(bootstrap);
    if (first !== null) this.store.applyCheckpoint(first);
    this.node = this.start(config.applied ?? 0);
  }

  private start(applied: number): RaftNode {
    const { config, store } = this;
    const storage: LogReader = {
      initialState: () => store.initialState(),
      firstIndex: () => store.firstIndex(),
      lastIndex: () => store.lastIndex(),
      term: (index) => store.term(index),
      entries: (from, to, maxBytes) => store.entries(from, to, maxBytes),
      checkpoint: () => snapshotIn(this.getSnapshot()),
    };
    return new RaftNode({
      id: config.id,
      electionTicks: config.electionTick ?? 3,
      heartbeatTicks: config.heartbeatTick ?? 1,
      storage,
      random: () => 0,
      applied,
      asyncStorageWrites: config.async ?? false,
      maxSizePerMessage: config.maxSizePerMsg ?? NO_LIMIT,
      maxCommittedSizePerReady: config.maxCommittedSizePerReady ?? 0,
      maxUncommittedSize: config.maxUncommittedEntriesSize ?? 0,
      maxInflightMessages: config.maxInflightMsgs ?? NO_LIMIT,
      maxInflightBytes: config.maxInflightBytes ?? 0,
      checkQuorum: config.checkQuorum ?? false,
      preVote: config.preVote ?? false,
      reads: config.readOnly === "lease-based" ? "lease" : "safe",
      // Ours differ from etcd's reads in a group of one (see RaftConfig): stale ones are a bug. Here they must be the same.
      hastySingleReads: true,
      disableProposalForwarding: config.disableProposalForwarding ?? false,
      disableConfChangeValidation: config.disableConfChangeValidation ?? false,
      stepDownOnRemoval: config.stepDownOnRemoval ?? false,
      log: this.log,
    });
  }

  restart(applied = 0): void {
    this.node = this.start(applied);
  }

  step(m: WireMessage): void {
    check(this.node.step(messageIn(m)));
  }

  tick(): void {
    this.node.tick();
  }

  campaign(): void {
    check(this.node.campaign());
  }

  propose(data: string): void {
    check(this.node.propose(bytes(data)));
  }

  proposeConfChange(cc: WireConfChange | null): void {
    check(this.node.proposeConfChange(cc === null ? null : confChangeIn(cc)));
  }

  applyConfChange(cc: WireConfChange | null): WireConfState {
    return confStateOut(this.node.applyConfChange(confChangeIn(cc ?? { changes: [] })));
  }

  readIndex(ctx: string): void {
    this.node.readIndex(bytes(ctx));
  }

  ready(): WireReady {
    const ready = this.node.ready();
    return {
      soft: ready.soft === null ? null : { lead: ready.soft.lead, state: ROLES[ready.soft.role] },
      hard: ready.hard === null ? null : { ...ready.hard },
      entries: ready.entries.map(entryOut),
      snapshot: snapshotOut(ready.checkpoint),
      committed: ready.committed.map(entryOut),
      messages: ready.messages.map(messageOut),
      mustSync: ready.mustSync,
      readStates: ready.readStates.map(({ index, context }) => ({ index, ctx: text(context) })),
    };
  }

  advance(): void {
    this.node.advance();
  }

  hasReady(): boolean {
    return this.node.hasReady();
  }

  status(): WireStatus {
    const { id, hard, soft, confState, progress } = this.node.status();
    return {
      id,
      term: hard.term,
      lead: soft.lead,
      state: ROLES[soft.role],
      isVoter: confState.voters.includes(id) || confState.outgoing.includes(id),
      progress: progress.map((p) => ({
        id: p.id,
        state: PROGRESS[p.state],
        match: p.match,
        next: p.next,
        learner: p.learner,
        paused: p.paused,
        pendingSnap: p.pendingCheckpoint,
        inactive: !p.recentActive,
        inflight: p.inflight,
        full: p.inflightFull,
      })),
    };
  }

  transferLeader(to: number): void {
    this.node.transferLeader(to);
  }

  forgetLeader(): void {
    this.node.forgetLeader();
  }

  reportUnreachable(id: number): void {
    this.node.reportUnreachable(id);
  }

  reportSnapshot(id: number, ok: boolean): void {
    this.node.reportCheckpoint(id, ok);
  }

  setRandomizedElectionTimeout(ticks: number): void {
    this.node.setRandomizedElectionTicks(ticks);
  }

  setHardState(hard: Partial<WireHardState>): void {
    this.store.setHardState({ term: hard.term ?? 0, vote: hard.vote ?? 0, commit: hard.commit ?? 0 });
  }

  append(entries: WireEntry[]): void {
    this.store.append(entries.map(entryIn));
  }

  applySnapshot(snapshot: WireSnapshot): void {
    const checkpoint = snapshotIn(snapshot);
    if (checkpoint !== null && !this.store.applyCheckpoint(checkpoint)) throw new WireError(OUT_OF_DATE);
  }

  compact(index: number): void {
    if (!this.store.compact(index)) throw new WireError(COMPACTED);
  }

  firstIndex(): number {
    return this.store.firstIndex();
  }

  lastIndex(): number {
    return this.store.lastIndex();
  }

  entries(from: number, to: number): WireEntry[] {
    const found = this.store.entries(from, to, NO_LIMIT);
    if (typeof found === "string") throw new WireError(found === "compacted" ? COMPACTED : UNAVAILABLE);
    return found.map(entryOut);
  }
}

export interface WireCluster {
  newNode(
    config: WireConfig,
    bootstrapSnapshot: WireSnapshot | null,
    log: (level: string, message: string) => void,
    getSnapshot: () => WireSnapshot | null,
  ): WireNode;
}

export function createCluster(): WireCluster {
  return { newNode: (config, bootstrap, log, getSnapshot) => new WireNode(config, bootstrap, log, getSnapshot) };
}
