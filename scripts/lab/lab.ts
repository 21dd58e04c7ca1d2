/**
 * N nodes on one machine, for tests and for people. `Lab.up` makes them, `Lab.open` finds them again from another process,
 * `down` leaves nothing. Records lie in BASE/lab.json.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { RoostError } from "../../src/base/errors.ts";
import type { Ground, LabPlace } from "./ground.ts";
import { LoopbackGround } from "./loopback.ts";
import { NamespaceGround, namespacesRefused } from "./namespaces.ts";
import { freeSubnet } from "./network.ts";
import { LabNode } from "./node.ts";
import type { Progress } from "./places.ts";

export { waitFor } from "./wait.ts";
export { LabNode } from "./node.ts";

export interface LabOptions {
  /** Default 3. */
  nodes?: number;
  /** Folder for all of the lab's files; must be new, empty, or a lab's. Default /tmp/roost-lab. */
  base?: string;
  /** First three numbers of the nodes' /24 network; default: one under 10.78 that this machine does not use. */
  subnet?: string;
  /** Take down a lab that is there already; else that is an error. */
  replace?: boolean;
  /** Added to each agent's command line. */
  agentArgs?: string[];
  /** Default: `namespaces` where they may be made, else `loopback`. */
  ground?: "namespaces" | "loopback";
  progress?: Progress;
}

interface LabRecord {
  version: 1;
  ground: "namespaces" | "loopback";
  subnet: string;
  agentArgs: string[];
  places: LabPlace[];
}

export const DEFAULT_BASE = "/tmp/roost-lab";
const MAX_NODES = 20;
/** Unix socket addresses hold 107 bytes; the longest below the base is nN/data/run/NAME.sock. */
const BASE_MAX_BYTES = 70;

export class Lab {
  readonly base: string;
  readonly nodes: readonly LabNode[];
  readonly #ground: Ground;
  readonly #record: LabRecord;

  private constructor(base: string, record: LabRecord) {
    this.base = base;
    this.#record = record;
    this.#ground = record.ground === "namespaces" ? new NamespaceGround(base, record.subnet) : new LoopbackGround();
    this.nodes = record.places.map((place) => new LabNode(place, this.#ground, record.agentArgs));
  }

  /** Makes a lab and powers all nodes on; libvirtd answers in each when it ends. What a failure leaves, is taken away. */
  static async up(options: LabOptions = {}): Promise<Lab> {
    const base = resolve(options.base ?? DEFAULT_BASE);
    const count = options.nodes ?? 3;
    const progress = options.progress ?? (() => {});
    if (!Number.isInteger(count) || count < 1 || count > MAX_NODES)
      throw new RoostError({ kind: "precondition", reason: `a lab has 1 to ${MAX_NODES} nodes, not ${count}` });
    if (Buffer.byteLength(base) > BASE_MAX_BYTES)
      throw new RoostError({
        kind: "precondition",
        reason: `the base folder's path ${base} is too long for unix sockets below it (${BASE_MAX_BYTES} bytes at most)`,
      });
    if (options.subnet !== undefined && !/^\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(options.subnet))
      throw new RoostError({ kind: "precondition", reason: `a subnet is three numbers such as 10.78.0, not ${options.subnet}` });

    if (existsSync(join(base, "lab.json"))) {
      if (options.replace !== true)
        throw new RoostError(
          { kind: "precondition", reason: `a lab is there already in ${base}` },
          `Take it down first: npm run lab -- down --base ${base}`,
        );
      progress("lab: taking down the one that is there");
      await Lab.downAt(base);
    } else if (existsSync(base) && (await readdir(base)).length > 0) {
      throw new RoostError(
        { kind: "precondition", reason: `${base} holds files that are not a lab's` },
        "Name another folder with --base.",
      );
    }

    const refused = options.ground === "loopback" ? "asked for" : await namespacesRefused();
    if (refused !== null && options.ground === "namespaces")
      throw new RoostError({ kind: "precondition", reason: `no namespaces for a lab: ${refused}` });
    if (refused !== null) progress(`lab: on loopback with simulated VMs, without guardian and without networks to cut (${refused})`);
    const ground = refused === null ? "namespaces" : "loopback";
    const subnet = options.subnet ?? freeSubnet(base);
    const places: LabPlace[] = [];
    for (let index = 1; index <= count; index += 1) {
      const dir = join(base, `n${index}`);
      const address =
        ground === "namespaces" ? { ip: `${subnet}.${index}`, port: null } : { ip: "127.0.0.1", port: loopbackPort(base, index) };
      places.push({ index, name: `n${index}`, dir, dataDir: join(dir, "data"), ...address });
    }
    const record: LabRecord = { version: 1, ground, subnet, agentArgs: options.agentArgs ?? [], places };
    // For root alone: keys and guests lie below.
    await mkdir(base, { recursive: true, mode: 0o700 });
    await mkdir(join(base, "shared"), { recursive: true });
    for (const place of places) for (const folder of ["data/run", "log"]) await mkdir(join(place.dir, folder), { recursive: true });
    // Before anything is made: a lab that is broken off can be taken down by its records.
    await writeFile(join(base, "lab.json"), `${JSON.stringify(record, null, 2)}\n`);
    const lab = new Lab(base, record);
    try {
      await lab.#ground.lay(places);
      // The first alone: it may have to find out about this machine's QEMU, which the others then know from it.
      const [first, ...others] = lab.nodes;
      await first?.powerOn();
      progress(`lab: ${first?.name} is on`);
      await Promise.all(others.map((node) => node.powerOn().then(() => progress(`lab: ${node.name} is on`))));
      return lab;
    } catch (error) {
      await lab.down().catch(() => {});
      throw error;
    }
  }

  /** The lab whose files lie in `base`. */
  static async open(base: string = DEFAULT_BASE): Promise<Lab> {
    const folder = resolve(base);
    let text: string;
    try {
      text = await readFile(join(folder, "lab.json"), "utf8");
    } catch {
      throw new RoostError({ kind: "not-found", what: "lab", name: folder }, "Make one with: npm run lab -- up");
    }
    return new Lab(folder, JSON.parse(text) as LabRecord);
  }

  /** Takes a lab down if there is one; false if there was none. */
  static async downAt(base: string = DEFAULT_BASE): Promise<boolean> {
    const lab = await Lab.open(base).catch(() => null);
    await lab?.down();
    return lab !== null;
  }

  get ground(): "namespaces" | "loopback" {
    return this.#record.ground;
  }
  get subnet(): string {
    return this.#record.subnet;
  }
  /** A folder that is the same on all nodes. */
  get sharedDir(): string {
    return join(this.base, "shared");
  }
  /** Where `formCluster` puts the context file for the CLI. */
  get contextPath(): string {
    return join(this.base, "context.yaml");
  }

  /** A node by number (from 1) or name. */
  node(which: number | string): LabNode {
    const node = this.nodes.find((one) => one.place.index === which || one.name === which);
    if (node === undefined)
      throw new RoostError(
        { kind: "not-found", what: "node of the lab", name: String(which) },
        `There are ${this.nodes.map((one) => one.name).join(", ")}.`,
      );
    return node;
  }

  /** Which nodes run QEMU for this domain or VM id now; more than one is the disaster that all of this is about. */
  nodesRunning(domainOrUuid: string): LabNode[] {
    return this.nodes.filter((node) => node.qemuProcesses().some((qemu) => qemu.uuid === domainOrUuid || qemu.domain === domainOrUuid));
  }

  /** Ends everything and removes it: processes, namespaces, networks, files. */
  async down(): Promise<void> {
    await this.#ground.raze(this.#record.places);
    await rm(this.base, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** One address for all nodes, so each has two ports (API, and peers after it), from a range that depends on the base folder. */
function loopbackPort(base: string, index: number): number {
  let sum = 0;
  for (const byte of Buffer.from(base)) sum = (sum * 31 + byte) % 500;
  return 20_000 + sum * 2 * (MAX_NODES + 1) + index * 2;
}
