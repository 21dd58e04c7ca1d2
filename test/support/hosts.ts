/** Nodes as processes of their own on loopback, without namespaces: what survives kill -9 is what is on disk. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { roostCommand } from "../../scripts/lab/agent.ts";

const START_LIMIT_MS = 60_000;

export interface Ran {
  code: number;
  out: string;
  err: string;
}

export class Hosts {
  readonly root: string;
  readonly all: Host[] = [];

  private constructor(root: string) {
    this.root = root;
  }

  static async create(): Promise<Hosts> {
    return new Hosts(await mkdtemp(join(tmpdir(), "roost-hosts-")));
  }

  /** A host with a free pair of ports; nothing runs there yet. `program`: another roost than these sources. */
  async add(name: string, program?: readonly string[]): Promise<Host> {
    const host = new Host(name, join(this.root, name), await freePair(), program ?? roostCommand());
    this.all.push(host);
    return host;
  }

  /** A cluster of so many; n1 founds it. */
  async form(count: number): Promise<Host[]> {
    const first = await this.add("n1");
    await first.up();
    for (let i = 2; i <= count; i++) await (await this.add(`n${i}`)).join(first);
    return this.all;
  }

  async close(): Promise<void> {
    for (const host of this.all) await host.kill();
    // Keepers outlive their agents, that is their use; they work in folders of this test only.
    for (const pid of await readdir("/proc")) {
      if (!/^\d+$/.test(pid)) continue;
      const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
      const exe = await readlink(`/proc/${pid}/exe`).catch(() => "");
      if (words.includes("keeper") && words.some((word) => word.startsWith(`${this.root}/`)) && exe !== "")
        process.kill(Number(pid), "SIGKILL");
    }
    await rm(this.root, { recursive: true, force: true, maxRetries: 5 });
  }
}

export class Host {
  readonly name: string;
  readonly data: string;
  readonly api: string;
  readonly #listen: number;
  program: readonly string[];
  #process: ChildProcess | null = null;
  /** What its agent has logged. */
  log = "";

  constructor(name: string, data: string, port: number, program: readonly string[]) {
    this.name = name;
    this.data = data;
    this.#listen = port;
    this.api = `127.0.0.1:${port}`;
    this.program = program;
  }

  /** `flags`: further ones of `roost up`. */
  async up(...flags: string[]): Promise<void> {
    await this.#start(["up", ...this.#place(), ...flags]);
  }

  async join(at: Host, ...flags: string[]): Promise<void> {
    const token = (await at.must("token", "create")).trim();
    await this.#start(["join", token, ...this.#place(), ...flags]);
    await this.until("ready", async () => {
      const nodes = JSON.parse(await this.must("--stale", "node", "list", "-o", "json")) as { name: string; state: string }[];
      return nodes.find((node) => node.name === this.name)?.state === "ready";
    });
  }

  /** Resolves with the exit code of an agent that ends by itself. */
  async upToItsEnd(): Promise<number> {
    const child = this.#spawn(["up", ...this.#place()]);
    return await new Promise((resolve) => child.once("exit", (code) => resolve(code ?? -1)));
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const over = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGKILL");
    await over;
  }

  get place(): string[] {
    return this.#place();
  }

  async roost(...words: string[]): Promise<Ran> {
    const [program, ...before] = this.program;
    const child = spawn(program ?? "", [...before, ...words], {
      env: { ...process.env, ROOST_DATA: this.data, NODE_OPTIONS: "--disable-warning=ExperimentalWarning" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const ran: Ran = { code: -1, out: "", err: "" };
    child.stdout.on("data", (data: Buffer) => (ran.out += data.toString()));
    child.stderr.on("data", (data: Buffer) => (ran.err += data.toString()));
    ran.code = await new Promise((resolve) => child.once("close", (code) => resolve(code ?? -1)));
    return ran;
  }

  async must(...words: string[]): Promise<string> {
    const ran = await this.roost(...words);
    if (ran.code !== 0) throw new Error(`${this.name}: roost ${words.join(" ")}: ${ran.code}\n${ran.err}${ran.out}`);
    return ran.out;
  }

  /** Lines of `roost events --follow`, as they come. */
  follow(from: number, lines: object[], endpoint: Host = this): () => void {
    const [program, ...before] = this.program;
    const child = spawn(program ?? "", [...before, "events", "--from", String(from), "--follow", "-o", "json"], {
      env: { ...process.env, ROOST_DATA: endpoint.data },
      stdio: ["ignore", "pipe", "ignore"],
    });
    let rest = "";
    child.stdout.on("data", (data: Buffer) => {
      const parts = (rest + data.toString()).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) lines.push(JSON.parse(part) as object);
    });
    return () => void child.kill("SIGKILL");
  }

  async until(what: string, holds: () => Promise<boolean>, limitMs = START_LIMIT_MS): Promise<void> {
    const endMs = Date.now() + limitMs;
    for (;;) {
      let last = "";
      try {
        if (await holds()) return;
      } catch (thrown) {
        last = (thrown as Error).message;
      }
      if (Date.now() > endMs) throw new Error(`${this.name}: not ${what} within ${limitMs} ms; ${last}\n${this.log.slice(-2_000)}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  #place(): string[] {
    return ["--data", this.data, "--name", this.name, "--listen", `127.0.0.1:${this.#listen}`];
  }

  #spawn(words: string[]): ChildProcess {
    const [program, ...before] = this.program;
    const [command = "", ...flags] = words;
    // What comes last counts.
    const all = [...before, command, "--foreground", "--driver", "simulated", "--guardian", "none", ...flags];
    const child = spawn(program ?? "", all, {
      env: { ...process.env, NODE_OPTIONS: "--disable-warning=ExperimentalWarning" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const note = (data: Buffer): void => void (this.log += data.toString());
    child.stdout?.on("data", note);
    child.stderr?.on("data", note);
    this.#process = child;
    return child;
  }

  async #start(words: string[]): Promise<void> {
    const child = this.#spawn(words);
    await this.until("serving", async () => {
      if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode}`);
      return (await this.roost("--stale", "cluster", "show", "--timeout", "2s")).code === 0;
    });
  }
}

async function freePair(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 6_000) * 2;
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
