/** One node of the lab: power, processes, network, and what can be seen of it. */
import { readdirSync, statSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { agentCommand, agentSocket, serialLogFolders, type AgentCommand, type AgentStart } from "./agent.ts";
import type { CutDirection, Ground, LabPlace, NetworkState } from "./ground.ts";
import { powerNote } from "./namespaces.ts";
import { isAlive, type LabProcess, type ProcessKind } from "./processes.ts";
import { CommandError, tryRun, type RunResult } from "./run.ts";
import { waitFor } from "./wait.ts";

/** What can be killed: one kind of process, or the whole node at once. */
export type KillTarget = "agent" | "keeper" | "libvirtd" | "qemu" | "all";
/** `all`: agent and keeper. `host`: every process, init and guests too, as if the host itself were frozen. */
export type PauseTarget = "agent" | "keeper" | "libvirtd" | "all" | "host";

export interface QemuProcess extends LabProcess {
  /** `guest=` of QEMU's -name: the libvirt domain's name. */
  domain: string;
  /** The domain's UUID, which is the VM's id; empty if it has none. */
  uuid: string;
}

export class LabNode {
  readonly place: LabPlace;
  readonly #ground: Ground;
  readonly #agentArgs: string[];

  constructor(place: LabPlace, ground: Ground, agentArgs: string[]) {
    this.place = place;
    this.#ground = ground;
    this.#agentArgs = agentArgs;
  }

  get name(): string {
    return this.place.name;
  }
  get ip(): string {
    return this.place.ip;
  }
  get dataDir(): string {
    return this.place.dataDir;
  }
  /** The agent's unix socket; reachable from outside the node too. */
  get socketPath(): string {
    return agentSocket(this.place);
  }
  get agentLogPath(): string {
    return join(this.place.dir, "log", "agent.log");
  }
  get initLogPath(): string {
    return join(this.place.dir, "log", "init.log");
  }
  /** The file by which the keeper keeps the guardian quiet. */
  get guardianFeedPath(): string {
    return join(this.place.dataDir, "run", "guardian");
  }
  /** The node's libvirt socket as seen from outside, for `virsh -c qemu+unix:///system?socket=…`. */
  get libvirtSocketPath(): string {
    const init = this.processes("init")[0];
    if (init === undefined) throw new Error(`${this.name} has no libvirtd of its own now`);
    return `/proc/${init.pid}/root/run/libvirt/libvirt-sock`;
  }

  isOn(): boolean {
    return this.#ground.isOn(this.place);
  }

  /** Why it is off, for people; empty if it is on. */
  powerNote(): string {
    return this.isOn() ? "" : powerNote(this.place);
  }

  /** The kernel's boot id and the start time of the node's process 1: another one after each power-on. */
  async bootId(): Promise<string> {
    return (await readFile(join(this.place.dir, "boot"), "utf8")).trim();
  }

  /** Powers it on; the agent starts with it if the node ever had one. Ends when libvirtd answers. */
  async powerOn(): Promise<void> {
    if (this.isOn()) throw new Error(`${this.name} is on already`);
    await this.#ground.powerOn(this.place);
  }

  /** The node's live processes, of one kind if one is named. */
  processes(kind?: ProcessKind): LabProcess[] {
    const all = this.#ground.processes(this.place);
    return kind === undefined ? all : all.filter((one) => one.kind === kind);
  }

  qemuProcesses(): QemuProcess[] {
    return this.processes("qemu").map((one) => ({
      ...one,
      domain: /guest=([^,]*)/.exec(one.argv[one.argv.indexOf("-name") + 1] ?? "")?.[1] ?? "",
      uuid: one.argv.includes("-uuid") ? (one.argv[one.argv.indexOf("-uuid") + 1] ?? "") : "",
    }));
  }

  /** kill -9; ends when it is dead. `all` takes the node's init, and with it everything, at once. Gives how many died. */
  async kill(target: KillTarget): Promise<number> {
    if (target !== "all") return await this.#signalAndWait(this.processes(target), "SIGKILL");
    const count = this.processes().length;
    await this.#ground.powerOff(this.place);
    return count;
  }

  /**
   * Starts the agent. Without `how` it is started as it was the last time it is known to have worked: from its data folder.
   * What is given stays the way it starts when the node is powered on: call agentHasJoined() once it has joined.
   */
  async startAgent(how: AgentStart | AgentCommand = { kind: "again" }): Promise<void> {
    await this.setAgent("argv" in how ? how : agentCommand(this.place, how, { args: this.#agentArgs }));
    await this.#ground.start(this.place, "agent");
  }

  /** Sets the command line that starts the node's agent, now and at power-on; null for none. */
  async setAgent(command: AgentCommand | null): Promise<void> {
    const path = join(this.place.dir, "agent.argv");
    if (command === null) return await rm(path, { force: true });
    const lines = [...Object.entries(command.env).map(([name, value]) => `${name}=${value}`), "", ...command.argv];
    if (lines.some((line) => line.includes("\n"))) throw new Error(`a line break in the agent's command line: ${command.argv.join(" ")}`);
    await writeFile(path, `${lines.join("\n")}\n`, { mode: 0o600 });
  }

  /** From now on power-on and `startAgent()` start the agent from its data folder. */
  async agentHasJoined(): Promise<void> {
    await this.setAgent(agentCommand(this.place, { kind: "again" }, { args: this.#agentArgs }));
  }

  /** Asks the agent to end (SIGTERM) and waits until it has. */
  async stopAgent(timeoutMs = 15_000): Promise<void> {
    await this.#signalAndWait(this.processes("agent"), "SIGTERM", timeoutMs);
  }

  async startLibvirtd(): Promise<void> {
    await this.#ground.start(this.place, "libvirtd");
  }

  /** SIGSTOP; ends when they have stopped. Gives how many. */
  pause(target: PauseTarget): Promise<number> {
    return this.#stopOrContinue(target, "SIGSTOP", (one) => one.state === "T");
  }

  resume(target: PauseTarget): Promise<number> {
    return this.#stopOrContinue(target, "SIGCONT", (one) => one.state !== "T");
  }

  cut(direction: CutDirection = "both"): Promise<void> {
    return this.#ground.cut(this.place, direction);
  }

  heal(): Promise<void> {
    return this.#ground.heal(this.place);
  }

  network(): Promise<NetworkState> {
    return this.#ground.network(this.place);
  }

  /**
   * Runs a command inside the node: an argument list, or a line for sh. ROOST_DATA names the node's data folder.
   * Whatever its exit code; throws if it takes longer than the limit, and then has killed it inside, too.
   */
  async exec(command: string | readonly string[], options: { timeoutMs?: number; input?: string } = {}): Promise<RunResult> {
    const timeoutMs = options.timeoutMs ?? 15_000;
    const argv = typeof command === "string" ? ["sh", "-c", command] : command;
    const startedMs = performance.now();
    const result = await tryRun(this.inside(["timeout", "-s", "KILL", String(timeoutMs / 1000), ...argv]), {
      // The limit inside is to be the one that acts: it ends the command itself.
      timeoutMs: timeoutMs + 1_000,
      ...(options.input === undefined ? {} : { input: options.input }),
    });
    if (result.code !== 0 && performance.now() - startedMs >= timeoutMs)
      throw new CommandError(argv, result, `not done on ${this.name} after ${timeoutMs} ms`);
    return result;
  }

  /** The command line that, run on this machine, runs `argv` inside the node. */
  inside(argv: readonly string[]): string[] {
    return this.#ground.inside(this.place, ["env", `ROOST_DATA=${this.dataDir}`, ...argv]);
  }

  /** As exec, but throws unless the exit code is 0; gives standard output. */
  async must(command: string | readonly string[], options: { timeoutMs?: number } = {}): Promise<string> {
    const result = await this.exec(command, options);
    if (result.code !== 0) {
      throw new Error(
        `on ${this.name}: ${typeof command === "string" ? command : command.join(" ")}: exit code ${result.code}\n${result.stderr}${result.stdout}`,
      );
    }
    return result.stdout;
  }

  /** Path of the file with a VM's serial output on this node: the newest that has the VM's name or id in its own; null if none. */
  serialLogPath(vm: string): string | null {
    const found = [...serialLogFolders(this.place), join(this.place.dir, "host", "log")].flatMap((folder) => {
      try {
        return readdirSync(folder)
          .filter((file) => file.includes(vm))
          .map((file) => join(folder, file))
          .filter((path) => statSync(path).isFile());
      } catch {
        return [];
      }
    });
    return found.toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0] ?? null;
  }

  /** A VM's serial output on this node; empty if there is none. */
  async serialLog(vm: string): Promise<string> {
    const path = this.serialLogPath(vm);
    return path === null ? "" : await readFile(path, "latin1");
  }

  async #signalAndWait(targets: LabProcess[], signal: NodeJS.Signals, timeoutMs = 10_000): Promise<number> {
    for (const { pid } of targets) send(pid, signal);
    await waitFor(
      `the end of ${targets.map((one) => `${one.kind} ${one.pid}`).join(", ")} on ${this.name}`,
      (saw) => {
        const alive = targets.filter((one) => isAlive(one.pid, one.startTicks));
        saw(alive.map((one) => `${one.pid} ${one.state} ${one.argv.join(" ")}`));
        return alive.length === 0;
      },
      timeoutMs,
      { everyMs: 10 },
    );
    return targets.length;
  }

  async #stopOrContinue(target: PauseTarget, signal: NodeJS.Signals, reached: (one: LabProcess) => boolean): Promise<number> {
    const mine = (): LabProcess[] =>
      this.processes().filter(
        (one) => target === "host" || one.kind === target || (target === "all" && (one.kind === "agent" || one.kind === "keeper")),
      );
    // Init first: on a host that wakes up its watchdog does not wait for the guests.
    const targets = mine().toSorted((a, b) => a.innerPid - b.innerPid);
    for (const { pid } of targets) send(pid, signal);
    await waitFor(
      `${signal} on ${this.name}`,
      (saw) => {
        const now = mine();
        saw(now.map((one) => `${one.pid} ${one.state}`));
        return now.every(reached);
      },
      5_000,
      { everyMs: 10 },
    );
    return targets.length;
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended already.
  }
}
