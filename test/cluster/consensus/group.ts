/**
 * Several ConsensusDrivers in one process: real logs on disk, links in memory that a test can cut or use to say what no
 * honest peer would, and a main thread each that only writes down what it applies.
 */
import type { Command } from "../../../src/state/commands.ts";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { systemClock } from "../../../src/base/clock.ts";
import { RoostError } from "../../../src/base/errors.ts";
import { silentLogger } from "../../../src/base/log.ts";
import { seededRandom } from "../../../src/base/random.ts";
import { ConsensusDriver } from "../../../src/cluster/consensus/driver.ts";
import type { KeeperLink } from "../../../src/cluster/consensus/effects.ts";
import type { Acknowledgement } from "../../../src/model/heartbeat.ts";
import { encodeFrame, type PeerFrame } from "../../../src/cluster/consensus/frames.ts";
import { openLogFor } from "../../../src/cluster/consensus/open-log.ts";
import type {
  CommittedEntry,
  ConsensusConfig,
  ConsensusStatus,
  FromConsensus,
  MembershipChange,
  ToConsensus,
} from "../../../src/cluster/consensus/protocol.ts";
import { firstMembership, type Membership } from "../../../src/model/membership.ts";
import { LevelLog } from "../../../src/raft/storage/level.ts";
import type { CheckpointRequest, LinkEvents, Peer, WireChunk } from "../../../src/raft/transport/links.ts";
import { decodeEnvelope, encodeEnvelope } from "../../../src/state/codec.ts";
import type { Envelope } from "../../../src/state/commands.ts";
import { MemoryInbox } from "../../support/inbox.ts";

const decoder = new TextDecoder();
const encoder = new TextEncoder();

export class GroupPeer {
  readonly peer: Peer;
  readonly posted: FromConsensus[] = [];
  readonly fatal: unknown[] = [];
  /** Acknowledgements that reached this node's keeper. */
  readonly acks: Acknowledgement[] = [];
  /** Request ids in order of application. */
  applied: string[] = [];
  /** How many checkpoints were taken over. */
  installs = 0;
  /** A main thread that hands back nothing: batches wait until it is released. */
  stalled: (() => void)[] | null = null;
  /** The disk's writes end when this does; null: at once. */
  diskStuck: Promise<void> | null = null;
  readonly inbox = new MemoryInbox();
  readonly #frozen = new Map<string, string[]>();
  index = 1;
  term = 1;
  membership: Membership;
  status: ConsensusStatus | null = null;
  driver!: ConsensusDriver;
  log!: LevelLog;
  events: LinkEvents | null = null;
  readonly #group: Group;
  #beats = 0;

  constructor(group: Group, peer: Peer) {
    this.#group = group;
    this.peer = peer;
    this.membership =
      peer.peerId === 1 ? firstMembership(1) : { voters: [], outgoing: [], learners: [], learnersNext: [], autoLeave: false };
    if (peer.peerId !== 1) this.index = this.term = 0;
  }

  async open(first: boolean): Promise<void> {
    const { peerId, nodeId } = this.peer;
    const position = { index: this.index, term: this.term, membership: this.membership };
    this.log = await openLogFor({ peerId, position, bootstrap: first && peerId === 1 }, (options) =>
      LevelLog.open(join(this.#group.root, nodeId), options),
    );
    const config: ConsensusConfig = {
      nodeId,
      peerId,
      generation: 1,
      logPath: "",
      inboxPath: "",
      listen: "",
      address: "",
      identity: { ca: "", cert: "", key: "" },
      peers: this.#group.peers.map((one) => one.peer),
      bootstrap: first && peerId === 1,
      position,
      tickMs: 10,
      electionTicks: 10,
      heartbeatTicks: 1,
      seed: peerId,
      keeperDataDir: null,
      logLevel: "error",
    };
    const random = seededRandom(peerId);
    const keeper: KeeperLink = {
      beat: () => Promise.resolve({ bootId: "boot", nonce: nodeId, seq: ++this.#beats, claimRevision: 0 }),
      ack: async (ack) => void this.acks.push(ack),
    };
    const append = this.log.append.bind(this.log);
    // As a disk that does not answer: what was written is there, but nobody hears of it.
    this.log.append = async (write, sync) => {
      const written = append(write, sync);
      await this.diskStuck;
      await written;
    };
    this.driver = new ConsensusDriver(config, {
      log: silentLogger,
      clock: systemClock,
      raftLog: this.log,
      openLinks: (events) => {
        this.events = events;
        return Promise.resolve({
          send: (to, _lane, payload) => this.#group.deliver(this, to, payload),
          fetchCheckpoint: (from, request) => this.#group.fetch(this, from, request),
          setPeers: () => {},
          close: async () => void (this.events = null),
        });
      },
      inbox: this.inbox,
      keeper,
      random: (limit) => random.below(limit),
      post: (message) => queueMicrotask(() => this.#onPost(message)),
      fatal: (error) => void this.fatal.push(error),
    });
    await this.driver.start();
  }

  send(message: ToConsensus): void {
    this.driver.onMessage(message);
  }

  propose(requestId: string, origin = this.peer.nodeId): void {
    this.send({ kind: "propose", data: [envelope(requestId, origin)], applied: 0 });
  }

  /** Says something to another peer, through its own certificate, whatever it is. */
  say(to: GroupPeer, frame: PeerFrame | Uint8Array): void {
    to.events?.frame(this.peer, frame instanceof Uint8Array ? frame : encodeFrame(frame));
  }

  #onPost(message: FromConsensus): void {
    this.posted.push(message);
    if (message.kind === "status") this.status = message.status;
    else if (message.kind === "apply") this.#later(() => this.#apply(message.batch, message.entries));
    else if (message.kind === "install") this.#later(() => this.#install(message.path, message.index, message.term, message.membership));
    else if (message.kind === "need-durable")
      this.send({ kind: "durable", index: this.index, term: this.term, membership: this.membership });
    else if (message.kind === "need-checkpoint") {
      const id = `${this.peer.nodeId}-${this.index}`;
      this.#frozen.set(id, [...this.applied]);
      this.send({ kind: "checkpoint", id, index: this.index, term: this.term, membership: this.membership });
    } else if (message.kind === "read-checkpoint") this.#read(message.readId, message.id, message.chunk);
  }

  #later(run: () => void): void {
    if (this.stalled === null) run();
    else this.stalled.push(run);
  }

  release(): void {
    const held = this.stalled ?? [];
    this.stalled = null;
    for (const run of held) run();
  }

  #apply(batch: number, entries: readonly CommittedEntry[]): void {
    for (const entry of entries) {
      if (entry.index !== this.index + 1) this.fatal.push(new Error(`${this.peer.nodeId}: ${entry.index} after ${this.index}`));
      this.index = entry.index;
      this.term = entry.term;
      if (entry.membership !== null) this.membership = entry.membership;
      if (entry.data !== null) this.applied.push(decodeEnvelope(entry.data).requestId);
    }
    this.send({ kind: "applied", batch });
  }

  /** A chunk is a request id: one each, so that a transfer can be broken off between any two. */
  #read(readId: number, id: string, number: number): void {
    const applied = this.#frozen.get(id);
    if (applied === undefined) return this.send({ kind: "checkpoint-chunk", readId, chunk: null, error: "not held" });
    const text = (at: number): Uint8Array<ArrayBuffer> => encoder.encode(applied[at] ?? "");
    let crc = 0;
    for (let i = 0; i <= number; i++) crc = crc32(text(i), crc);
    const chunk = number < applied.length ? { bytes: text(number), crc } : null;
    this.send({ kind: "checkpoint-chunk", readId, chunk, error: null });
  }

  #install(path: string, index: number, term: number, membership: Membership): void {
    this.applied = (this.inbox.files.get(path) ?? []).map((chunk) => decoder.decode(chunk));
    Object.assign(this, { index, term, membership });
    this.installs += 1;
    this.send({ kind: "installed", index });
  }
}

export class Group {
  readonly peers: GroupPeer[] = [];
  readonly root: string;
  /** Pairs `from>to` whose frames are lost. */
  readonly cut = new Set<string>();
  drop: ((from: GroupPeer, to: GroupPeer, payload: Uint8Array) => boolean) | null = null;

  private constructor(root: string) {
    this.root = root;
  }

  /** n1 founds, the others are let in as learners and then as voters; `followers` more only follow. */
  static async create(count: number, followers = 0): Promise<Group> {
    const group = new Group(await mkdtemp(join(tmpdir(), "roost-drivers-")));
    for (let i = 1; i <= count + followers; i++) group.peers.push(new GroupPeer(group, { peerId: i, nodeId: `n${i}`, address: "" }));
    for (const peer of group.peers) await peer.open(true);
    await until(() => group.leader() !== undefined, "a leader");
    if (count > 1) {
      const others = group.peers.slice(1, count);
      await group.change(others.map(({ peer }) => ({ kind: "learner", peerId: peer.peerId })));
      await group.change(others.map(({ peer }) => ({ kind: "voter", peerId: peer.peerId })));
      await until(
        () => group.peers.every((peer) => peer.membership.voters.length === count && peer.membership.outgoing.length === 0),
        "all vote",
      );
    }
    return group;
  }

  leader(): GroupPeer | undefined {
    const leading = this.peers.filter((peer) => peer.events !== null && peer.status?.leading === true);
    return leading.toSorted((a, b) => (b.status?.term ?? 0) - (a.status?.term ?? 0))[0];
  }

  /** Proposed again until it holds: a change may be refused while the one before is not applied. */
  async change(changes: MembershipChange[]): Promise<void> {
    const has = (): boolean => {
      const { voters = [], outgoing = [], learners = [] } = this.leader()?.membership ?? {};
      const holds = ({ kind, peerId }: MembershipChange): boolean =>
        kind === "remove" ? ![...voters, ...learners].includes(peerId) : (kind === "voter" ? voters : learners).includes(peerId);
      return outgoing.length === 0 && changes.every(holds);
    };
    while (!has()) {
      this.leader()?.send({ kind: "change-membership", changes });
      await until(has, "the membership", 100).catch(() => {});
    }
  }

  deliver(from: GroupPeer, to: number, payload: Uint8Array): boolean {
    const target = this.peers.find((peer) => peer.peer.peerId === to);
    if (
      target === undefined ||
      target.events === null ||
      this.cut.has(`${from.peer.peerId}>${to}`) ||
      this.drop?.(from, target, payload) === true
    )
      return false;
    const bytes = payload.slice();
    setImmediate(() => target.events?.frame(from.peer, bytes));
    return true;
  }

  /** Chunks served from `offset` on, before which the link broke. */
  readonly fetches: { by: string; fromChunk: number }[] = [];
  /** The link breaks after so many chunks; null: never. */
  breakAfter: number | null = null;

  async *fetch(by: GroupPeer, from: number, request: CheckpointRequest): AsyncGenerator<WireChunk> {
    this.fetches.push({ by: by.peer.nodeId, fromChunk: request.fromChunk });
    const source = this.peers.find((peer) => peer.peer.peerId === from);
    let sent = 0;
    for await (const chunk of source?.events?.checkpoint(by.peer.nodeId, request) ?? []) {
      if (this.cut.has(`${from}>${by.peer.peerId}`)) throw new RoostError({ kind: "unavailable", reason: "cut" });
      if (this.breakAfter !== null && sent++ >= this.breakAfter) throw new RoostError({ kind: "unavailable", reason: "broken" });
      yield chunk;
    }
  }

  isolate(peer: GroupPeer, isolated: boolean): void {
    for (const other of this.peers) {
      for (const pair of [`${peer.peer.peerId}>${other.peer.peerId}`, `${other.peer.peerId}>${peer.peer.peerId}`]) {
        if (isolated) this.cut.add(pair);
        else this.cut.delete(pair);
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.peers.map((peer) => peer.driver.stop()));
    await rm(this.root, { recursive: true, force: true });
  }
}

export function envelope(requestId: string, origin: string, command: Command = { type: "vm.retry", vmId: "none" }): Uint8Array {
  const whole: Envelope = { requestId, origin, atMs: 0, actor: "", term: 0, command };
  return encodeEnvelope(whole);
}

/** Looks again as time goes by; the limit is only there to end a test that hangs. */
export async function until(condition: () => boolean, what: string, limitMs = 15_000): Promise<void> {
  const endMs = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > endMs) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}
