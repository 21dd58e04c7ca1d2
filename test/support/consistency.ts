/**
 * Real clients over gRPC against a lab's cluster while its nodes are killed, cut off, slowed down, paused and their disks filled;
 * what they were told is judged by the checker of linearizable.ts.
 */
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse } from "yaml";
import { answering, formCluster, roostOn } from "../../scripts/lab/cluster.ts";
import { Lab, type LabNode } from "../../scripts/lab/lab.ts";
import { RoostError } from "../../src/base/errors.ts";
import { type Random, seededRandom } from "../../src/base/random.ts";
import { createClient, type RpcClient } from "../../src/base/rpc-client.ts";
import { checkLinearizable, type Operation, REGISTER, type RegisterInput, type RegisterOutput, type Verdict } from "./linearizable.ts";

export interface ConsistencyOptions {
  seed: number;
  seconds: number;
  /** Without: nothing is broken. */
  faults: boolean;
  /** Reads whatever a node has and calls it linearizable: the checker must see it. */
  staleReads: boolean;
  say(line: string): void;
}

export interface ConsistencyResult {
  verdict: Verdict<RegisterInput, RegisterOutput>;
  done: number;
  unknown: number;
  faults: string[];
}

type Op = { -readonly [K in keyof Operation<RegisterInput, RegisterOutput>]: Operation<RegisterInput, RegisterOutput>[K] };

const CLIENTS = 8;
const KEYS = 6;
/** A key is used for this long: histories that are too long take too long to judge. */
const KEY_MS = 8_000;
const CALL_MS = 1_500;
const ATTEMPTS = 4;
/** Of the file system that holds a node's data folder, so that it can be filled. */
const DATA_MIB = 192;

/** A cluster whose nodes' data folders are small file systems of their own, with roost.v1.Bench switched on. */
export async function consistencyLab(base: string, nodes: number): Promise<Lab> {
  const lab = await Lab.up({ base, nodes });
  await Promise.all(
    lab.nodes.map((node) =>
      node.must(`mount -t tmpfs -o size=${DATA_MIB}m,mode=700 data ${node.dataDir} && mkdir -m 700 ${node.dataDir}/run`),
    ),
  );
  await formCluster(lab);
  await roostOn(lab.node(1), ["settings", "set", "bench.enabled", "true"]);
  return lab;
}

export async function runConsistency(lab: Lab, options: ConsistencyOptions): Promise<ConsistencyResult> {
  const { ca, cert, key, endpoints } = parse(await readFile(lab.contextPath, "utf8")) as {
    endpoints: string[];
    ca: string;
    cert: string;
    key: string;
  };
  const random = seededRandom(options.seed);
  const history: Op[] = [];
  const began = performance.now();
  const over = (): boolean => performance.now() - began > options.seconds * 1_000;
  // Each its own connections: one that hangs must not hold up the others.
  const clients = Array.from({ length: CLIENTS }, (_, number) =>
    new Client(number, seededRandom(options.seed * 100 + number), {
      endpoints: endpoints.map((endpoint) => createClient({ endpoints: [endpoint], tls: { ca, cert, key }, connectMs: 500 })),
      stale: options.staleReads,
      began,
      history,
    }).run(over),
  );
  const faults: string[] = [];
  if (options.faults)
    await breakThings(lab, random, over, (what) => {
      faults.push(what);
      options.say(`${((performance.now() - began) / 1_000).toFixed(1).padStart(6)} s  ${what}`);
    });
  await Promise.all(clients);
  const observed = new Set(history.map(({ ended }) => ended?.output));
  // A write that nobody knows the end of and nobody saw may as well never have been.
  const relevant = history.filter(({ input, ended }) => ended !== null || (input.kind === "put" && observed.has(input.value)));
  return {
    verdict: checkLinearizable(REGISTER, relevant),
    done: history.filter(({ ended }) => ended !== null).length,
    unknown: history.filter(({ ended }) => ended === null).length,
    faults,
  };
}

class Client {
  readonly #number: number;
  readonly #random: Random;
  readonly #with: { endpoints: RpcClient[]; stale: boolean; began: number; history: Op[] };

  constructor(number: number, random: Random, using: { endpoints: RpcClient[]; stale: boolean; began: number; history: Op[] }) {
    this.#number = number;
    this.#random = random;
    this.#with = using;
  }

  async run(over: () => boolean): Promise<void> {
    while (!over()) {
      await sleep(this.#random.below(20));
      await (this.#random.below(2) === 0 ? this.#put() : this.#get());
    }
    for (const endpoint of this.#with.endpoints) endpoint.close();
  }

  async #put(): Promise<void> {
    const value = randomUUID();
    const operation = this.#begin({ kind: "put", value });
    // The same for every attempt: however often it arrives, it happens once.
    const requestId = `${value}@${Date.now()}`;
    const { key } = operation;
    for (let tries = 0; tries < ATTEMPTS; tries++) {
      const put = (): Promise<unknown> =>
        this.#any().call("Bench", "Put", { key, value: Buffer.from(value), requestId }, { timeoutMs: CALL_MS });
      if (await answered(put())) return this.#end(operation, true);
    }
  }

  async #get(): Promise<void> {
    const operation = this.#begin({ kind: "get" });
    let seen: string | null = null;
    const get = async (): Promise<void> => {
      const { found, value } = await this.#any().call(
        "Bench",
        "Get",
        { key: operation.key, stale: this.#with.stale },
        { timeoutMs: CALL_MS },
      );
      seen = found === true ? Buffer.from(value ?? []).toString() : null;
    };
    if (await answered(get())) this.#end(operation, seen);
  }

  #begin(input: RegisterInput): Op {
    const calledMs = performance.now() - this.#with.began;
    const key = `k${this.#random.below(KEYS)}.${Math.floor(calledMs / KEY_MS)}.${Math.floor(this.#with.began)}`;
    const operation: Op = { key, client: this.#number, input, calledMs, ended: null };
    this.#with.history.push(operation);
    return operation;
  }

  #end(operation: Op, output: RegisterOutput): void {
    operation.ended = { atMs: performance.now() - this.#with.began, output };
  }

  #any(): RpcClient {
    const { endpoints } = this.#with;
    return endpoints[this.#random.below(endpoints.length)]!;
  }
}

/** False: nobody knows. Anything but the ways in which a cluster under faults may fail is a bug. */
async function answered(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (thrown) {
    if (!(thrown instanceof RoostError) || !["unavailable", "timeout", "internal"].includes(thrown.fault.kind)) throw thrown;
    return false;
  }
}

/** One fault after the other, a minority of the nodes at once, each mended after a while; all is whole when it ends. */
async function breakThings(lab: Lab, random: Random, over: () => boolean, say: (what: string) => void): Promise<void> {
  const atOnce = Math.floor((lab.nodes.length - 1) / 2);
  const deck: Fault[] = [];
  // Each kind once before any comes again.
  const next = (): Fault => {
    if (deck.length === 0) deck.push(...FAULTS);
    return deck.splice(random.below(deck.length), 1)[0]!;
  };
  const worker = async (nodes: LabNode[]): Promise<void> => {
    while (!over()) {
      await sleep(300 + random.below(1_200));
      const node = nodes[random.below(nodes.length)]!;
      const forMs = 300 + random.below(3_500);
      await next()(node, forMs, (what) => say(`${node.name} ${what}`));
    }
  };
  // Each has nodes of its own, so that two never meet on one.
  await Promise.all(Array.from({ length: atOnce }, (_, i) => worker(lab.nodes.filter((_, at) => at % atOnce === i))));
  await Promise.all(lab.nodes.map((node) => answering(node)));
}

type Fault = (node: LabNode, forMs: number, say: (what: string) => void) => Promise<void>;

const cut =
  (direction: "in" | "out" | "both"): Fault =>
  async (node, forMs, say) => {
    say({ in: "hears nobody", out: "reaches nobody", both: "is cut off" }[direction] + ` for ${forMs} ms`);
    await node.cut(direction);
    await sleep(forMs);
    await node.heal();
  };

const FAULTS: readonly Fault[] = [
  cut("both"),
  cut("in"),
  cut("out"),
  async (node, forMs, say) => {
    say(`is killed for ${forMs} ms`);
    await node.kill("agent");
    await sleep(forMs);
    await node.startAgent();
  },
  async (node, forMs, say) => {
    say(`stands still for ${forMs} ms`);
    await node.pause("agent");
    await sleep(forMs);
    await node.resume("agent");
  },
  async (node, forMs, say) => {
    say(`has a slow link for ${forMs} ms`);
    await node.must("tc qdisc replace dev eth0 root tbf rate 400kbit burst 8k latency 400ms");
    await sleep(forMs);
    await node.must("tc qdisc del dev eth0 root");
  },
  async (node, forMs, say) => {
    say(`has a full disk for ${forMs} ms`);
    const file = join(node.dataDir, "filled");
    await node.exec(
      `dd if=/dev/zero of=${file} bs=1M 2>/dev/null; dd if=/dev/zero of=${file} bs=1 oflag=append conv=notrunc count=4096 2>/dev/null`,
    );
    await sleep(forMs);
    await node.must(`rm -f ${file}`);
    // Its log could not be written: the agent has ended itself, and does not come back by itself here.
    if (node.processes("agent").length === 0) await node.startAgent();
  },
];
