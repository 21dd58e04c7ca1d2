import { decodeConfChange } from "../../src/raft/core/confdata.ts";
import { RaftNode } from "../../src/raft/core/node.ts";
import type { Raft } from "../../src/raft/core/raft.ts";
import type { Checkpoint, ConfState, Entry, Message, PeerId, RaftConfig, Ready } from "../../src/raft/core/types.ts";
import { APPEND_THREAD, APPLY_THREAD, NONE } from "../../src/raft/core/types.ts";
import { MemoryLog } from "../../src/raft/storage/memory.ts";

/** What a peer asks of the world around it. */
export interface World {
  send(m: Message): void;
  /** Calls back after a while, unless the peer has crashed by then. */
  later(peer: SimPeer, kind: "disk" | "apply", action: () => void): void;
  leads(peer: SimPeer): void;
  applies(peer: SimPeer, previous: number, entry: Entry): void;
  reads(peer: SimPeer, context: Uint8Array, index: number): void;
}

/** Faults of the driver that the checkers must find; see mutations.ts. */
export interface DriverFaults {
  skipFsync?: boolean;
  forgetVote?: boolean;
  forgetHardState?: boolean;
  ignoreCheckpointMembership?: boolean;
  applyChangeEarly?: boolean;
  changeBeforeCommitIsDurable?: boolean;
}

/** One node: the core, a disk whose unfinished writes a crash loses, and a state machine that folds entries into a number. */
export class SimPeer {
  readonly id: PeerId;
  /** What a crash leaves. */
  readonly disk = new MemoryLog();
  node: RaftNode | null = null;
  applied = 0;
  /** Index → term of the membership changes applied in this life: what is told to a peer that has lost its leader (src/cluster/consensus/asking.ts). */
  readonly changesApplied = new Map<number, number>();
  /** Index of the last checkpoint from a leader. */
  private restored = 0;
  /** The state machine: a digest of everything applied. */
  digest = 0;
  confState: ConfState | null = null;
  /** Grows with every crash, so that what was asked for before does not come after. */
  life = 0;
  private readonly world: World;
  private readonly config: Omit<RaftConfig, "storage" | "id">;
  private readonly faults: DriverFaults;
  private disks: Message[] = [];
  private applies: Message[] = [];

  constructor(id: PeerId, world: World, config: Omit<RaftConfig, "storage" | "id">, faults: DriverFaults, first: Checkpoint | null) {
    this.id = id;
    this.world = world;
    this.config = config;
    this.faults = faults;
    if (first !== null) {
      this.disk.applyCheckpoint(first);
      this.disk.setHardState({ term: first.term, vote: NONE, commit: first.index });
    }
  }

  get raft(): Raft | null {
    return this.node === null ? null : (this.node as unknown as { raft: Raft }).raft;
  }

  start(): void {
    const saved = this.disk.checkpoint()!;
    const { hardState } = this.disk.initialState();
    if (this.faults.forgetVote) this.disk.setHardState({ ...hardState, vote: NONE });
    if (this.faults.forgetHardState)
      this.disk.setHardState({ term: Math.max(hardState.term - 1, 0), vote: NONE, commit: hardState.commit });
    this.node = new RaftNode({ ...this.config, id: this.id, storage: this.disk, applied: saved.index });
    this.applied = saved.index;
    this.digest = decodeDigest(saved.data);
    this.confState = saved.confState;
    this.pump();
  }

  crash(): void {
    this.node = null;
    this.life++;
    this.disks = [];
    this.applies = [];
  }

  /** Hands out all work of the core. */
  pump(): void {
    while (this.node?.hasReady() === true) {
      const ready = this.node.ready();
      if (ready.soft?.role === "leader" || this.node.soft.role === "leader") this.world.leads(this);
      for (const { index, context } of ready.readStates) this.world.reads(this, context, index);
      if (this.config.asyncStorageWrites === true) for (const m of ready.messages) this.route(m);
      else this.synchronously(ready);
    }
  }

  step(m: Message): void {
    this.node?.step(m);
    this.pump();
  }

  /** Cuts the log after recording a checkpoint of what is applied. */
  compact(keep: number): void {
    if (this.applied <= this.disk.checkpoint()!.index || this.applied > this.disk.lastIndex() || this.node === null) return;
    this.commitDurably(this.applied);
    this.disk.createCheckpoint(this.applied, this.confState, encodeDigest(this.digest));
    const to = this.applied - keep;
    if (to >= this.disk.firstIndex()) this.disk.compact(to);
  }

  private route(m: Message): void {
    if (m.to === APPEND_THREAD) {
      this.disks.push(m);
      if (this.faults.skipFsync) for (const response of m.responses) this.deliver(response);
      this.world.later(this, "disk", () => this.written(this.disks.shift()!));
    } else if (m.to === APPLY_THREAD) {
      this.applies.push(m);
      this.world.later(this, "apply", () => {
        const work = this.applies.shift()!;
        for (const entry of work.entries) this.apply(entry);
        for (const response of work.responses) this.deliver(response);
      });
    } else this.world.send(m);
  }

  private written(m: Message): void {
    if (m.term !== 0 || m.vote !== 0 || m.commit !== 0) {
      const { commit } = this.disk.initialState().hardState;
      this.disk.setHardState({ term: m.term, vote: m.vote, commit: Math.max(m.commit, commit) });
    }
    this.write(m.checkpoint, m.entries);
    if (!this.faults.skipFsync) for (const response of m.responses) this.deliver(response);
  }

  private synchronously(ready: Ready): void {
    if (ready.hard !== null) this.disk.setHardState(ready.hard);
    this.write(ready.checkpoint, ready.entries);
    for (const m of ready.messages) this.world.send(m);
    for (const entry of ready.committed) this.apply(entry);
    this.node!.advance();
  }

  private write(checkpoint: Checkpoint | null, entries: readonly Entry[]): void {
    if (checkpoint !== null) {
      const confState = this.faults.ignoreCheckpointMembership ? this.disk.initialState().confState : checkpoint.confState;
      this.disk.applyCheckpoint({ ...checkpoint, confState });
      this.applied = checkpoint.index;
      this.restored = checkpoint.index;
      this.digest = decodeDigest(checkpoint.data);
      this.confState = checkpoint.confState;
    }
    this.disk.append(entries);
    if (this.faults.applyChangeEarly) {
      for (const entry of entries) if (entry.kind.startsWith("conf")) this.node?.applyConfChange(decodeConfChange(entry));
    }
  }

  private deliver(m: Message): void {
    if (m.to === this.id) {
      this.node?.step(m);
      this.pump();
    } else this.world.send(m);
  }

  /**
   * Commit indexes need no fsync of their own, but two things rest on them: a checkpoint must not be beyond the commit index
   * after a restart; and a peer that acts by a new membership must never wake up in the old one without knowing that a change
   * is committed, for then it could elect itself by a quorum that no longer counts.
   */
  private commitDurably(index: number): void {
    const { hardState } = this.disk.initialState();
    if (index > hardState.commit) this.disk.setHardState({ ...hardState, commit: index });
  }

  private apply(entry: Entry): void {
    if (entry.kind.startsWith("conf") && !this.faults.changeBeforeCommitIsDurable) this.commitDurably(entry.index);
    // A checkpoint has overtaken what was handed out before it.
    if (entry.index <= this.restored) return;
    this.world.applies(this, this.applied, entry);
    if (entry.kind.startsWith("conf")) this.changesApplied.set(entry.index, entry.term);
    this.applied = entry.index;
    if (entry.kind === "normal") for (const byte of entry.data) this.digest = (Math.imul(this.digest, 31) + byte) >>> 0;
    else if (entry.kind.startsWith("conf") && !this.faults.applyChangeEarly) {
      this.confState = this.node!.applyConfEntry(entry) ?? this.confState;
    }
  }
}

function encodeDigest(digest: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, digest);
  return bytes;
}

function decodeDigest(bytes: Uint8Array): number {
  return bytes.length === 4 ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(0) : 0;
}
