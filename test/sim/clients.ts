/**
 * Clients of the cluster: each does one thing after the other at random nodes, gives up waiting, asks elsewhere under the same
 * request id, and writes down what it was told.
 */
import { type Fault, RoostError } from "../../src/base/errors.ts";
import type { Random } from "../../src/base/random.ts";
import type { Replica } from "../../src/cluster/replica.ts";
import type { Command } from "../../src/state/commands.ts";
import type { CommandResult } from "../../src/state/outcome.ts";
import type { State } from "../../src/state/state.ts";
import type { Operation, RegisterInput, RegisterOutput } from "../support/linearizable.ts";
import { Violation } from "./checks.ts";
import { type Invariants, valueOf } from "./invariants.ts";
import type { SimNode } from "./node.ts";
import type { EventQueue } from "./queue.ts";
import type { Trace } from "./trace.ts";

export interface ClientWorld {
  readonly queue: EventQueue;
  readonly random: Random;
  readonly trace: Trace;
  readonly invariants: Invariants;
  /** One that serves, or none. */
  someNode(): SimNode | null;
  /** When it last heard anybody. */
  heardMs(node: SimNode): number;
  fail(violation: unknown): void;
}

/** null: nobody knows what came of it. */
type Answer<T> = { value: T } | { fault: Fault } | null;

const REGISTERS = ["a", "b", "c"];
const POOLS = ["pool x", "pool y"];
const CALL_MS = 2_000;
const ATTEMPTS = 4;
/** How a read is made; mutations make it another way. */
export type Reader = (replica: Replica, timeoutMs: number) => Promise<State>;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

export class Clients {
  /** Each from its call on: what is under way when the run ends may have taken effect. */
  readonly history: Writable<Operation<RegisterInput, RegisterOutput>>[] = [];
  done = 0;
  unknown = 0;
  readonly #world: ClientWorld;
  readonly #read: Reader;
  readonly #thinkMs: number;
  #stopped = false;
  #values = 0;
  #requests = 0;
  #past: { requestId: string; command: Command; told: string }[] = [];

  constructor(world: ClientWorld, options: { thinkMs: number; read: Reader }) {
    this.#world = world;
    this.#thinkMs = options.thinkMs;
    this.#read = options.read;
  }

  start(count: number): void {
    for (let client = 1; client <= count; client++) this.#run(client).catch((thrown: unknown) => this.#world.fail(thrown));
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(client: number): Promise<void> {
    const { random } = this.#world;
    for (;;) {
      await this.sleep(random.below(2 * this.#thinkMs));
      if (this.#stopped) return;
      const dice = random.below(100);
      if (dice < 40) await this.#write(client, this.#pick(REGISTERS), "put");
      else if (dice < 48) await this.#write(client, this.#pick(POOLS), "make");
      else if (dice < 55) await this.#write(client, this.#pick(POOLS), "clear");
      else if (dice < 88) await this.#get(client, this.#pick([...REGISTERS, ...POOLS]));
      else if (dice < 96) this.#staleRead(this.#pick([...REGISTERS, ...POOLS]));
      else await this.#repeat(client);
    }
  }

  async #write(client: number, key: string, kind: "put" | "make" | "clear"): Promise<void> {
    const value = `v${++this.#values}`;
    const command = commandOf(key, kind, value);
    const input: RegisterInput = kind === "clear" ? { kind } : { kind, value };
    const requestId = this.requestId(`request ${++this.#requests}`);
    const { random } = this.#world;
    // Some send it twice at once, to two nodes: it must happen once.
    const twice = random.below(20) === 0;
    await this.#operation(client, key, input, () => {
      const propose = (node: SimNode | null): Promise<Answer<CommandResult>> => this.#propose(node, requestId, command);
      if (twice) void propose(this.#world.someNode());
      return async (node) => {
        const answer = await propose(node);
        if (answer === null || (!("value" in answer) && !decided(answer.fault))) return null;
        this.#past = [...this.#past.slice(-50), { requestId, command, told: JSON.stringify(answer) }];
        return "value" in answer;
      };
    });
  }

  async #get(client: number, key: string): Promise<void> {
    await this.#operation(client, key, { kind: "get" }, () => async (node) => {
      let seen: string | null = null;
      const answer = await this.call(node, async (replica) => {
        // Read in the same turn: tables go on.
        seen = valueOf(await this.#read(replica, CALL_MS), key);
      });
      return answer !== null && "value" in answer ? seen : undefined;
    });
  }

  /** Asked again long after, the first answer comes again (STA-2). */
  async #repeat(client: number): Promise<void> {
    const past = this.#past[this.#world.random.below(Math.max(1, this.#past.length))];
    if (past === undefined) return;
    const answer = await this.#propose(this.#world.someNode(), past.requestId, past.command);
    if (answer === null || (!("value" in answer) && !decided(answer.fault))) return;
    const told = JSON.stringify(answer);
    this.#world.trace.add(`client ${client} repeats ${past.requestId}: ${told}`);
    if (told !== past.told) throw new Violation(`exactly once: ${past.requestId} answered ${past.told}, and repeated ${told}`);
  }

  #staleRead(key: string): void {
    const node = this.#world.someNode();
    node?.main?.run(() => {
      try {
        if (node.serving) this.#world.invariants.staleRead(node, key, this.#world.queue.now - this.#world.heardMs(node));
      } catch (thrown) {
        this.#world.fail(thrown);
      }
    });
  }

  /** @param begin gives the way to try at one node: its output, or null (undefined for a get) if nobody knows. */
  async #operation(
    client: number,
    key: string,
    input: RegisterInput,
    begin: () => (node: SimNode | null) => Promise<RegisterOutput | null | undefined>,
  ): Promise<void> {
    const { queue, random, trace } = this.#world;
    const unknown = input.kind === "get" ? undefined : null;
    const text = `client ${client} ${input.kind} ${key}${"value" in input ? ` ${input.value}` : ""}`;
    const operation: Writable<Operation<RegisterInput, RegisterOutput>> = { key, client, input, calledMs: queue.now, ended: null };
    this.history.push(operation);
    const attempt = begin();
    for (let tries = 1; tries <= ATTEMPTS && !this.#stopped; tries++) {
      const node = this.#world.someNode();
      trace.add(`${text} at node ${node?.peer.peerId ?? "none"}`);
      const output = await attempt(node);
      if (output !== unknown) {
        this.done++;
        trace.add(`${text}: ${String(output)}`);
        operation.ended = { atMs: queue.now, output: output as RegisterOutput };
        return;
      }
      await this.sleep(random.below(300));
    }
    this.unknown++;
    trace.add(`${text}: unknown`);
  }

  async #propose(node: SimNode | null, requestId: string, command: Command): Promise<Answer<CommandResult>> {
    const answer = await this.call(node, (replica) => replica.propose(command, { actor: "sim", requestId, timeoutMs: CALL_MS }));
    if (answer !== null && "value" in answer && node !== null && node.replica !== null)
      this.#world.invariants.acknowledged(node, requestId);
    return answer;
  }

  /** Runs on the node's main thread; a node that ends never answers, so the caller waits a while only. */
  call<T>(node: SimNode | null, run: (replica: Replica) => Promise<T>): Promise<Answer<T>> {
    const { queue } = this.#world;
    if (node === null || node.main === null) return this.sleep(50).then(() => null);
    const { main, life } = node;
    return new Promise((resolve, reject) => {
      queue.after(CALL_MS + 2_000, () => resolve(null));
      main.run(() => {
        const { replica } = node;
        if (replica === null) return;
        run(replica).then(
          (value) => {
            if (node.life === life) resolve({ value });
          },
          (thrown: unknown) => {
            if (node.life !== life) return;
            if (thrown instanceof RoostError) resolve({ fault: thrown.fault });
            else reject(thrown);
          },
        );
      });
    });
  }

  /** Says when it was made, as a caller's must. */
  requestId(text: string): string {
    return `${text}@${Math.floor(1_800_000_000_000 + this.#world.queue.now)}`;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#world.queue.after(ms, resolve));
  }

  #pick<T>(of: readonly T[]): T {
    return of[this.#world.random.below(of.length)]!;
  }
}

/** A refusal by the applied command itself; anything else says nothing about what will come of it. */
function decided(fault: Fault): boolean {
  return fault.kind === "exists" || fault.kind === "not-found";
}

function commandOf(key: string, kind: "put" | "make" | "clear", value: string): Command {
  const name = key.slice(5);
  if (kind === "put") return { type: "bench.put", key, value };
  if (kind === "make") return { type: "pool.create", pool: { id: value, name, kind: "dir", path: `/${value}`, shared: false } };
  return { type: "pool.delete", name };
}
