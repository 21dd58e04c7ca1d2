/** A few cores without time, disk and loss: what one does, the others get at once, unless a test holds it back. */
import { RaftNode } from "../../../src/raft/core/node.ts";
import { decodeConfChange } from "../../../src/raft/core/confdata.ts";
import type { Raft } from "../../../src/raft/core/raft.ts";
import type { Checkpoint, ConfState, Entry, Message, MessageType, PeerId, RaftConfig, Ready } from "../../../src/raft/core/types.ts";
import { MemoryLog } from "../../../src/raft/storage/memory.ts";
import { message } from "../../../src/raft/core/message.ts";

const decoder = new TextDecoder();

export function confState(voters: readonly PeerId[], learners: readonly PeerId[] = []): ConfState {
  return { voters, outgoing: [], learners, learnersNext: [], autoLeave: false };
}

export interface Member {
  readonly id: PeerId;
  readonly disk: MemoryLog;
  node: RaftNode;
  applied: string[];
}

export type Options = Partial<Omit<RaftConfig, "id" | "storage">>;

/** A peer alone, with a log of entries whose terms are given, none of them committed. */
export function member(id: PeerId, voters: readonly PeerId[], terms: readonly number[] = [], options: Options = {}): Member {
  const disk = new MemoryLog();
  const first: Checkpoint = { index: 0, term: 0, confState: confState(voters), data: new Uint8Array(0) };
  disk.applyCheckpoint(first);
  disk.append(terms.map((term, i): Entry => ({ term, index: i + 1, kind: "normal", data: Uint8Array.of(i) })));
  disk.setHardState({ term: terms.at(-1) ?? 0, vote: 0, commit: 0 });
  return { id, disk, node: start(id, disk, options), applied: [] };
}

export function start(id: PeerId, disk: MemoryLog, options: Options = {}): RaftNode {
  return new RaftNode({
    id,
    storage: disk,
    electionTicks: 10,
    heartbeatTicks: 1,
    random: () => 0,
    maxSizePerMessage: Number.POSITIVE_INFINITY,
    maxInflightMessages: 256,
    ...options,
  });
}

/** Inner state that has no place in the API. */
export function inner(of: Member): Raft {
  return (of.node as unknown as { raft: Raft }).raft;
}

/** Takes a Ready, stores and applies it; the messages that go out. */
export function turn(of: Member): Message[] {
  const out: Message[] = [];
  while (of.node.hasReady()) {
    const ready: Ready = of.node.ready();
    if (ready.hard !== null) of.disk.setHardState(ready.hard);
    if (ready.checkpoint !== null) of.disk.applyCheckpoint(ready.checkpoint);
    of.disk.append(ready.entries);
    out.push(...ready.messages);
    for (const entry of ready.committed) {
      if (entry.kind === "normal") of.applied.push(decoder.decode(entry.data));
      else if (entry.kind === "conf" || entry.kind === "conf-v1") of.node.applyConfChange(decodeConfChange(entry));
    }
    of.node.advance();
  }
  return out;
}

/** A message to `to` with the given fields. */
export function receive(to: Member, type: MessageType, from: PeerId, fields: Partial<Message>): Message[] {
  to.node.step({ ...message(type, to.id, from), ...fields });
  return turn(to);
}

export class Cluster {
  readonly members: Member[];
  /** Messages that are lost. */
  lose: (m: Message) => boolean = () => false;

  constructor(count: number, options: Options = {}) {
    const ids = Array.from({ length: count }, (_, i) => i + 1);
    this.members = ids.map((id) => member(id, ids, [], options));
  }

  at(id: PeerId): Member {
    return this.members[id - 1]!;
  }

  /** Until nothing is left to do. */
  settle(): void {
    for (let busy = true; busy;) {
      busy = false;
      for (const from of this.members) {
        for (const m of turn(from)) {
          busy = true;
          if (!this.lose(m)) this.members[m.to - 1]?.node.step(m);
        }
      }
    }
  }

  elect(id: PeerId): void {
    this.at(id).node.campaign();
    this.settle();
  }

  propose(id: PeerId, text: string): string | null {
    const refusal = this.at(id).node.propose(new TextEncoder().encode(text));
    this.settle();
    return refusal;
  }

  tick(id: PeerId, count: number): void {
    for (let i = 0; i < count; i++) {
      this.at(id).node.tick();
      this.settle();
    }
  }

  leaders(): PeerId[] {
    return this.members.filter(({ node }) => node.soft.role === "leader").map(({ id }) => id);
  }

  isolate(...ids: PeerId[]): void {
    const gone = new Set(ids);
    this.lose = (m) => gone.has(m.from) !== gone.has(m.to) || (gone.has(m.from) && m.from !== m.to);
  }

  heal(): void {
    this.lose = () => false;
  }
}
