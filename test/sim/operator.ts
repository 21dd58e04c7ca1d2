/** What operators do to the cluster meanwhile: nodes join, are removed for good, and who shall vote is set. */
import type { Random } from "../../src/base/random.ts";
import type { Command } from "../../src/state/commands.ts";
import type { State } from "../../src/state/state.ts";
import { Violation } from "./checks.ts";
import type { Clients } from "./clients.ts";
import { helloOf, joiningNode, peerOf, TOKEN } from "./founding.ts";
import type { SimNode } from "./node.ts";
import type { EventQueue } from "./queue.ts";
import type { Trace } from "./trace.ts";

export interface OperatorWorld {
  readonly queue: EventQueue;
  readonly random: Random;
  readonly trace: Trace;
  readonly nodes: readonly SimNode[];
  someNode(): SimNode | null;
  add(number: number): SimNode;
  fail(violation: unknown): void;
}

export class Operator {
  /** Members for good, or that were. */
  readonly settled = new Set<SimNode>();
  /** One a run goes for good; and whether that is done. */
  leaving: { node: SimNode; done: boolean } | null = null;
  /** In such a run no disk is damaged: of those who are left, no majority may be lost. */
  readonly removes: boolean;
  joined = 0;
  removed = 0;
  readonly #world: OperatorWorld;
  readonly #clients: Clients;
  /** Its own, so that the same faults come with and without it. */
  readonly #random: Random;
  readonly #quiet: boolean;

  constructor(world: OperatorWorld, clients: Clients, options: { random: Random; quiet: boolean }) {
    this.#world = world;
    this.#clients = clients;
    this.#random = options.random;
    this.#quiet = options.quiet;
    this.removes = !this.#quiet && this.#random.below(5) === 0;
  }

  start(voters: number, forMs: number): void {
    const { random: chance } = this.#world;
    const joiners = chance.below(3) === 0 ? 1 + chance.below(2) : 0;
    for (let i = 1; i <= joiners; i++) this.#later(chance.below(forMs / 2), () => this.#join(voters + i));
    if (this.#quiet) return;
    const random = this.#random;
    // With fewer voters than nodes the others follow.
    if (random.below(3) === 0) this.#later(random.below(forMs / 2), () => this.#set("raft.voters", voters === 5 ? 3 : voters));
    if (random.below(3) === 0) this.#later(random.below(forMs / 2), () => this.#set("raft.replaceVoterMs", 1_000 + random.below(4_000)));
    if (this.removes) this.#later(random.below(forMs), () => this.#remove());
  }

  #later(delayMs: number, work: () => Promise<void>): void {
    this.#world.queue.after(delayMs, () => void work().catch((thrown: unknown) => this.#world.fail(thrown)));
  }

  /** Until it is decided; the state of the node that said so. */
  async #command(text: string, command: Command, only: SimNode | null = null): Promise<State> {
    const requestId = this.#clients.requestId(text);
    for (;;) {
      const node = only ?? this.#world.someNode();
      const answer = await this.#clients.call(node, (replica) => replica.propose(command, { actor: "sim", requestId, timeoutMs: 3_000 }));
      if (answer !== null && "value" in answer && node !== null && node.replica !== null) return node.replica.view() as State;
      // A node that was removed says so to whoever asks it.
      if (answer !== null && "fault" in answer && answer.fault.kind !== "unavailable" && node !== this.leaving?.node)
        throw new Violation(`${text}: ${JSON.stringify(answer.fault)}`);
      await this.#clients.sleep(200);
    }
  }

  async #set(key: "raft.voters" | "raft.replaceVoterMs", value: number): Promise<void> {
    this.#world.trace.add(`${key} shall be ${value}`);
    await this.#command(`set ${key}`, { type: "setting.update", key, value: `${value}` });
  }

  /** A new node comes as `roost join` does it, each step until it is done. */
  async #join(number: number): Promise<void> {
    const { trace } = this.#world;
    const peer = peerOf(number);
    const view = await this.#command(`join ${number}`, {
      type: "node.join",
      tokenId: TOKEN.id,
      secretHash: TOKEN.secretHash,
      node: { ...joiningNode(peer), witness: this.#random.below(4) === 0 },
    });
    const minted = view.nodes.get(peer.nodeId)!.peerId;
    const node = this.#world.add(minted);
    node.peer.nodeId = peer.nodeId;
    node.peer.address = peer.address;
    node.peers = [...view.nodes.values()].map((one) => ({ peerId: one.peerId, nodeId: one.id, address: one.peerAddress }));
    trace.add(`${minted} joins`);
    node.start();
    await this.#command(`confirm ${number}`, { type: "node.join-confirm", nodeId: peer.nodeId });
    await this.#command(`hello ${number}`, helloOf(peer), node);
    this.joined++;
    this.settled.add(node);
  }

  /** As `roost node remove` does it, again and again until it is done: a node that does not answer just now is refused. */
  async #remove(): Promise<void> {
    const { trace, nodes } = this.#world;
    const settled = [...this.settled];
    if (settled.length < 2) return;
    const node = settled[this.#random.below(settled.length)]!;
    const { nodeId, peerId } = node.peer;
    const leaving: { node: SimNode; done: boolean } = (this.leaving = { node, done: false });
    trace.add(`${peerId} shall be removed`);
    const knows = (one: SimNode): boolean => one !== node && one.serving && one.replica?.view().nodes.get(nodeId)?.state === "removed";
    for (let i = 1; !nodes.some(knows); i++) {
      const requestId = this.#clients.requestId(`remove ${peerId} ${i}`);
      const command: Command = { type: "node.remove", nodeId, dead: false, proof: null };
      const asked = this.#world.someNode();
      await this.#clients.call(asked, (replica) => replica.propose(command, { actor: "sim", requestId, timeoutMs: 3_000 }));
      await this.#clients.sleep(200);
    }
    trace.add(`${peerId} is removed`);
    this.removed++;
    leaving.done = true;
  }

  /** Resolves when the node that was removed says to its callers what became of it. */
  async gone(node: SimNode): Promise<void> {
    while (this.leaving?.done !== true) await this.#clients.sleep(100);
    for (;;) {
      const answer = await this.#clients.call(node, (replica) => replica.read({ timeoutMs: 3_000 }));
      if (answer !== null && "fault" in answer && answer.fault.kind === "precondition") return;
      await this.#clients.sleep(100);
    }
  }
}
