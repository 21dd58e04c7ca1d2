/**
 * The keeper's process: socket, timers, kills and the guardian around the pure machine (machine.ts). It must stay small
 * and outlive the agent, so it imports nothing but base, the bare kill and node's own modules.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { asRoostError, RoostError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { isGone, kill, noteProcesses } from "../../hypervisor/kill.ts";
import type { KillRecipe } from "../../hypervisor/driver.ts";
import { openGuardian, PET_MS, readFeed } from "../guardian.ts";
import type { Guardian, GuardianKind } from "../guardian.ts";
import { RunLog } from "../run-log.ts";
import { openBootClock } from "./boot-clock.ts";
import type { BootClock } from "./boot-clock.ts";
import { LineReader } from "./lines.ts";
import { startKeeper, statusOf, step, wakeAtMs } from "./machine.ts";
import type { Feed, KeeperEffect, KeeperInput, KeeperState } from "./machine.ts";
import { keeperPaths, killStaleKeeper, pingKeeper } from "./process.ts";
import { parseRequest } from "./protocol.ts";
import type { AnswerFrame, KeeperAnswer } from "./protocol.ts";

export interface KeeperOptions {
  dataDir: string;
  guardian: GuardianKind;
  /** Until the agent's hello says otherwise. */
  killLeadMs: number;
  /** How long a claim lasts (setting `ha.claimMs`): a watchdog must act within. */
  claimMs?: number;
}

export interface KeeperEffects {
  log: Logger;
  /** The two below are replaced in tests. */
  clock?: BootClock;
  endDomain?: (recipe: KillRecipe, again: boolean) => Promise<boolean>;
}

/** Small against the default lead of 500 ms: after it the process is killed whatever libvirt does. */
const LIBVIRT_TIMEOUT_MS = 200;
const KILL_LIMIT_MS = 2_000;
const MAX_CONNECTIONS = 32;
/** Default of `ha.claimMs`. */
const CLAIM_MS = 4_000;
/** How often emulators are looked at while VMs are registered, besides when one starts. */
const NOTE_MS = 5_000;
/** Longest sleep of the timer: bounds the harm of a wrong wake-up time, and notices a socket taken away. */
const MAX_SLEEP_MS = 250;

export interface RunningKeeper {
  /** Resolves when it was told to shut down with nothing registered, or lost its socket with nothing registered. */
  done: Promise<void>;
  /** For tests: ends it as SIGKILL would, without disarming anything. */
  abandon(): void;
}

/**
 * Runs the keeper of one data folder. Throws `exists` if one answers there already; one that hangs is killed first.
 */
export async function runKeeper(options: KeeperOptions, effects: KeeperEffects): Promise<RunningKeeper> {
  const paths = keeperPaths(options.dataDir);
  mkdirSync(paths.runDir, { recursive: true, mode: 0o700 });
  if (await pingKeeper(options.dataDir, 1_000)) throw new RoostError({ kind: "exists", what: "keeper", name: paths.socket });
  killStaleKeeper(options.dataDir, effects.log);
  const clock = effects.clock ?? openBootClock();
  const guardian = openGuardian(options.guardian, {
    feedPath: paths.feed,
    bootId: clock.bootId,
    usableMs: (options.claimMs ?? CLAIM_MS) - options.killLeadMs,
    nowMs: () => clock.nowMs(),
    log: effects.log,
  });
  const state = startKeeper({
    bootId: clock.bootId,
    nonce: randomBytes(16).toString("hex"),
    killLeadMs: options.killLeadMs,
    feed: readFeed(paths.feed, clock.bootId),
  });
  const runs = new RunLog({ path: paths.runs, log: effects.log });
  const keeper = new Keeper(state, clock, guardian, effects.log, effects.endDomain ?? endDomain(effects.log), paths.socket, runs);
  await keeper.listen();
  writeFileSync(paths.pid, `${process.pid} ${ownTicks()}\n`, { mode: 0o600 });
  return { done: keeper.done, abandon: () => keeper.close() };
}

function ownTicks(): string {
  const stat = readFileSync("/proc/self/stat", "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "0";
}

function endDomain(log: Logger): (recipe: KillRecipe, again: boolean) => Promise<boolean> {
  return async (recipe, again) => {
    // A look at /proc is enough to see that nothing came back; libvirt is asked only if something did.
    if (again && (await isGone(recipe))) return true;
    await kill(recipe, { libvirtTimeoutMs: LIBVIRT_TIMEOUT_MS, limitMs: KILL_LIMIT_MS, log });
    return true;
  };
}

class Keeper {
  readonly done: Promise<void>;
  #finish: () => void = () => {};
  #state: KeeperState;
  readonly #clock: BootClock;
  readonly #guardian: Guardian;
  readonly #log: Logger;
  readonly #endDomain: (recipe: KillRecipe, again: boolean) => Promise<boolean>;
  readonly #socketPath: string;
  /** Written in the background: a disk that hangs must not hold up a kill. */
  readonly #runs: RunLog;
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  #socketInode = 0;
  #timer: NodeJS.Timeout | undefined;
  #petTimer: NodeJS.Timeout | undefined;
  #noteTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    state: KeeperState,
    clock: BootClock,
    guardian: Guardian,
    log: Logger,
    end: (recipe: KillRecipe, again: boolean) => Promise<boolean>,
    socketPath: string,
    runs: RunLog,
  ) {
    this.#runs = runs;
    this.#state = state;
    this.#clock = clock;
    this.#guardian = guardian;
    this.#log = log;
    this.#endDomain = end;
    this.#socketPath = socketPath;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  async listen(): Promise<void> {
    if (existsSync(this.#socketPath)) unlinkSync(this.#socketPath);
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#socketPath, resolve);
    });
    chmodSync(this.#socketPath, 0o600);
    this.#socketInode = statSync(this.#socketPath).ino;
    this.#server.on("error", (error) => this.#log.error("the keeper's socket failed", { reason: error.message }));
    this.#petTimer = setInterval(() => this.#pet(), PET_MS);
    this.#noteTimer = setInterval(() => this.#note(), NOTE_MS);
    this.#log.info("keeper started", {
      nonce: this.#state.nonce.slice(0, 8),
      bootId: this.#state.bootId,
      deadlineMs: this.#state.parkedMs,
    });
    this.#step({ kind: "tick" });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#petTimer);
    clearInterval(this.#noteTimer);
    for (const socket of this.#connections) socket.destroy();
    this.#server.close();
    this.#guardian.close();
    void this.#runs.close().catch(() => {}); // what is not written by now is lost with the process
    this.#finish();
  }

  #pet(): void {
    try {
      this.#guardian.pet(this.#clock.nowMs());
    } catch (error) {
      this.#log.error("the guardian could not be fed; it will reset the host", { reason: asRoostError(error).message });
    }
  }

  /** What runs is known by pid before its end is due: then no look at the whole of /proc comes before the signal. */
  #note(): void {
    if (![...this.#state.vms.values()].some(({ recipe }) => recipe.kind === "libvirt")) return;
    noteProcesses().catch((error: unknown) =>
      this.#log.warn("the host's processes could not be looked at", { reason: asRoostError(error).message }),
    );
  }

  #step(input: KeeperInput): KeeperAnswer | null {
    const nowMs = this.#clock.nowMs();
    const result = step(this.#state, input, nowMs);
    const before = this.#state;
    this.#state = result.state;
    let answer = result.answer;
    for (const effect of result.effects) {
      if (effect.kind !== "feed") this.#do(effect, before);
      else if (!this.#feed(effect.feed)) {
        // Tried again at the next step. What was to be armed for may not run without its guardian.
        this.#state = { ...this.#state, fed: before.fed };
        const earlier = effect.feed.armed && before.fed.armed && effect.feed.deadlineMs < before.fed.deadlineMs;
        if (answer?.ok === true && effect.feed.armed && (earlier || !before.fed.armed))
          answer = { ok: false, reason: "guardian", detail: "the guardian's feed could not be written" };
      }
    }
    if (!this.#closed) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#tick(), Math.min(MAX_SLEEP_MS, Math.max(1, wakeAtMs(this.#state) - nowMs)));
    }
    return answer;
  }

  #tick(): void {
    this.#step({ kind: "tick" });
    // Another keeper took the socket over: without anything to guard, two would only contradict each other.
    if (this.#state.vms.size === 0 && !this.#ownsSocket()) {
      this.#log.warn("another keeper has taken over; leaving");
      this.close();
    }
  }

  #ownsSocket(): boolean {
    try {
      return statSync(this.#socketPath).ino === this.#socketInode;
    } catch {
      return false;
    }
  }

  #feed(feed: Feed): boolean {
    try {
      this.#guardian.feed(feed);
      return true;
    } catch (error) {
      this.#log.error("the guardian's feed could not be written", { reason: asRoostError(error).message });
      return false;
    }
  }

  #do(effect: Exclude<KeeperEffect, { kind: "feed" }>, before: KeeperState): void {
    switch (effect.kind) {
      case "kill":
        this.#kill(effect, before.vms.get(effect.vmId)?.phase === "gone");
        return;
      case "fenced":
        this.#log.warn("ending a VM", { vmId: effect.vmId, generation: effect.generation, why: effect.why });
        return;
      case "overdue":
        this.#log.error("a VM outlived its deadline; left to the guardian", { vmId: effect.vmId, generation: effect.generation });
        return;
      case "exit":
        setImmediate(() => this.close());
    }
  }

  #kill(effect: KeeperEffect & { kind: "kill" }, again: boolean): void {
    const { vmId, generation } = effect;
    const ended = (gone: boolean): void => {
      if (gone && !again) this.#noteEnd(vmId, generation);
      if (!this.#closed) this.#step({ kind: "killed", vmId, generation, gone });
    };
    this.#endDomain(effect.recipe, again).then(ended, (error: unknown) => {
      this.#log.error("a VM could not be ended; trying again", { vmId, generation, reason: asRoostError(error).message });
      ended(false);
    });
  }

  #noteEnd(vmId: string, generation: number): void {
    const { bootId } = this.#clock;
    this.#runs.note({ op: "end", vmId, generation, how: "ended by the keeper", bootId, bootMs: this.#clock.nowMs(), wallMs: Date.now() });
  }

  #accept(socket: Socket): void {
    this.#connections.add(socket);
    const reader = new LineReader((value) => this.#answer(socket, value));
    socket.on("data", (chunk: Buffer) => {
      const fault = reader.push(chunk);
      if (fault === null) return;
      this.#log.warn("closing a connection", { reason: fault });
      socket.destroy();
    });
    socket.on("error", (error) => this.#log.debug("a connection failed", { reason: error.message }));
    socket.on("close", () => this.#connections.delete(socket));
  }

  #answer(socket: Socket, value: unknown): void {
    const frame = value as { id?: unknown; request?: unknown } | null;
    const id = frame !== null && typeof frame === "object" && typeof frame.id === "number" ? frame.id : 0;
    const request = parseRequest(frame?.request);
    let answer: KeeperAnswer;
    if (request === null) answer = { ok: false, reason: "invalid", detail: "not a request of this protocol" };
    else if (request.op === "list") {
      this.#step({ kind: "tick" });
      answer = { ok: true, status: statusOf(this.#state, this.#clock.nowMs(), { pid: process.pid, guardian: this.#guardian.name }) };
    } else {
      answer = this.#step({ kind: "request", request }) ?? { ok: true };
      // Started paused or found running: its process is there by now.
      if (answer.ok && (request.op === "confirm" || request.op === "register")) this.#note();
      if (!answer.ok) this.#log.debug("refused", { op: request.op, reason: answer.reason, detail: answer.detail });
    }
    const reply: AnswerFrame = { id, answer };
    socket.write(`${JSON.stringify(reply)}\n`);
  }
}
