/**
 * Writes down what runs here, by looking over the driver's shoulder: whoever starts and ends domains knows nothing of it, and nothing
 * that is recorded was decided here (HA-18).
 */
import type { Logger } from "../base/log.ts";
import type { DomainEvent, DomainRef, DomainStatus, Driver, Session } from "../hypervisor/driver.ts";
import type { NodeRuns } from "../model/run.ts";
import type { BootClock } from "./keeper/boot-clock.ts";
import { readRecords, RunLog } from "./run-log.ts";
import { type RunRecord, runsOf, type Stamp } from "./run-records.ts";

export interface RunRecorderOptions {
  clusterId: string;
  /** The agent's own file, and the keeper's. */
  path: string;
  keeperPath: string;
  clock: BootClock;
  wallMs: () => number;
  log: Logger;
}

interface OpenRun extends DomainRef {
  begin: RunRecord;
  /** When it was last seen to run, bootMs; null for not yet. */
  seenMs: number | null;
  /** Since when it stands still, bootMs; null while it runs. */
  pausedMs: number | null;
}

export class RunRecorder {
  readonly #options: RunRecorderOptions;
  readonly #log: RunLog;
  /** By `VM generation`. */
  readonly #open = new Map<string, OpenRun>();
  /** When runs ended, bootMs, for as long as a list from before may still come in. */
  readonly #over = new Map<string, number>();
  /** Pushed to another node: what is here stands still, whatever a list calls it, until it is resumed. */
  readonly #moved = new Set<string>();

  private constructor(options: RunRecorderOptions) {
    this.#options = options;
    this.#log = new RunLog({ path: options.path, log: options.log, carryOver: () => [...this.#open.values()].map(({ begin }) => begin) });
  }

  /** Knows what was running when the agent before it ended, in this boot. */
  static async open(options: RunRecorderOptions): Promise<RunRecorder> {
    const recorder = new RunRecorder(options);
    const now = recorder.now();
    for (const record of await recorder.#log.read()) {
      if (record.bootId !== now.bootId) continue;
      if (record.op === "begin" || record.op === "runs") recorder.#opened(record, record).pausedMs = null;
      else if (record.op === "paused") recorder.#paused(record, record.bootMs);
      else if (record.op === "end") recorder.#open.delete(keyOf(record));
    }
    recorder.#log.note({ op: "agent", ...now });
    return recorder;
  }

  now(): Stamp {
    const { clock, wallMs } = this.#options;
    return { bootId: clock.bootId, bootMs: clock.nowMs(), wallMs: wallMs() };
  }

  /** All that is on record here. */
  async runs(): Promise<NodeRuns> {
    const sightings = new Map([...this.#open].flatMap(([key, { seenMs }]) => (seenMs === null ? [] : [[key, seenMs]])));
    return runsOf([await this.#log.read(), await readRecords(this.#options.keeperPath)], this.now(), sightings);
  }

  close(): Promise<void> {
    return this.#log.close();
  }

  /** The same driver, whose domains are recorded. */
  over(driver: Driver): Driver {
    driver.watch((event) => this.#onEvent(event));
    return overlay(driver, { login: async () => this.#overSession(await driver.login()) });
  }

  #overSession(session: Session): Session {
    return overlay(session, {
      start: async (ref, options) => {
        if (!options.paused) await this.#begins(ref);
        await session.start(ref, options);
        if (!options.paused) this.#seen(ref);
      },
      resume: async (ref) => {
        await this.#begins(ref);
        await session.resume(ref);
        this.#seen(ref);
      },
      destroy: async (ref) => {
        await session.destroy(ref);
        this.#ended(ref, "ended by the agent");
      },
      emigrate: async (ref) => {
        const emigration = await session.emigrate(ref);
        return overlay(emigration, {
          push: async (ticket, stream, options) => {
            const receipt = await emigration.push(ticket, stream, options);
            await this.#pushed(ref);
            return receipt;
          },
        });
      },
      list: async () => {
        const askedMs = this.#options.clock.nowMs();
        const domains = await session.list();
        this.#listed(domains, askedMs);
        return domains;
      },
    });
  }

  async #begins(ref: DomainRef): Promise<void> {
    this.#moved.delete(keyOf(ref));
    const known = this.#open.get(keyOf(ref));
    if (known !== undefined && known.pausedMs === null) return;
    // Also when it goes on after a pause: else it would count as standing still since then, whatever it does.
    const record: RunRecord = { op: "begin", vmId: ref.vmId, generation: ref.generation, ...this.now() };
    this.#opened(ref, record).pausedMs = null;
    await this.#log.sync(record);
  }

  #onEvent(event: DomainEvent): void {
    if (event.kind === "resumed") {
      this.#moved.delete(keyOf(event));
      // Not by this agent's word: migrated to here, or resumed by hand.
      if (!this.#open.has(keyOf(event))) this.#opened(event, this.#write("begin", event));
      this.#seen(event);
    } else if (event.kind === "gone") this.#ended(event, HOW[event.cause]);
    else if (event.kind === "paused" && this.#open.has(keyOf(event))) this.#paused(event, this.#write("paused", event).bootMs);
  }

  #listed(domains: readonly DomainStatus[], askedMs: number): void {
    const there = new Set<string>();
    for (const domain of domains) {
      if (domain.clusterId !== this.#options.clusterId || domain.state === "defined" || domain.state === "gone") continue;
      there.add(keyOf(domain));
      // A list tells of some moment since it was asked for: an end since then is the newer word.
      if (domain.state !== "paused" && !this.#moved.has(keyOf(domain)) && (this.#over.get(keyOf(domain)) ?? -1) < askedMs)
        this.#seen(domain, askedMs);
    }
    for (const key of this.#moved) if (!there.has(key)) this.#moved.delete(key);
    for (const [key, atMs] of this.#over) if (askedMs - atMs > LIST_LIMIT_MS) this.#over.delete(key);
    // What began while the list was made may not be on it.
    for (const [key, run] of this.#open)
      if (!there.has(key) && Math.max(run.begin.bootMs, run.seenMs ?? 0) < askedMs) this.#ended(run, "found gone");
  }

  /** @param atMs when it certainly ran, bootMs. */
  #seen(ref: DomainRef, atMs = this.#options.clock.nowMs()): void {
    const known = this.#open.get(keyOf(ref));
    const seenMs = Math.max(atMs, known?.begin.bootMs ?? 0);
    const goesOn = known !== undefined && known.pausedMs !== null && known.pausedMs < seenMs;
    const record = known === undefined || known.seenMs === null || goesOn ? this.#write("runs", ref, seenMs) : known.begin;
    const run = this.#opened(ref, record);
    if (goesOn) run.pausedMs = null;
    run.seenMs = Math.max(run.seenMs ?? 0, seenMs);
  }

  #ended(ref: DomainRef, how: string): void {
    const record = this.#close(ref, how);
    if (record !== null) this.#log.note(record);
  }

  /** It stands still, and is about to go on elsewhere; taken back, it begins again. On record before anybody is told. */
  async #pushed(ref: DomainRef): Promise<void> {
    this.#moved.add(keyOf(ref));
    const record = this.#close(ref, "moved on by live migration");
    if (record !== null) await this.#log.sync(record);
  }

  /** Null if nothing of it was known to run. */
  #close(ref: DomainRef, how: string): RunRecord | null {
    const { vmId, generation } = ref;
    const known = this.#open.get(keyOf(ref));
    if (known === undefined) return null;
    this.#open.delete(keyOf(ref));
    const now = this.now();
    this.#over.set(keyOf(ref), now.bootMs);
    return { op: "end", vmId, generation, how, ...(known.seenMs === null ? {} : { seenMs: known.seenMs }), ...now };
  }

  /** @param atMs of the moment that it tells of, bootMs; now by default. */
  #write(op: "begin" | "runs" | "paused", ref: DomainRef, atMs?: number): RunRecord {
    const now = this.now();
    const at = { ...now, bootMs: atMs ?? now.bootMs, wallMs: now.wallMs - (now.bootMs - (atMs ?? now.bootMs)) };
    const record: RunRecord = { op, vmId: ref.vmId, generation: ref.generation, ...at };
    this.#log.note(record);
    return record;
  }

  #opened(ref: DomainRef, begin: RunRecord): OpenRun {
    let run = this.#open.get(keyOf(ref));
    if (run === undefined) {
      run = { vmId: ref.vmId, generation: ref.generation, begin, seenMs: null, pausedMs: null };
      this.#open.set(keyOf(ref), run);
    }
    return run;
  }

  #paused(ref: DomainRef, atMs: number): void {
    const run = this.#open.get(keyOf(ref));
    if (run !== undefined) run.pausedMs ??= atMs;
  }
}

/** Longer than any list takes that is still waited for. */
const LIST_LIMIT_MS = 60_000;

const HOW = {
  shutdown: "powered off by its guest",
  destroyed: "ended from outside the agent",
  crashed: "its emulator crashed or was killed",
  unknown: "ended",
} as const;

function keyOf({ vmId, generation }: DomainRef): string {
  return `${vmId} ${generation}`;
}

/** `base`, with some of its methods replaced; what is added to it later goes through. */
function overlay<T extends object>(base: T, over: Partial<T>): T {
  return new Proxy(base, {
    get(target, key) {
      const replaced: unknown = Reflect.get(over, key);
      if (replaced !== undefined) return replaced;
      const value: unknown = Reflect.get(target, key);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}
