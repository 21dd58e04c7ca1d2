/**
 * The contract of a hypervisor driver as a suite (VM-14): every implementation is run through it with a harness that
 * knows how to do to its hypervisor, behind the driver's back, what the world does.
 */
import t from "tap";
import { RoostError, isRetryable } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { DomainEvent, DomainRef, DomainSpec, DomainState, Driver, DriverAction, Session } from "../../src/hypervisor/driver.ts";
import { isGone, kill } from "../../src/hypervisor/kill.ts";

export interface DriverHarness {
  driver: Driver;
  clusterId: string;
  /** A spec that this hypervisor can start at once. */
  spec(vm: { vmId: string; generation: number; name: string }): Promise<DomainSpec>;
  /** Resolves when the guest can hear a request to power off. */
  guestReady(spec: DomainSpec): Promise<void>;
  /** Runs a domain that is not this cluster's: without any mark, or with the mark of `clusterId`. Returns whether it still runs. */
  startForeign(vmId: string, clusterId: string | null): Promise<{ runs(): Promise<boolean>; end(): Promise<void> }>;
  /** Ends a domain with the hypervisor's own means, not through roost. */
  destroyOutside(ref: DomainRef): Promise<void>;
  /** Kills the process that is the domain. */
  crashOutside(ref: DomainRef): Promise<void>;
  /** The hypervisor's daemon dies; domains go on. Returns how to bring it back. */
  killDaemon(): Promise<() => Promise<void>>;
  /** The daemon stops answering. Returns how to thaw it. */
  freezeDaemon(): Promise<() => Promise<void>>;
  /** A second driver on the same hypervisor, as an agent that was started again has. */
  again(): Promise<Driver>;
  /** False if the recipe names nothing that a keeper could end. */
  killable: boolean;
  stop(): Promise<void>;
}

/** Generous: nothing is measured, it only ends a test whose event never comes. */
const EVENT_LIMIT_MS = 20_000;
const ACTIONS: DriverAction[] = ["shutdown", "destroy", "reset", "pause", "resume", "stats"];

class EventLog {
  readonly events: DomainEvent[] = [];
  readonly stop: () => void;
  private readonly waiting = new Set<() => void>();

  constructor(driver: Driver) {
    this.stop = driver.watch((event) => {
      this.events.push(event);
      for (const look of this.waiting) look();
    });
  }

  of(ref: DomainRef): string[] {
    const own = this.events.filter((event) => "vmId" in event && event.vmId === ref.vmId);
    return own.map((event) => (event.kind === "gone" ? `gone/${event.cause}` : event.kind));
  }

  async until(what: string, done: () => boolean): Promise<void> {
    if (done()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(look);
        reject(new Error(`no ${what} within ${EVENT_LIMIT_MS} ms; events: ${JSON.stringify(this.events)}`));
      }, EVENT_LIMIT_MS);
      const look = (): void => {
        if (!done()) return;
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve();
      };
      this.waiting.add(look);
    });
  }

  gone(ref: DomainRef): Promise<void> {
    return this.until(`gone of ${ref.vmId}`, () => this.of(ref).some((kind) => kind.startsWith("gone")));
  }

  has(kind: DomainEvent["kind"]): Promise<void> {
    return this.until(kind, () => this.events.some((event) => event.kind === kind));
  }
}

async function faultOf(promise: Promise<unknown>): Promise<RoostError["fault"]> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof RoostError) return error.fault;
    throw error;
  }
  throw new Error("expected a RoostError, but the call succeeded");
}

/** Runs the suite. `makeHarness` is called once; it may answer why it cannot run here. */
export function driverContract(name: string, makeHarness: () => Promise<DriverHarness | { skip: string }>): void {
  void t.test(`driver contract: ${name}`, async (t) => {
    const made = await makeHarness();
    if ("skip" in made) {
      console.log(`# driver contract on ${name} skipped: ${made.skip}`);
      t.pass("skipped", { skip: made.skip });
      return;
    }
    const harness = made;
    const { driver } = harness;
    t.teardown(async () => {
      await driver.close();
      await harness.stop();
    });
    let session: Session = await driver.login();
    let count = 0;
    /** Defines a fresh VM and watches it. */
    const fresh = async (
      vm: Partial<{ vmId: string; generation: number; name: string }> = {},
    ): Promise<{ spec: DomainSpec; log: EventLog }> => {
      const number = String(++count).padStart(12, "0");
      const spec = await harness.spec({ vmId: `0a0b0c0d-0000-4000-8000-${number}`, generation: 7, name: `vm ${count} <&>"`, ...vm });
      await session.define(spec);
      return { spec, log: new EventLog(driver) };
    };
    const stateOf = async (ref: DomainRef): Promise<DomainState | null> => (await session.state(ref))?.state ?? null;

    await t.test("capabilities are found out once", async (t) => {
      const first = await driver.capabilities();
      t.ok(first.cpus > 0 && first.memoryMib > 0 && first.hypervisor !== "" && first.arch !== "");
      t.ok(first.actions.includes("start") && first.actions.includes("destroy"));
      t.strictSame(await driver.capabilities(), first);
    });

    await t.test("define starts nothing and may be repeated", async (t) => {
      const { spec, log } = await fresh();
      await session.define(structuredClone(spec));
      t.equal(await stateOf(spec), "defined");
      const listed = (await session.list()).filter((status) => status.vmId === spec.vmId);
      t.strictSame(listed, [{ vmId: spec.vmId, generation: 7, clusterId: harness.clusterId, name: spec.name, state: "defined" }]);
      await session.undefine(spec);
      t.equal(await stateOf(spec), null);
      await session.undefine(spec);
      t.equal((await faultOf(session.start(spec, { paused: false }))).kind, "not-found");
      t.strictSame(log.of(spec), []);
      log.stop();
    });

    await t.test("a bad spec is refused with all its faults", async (t) => {
      const good = await harness.spec({ vmId: "0a0b0c0d-0000-4000-8000-00000000bad0", generation: 1, name: "bad" });
      const fault = await faultOf(session.define({ ...good, cpus: 0, memoryMib: 0.5, name: "a\u0001b" }));
      t.equal(fault.kind, "invalid");
      const fields = fault.kind === "invalid" ? fault.violations.map((violation) => violation.field) : [];
      t.strictSame(fields.toSorted(), ["cpus", "memoryMib", "name"]);
      t.equal((await faultOf(session.define({ ...good, clusterId: "another" }))).kind, "invalid");
      t.equal(await stateOf(good), null);
    });

    await t.test("start paused, resume, pause, resume, reset", async (t) => {
      const { spec, log } = await fresh();
      await session.start(spec, { paused: true });
      t.equal(await stateOf(spec), "paused");
      await session.resume(spec);
      await session.resume(spec);
      t.equal(await stateOf(spec), "running");
      await session.pause(spec);
      await session.pause(spec);
      t.equal(await stateOf(spec), "paused");
      await session.resume(spec);
      await session.confine(spec, { vcpus: spec.cpus, cpus: [0] });
      await session.reset(spec);
      t.equal(await stateOf(spec), "running");
      const stats = await session.stats(spec);
      t.ok(Object.values(stats).every((value: unknown) => typeof value === "number" && value >= 0));
      t.ok(stats.memoryRssKib > 0);
      t.equal((await faultOf(session.start(spec, { paused: false }))).kind, "precondition", "it runs already");
      t.equal((await faultOf(session.undefine(spec))).kind, "precondition");
      await session.destroy(spec);
      await log.gone(spec);
      const kinds = log.of(spec);
      for (const kind of ["started", "paused", "resumed", "gone/destroyed"]) t.ok(kinds.includes(kind), `${kind} in ${kinds.join(" ")}`);
      t.equal(kinds.at(-1), "gone/destroyed");
      t.equal(await stateOf(spec), "defined", "it can be started again");
      log.stop();
    });

    await t.test("shutdown asks the guest, watch tells when it is gone", async (t) => {
      const { spec, log } = await fresh();
      await session.start(spec, { paused: false });
      await harness.guestReady(spec);
      await session.shutdown(spec);
      await log.gone(spec);
      t.equal(log.of(spec).at(-1), "gone/shutdown");
      t.equal(await stateOf(spec), "defined");
      t.equal((await faultOf(session.shutdown(spec))).kind, "not-found");
      log.stop();
    });

    await t.test("destroy may be repeated and spares other generations", async (t) => {
      const { spec, log } = await fresh();
      await session.start(spec, { paused: false });
      const older = { vmId: spec.vmId, generation: 6 };
      await session.destroy(older);
      await session.undefine(older);
      for (const call of [
        session.pause(older),
        session.resume(older),
        session.reset(older),
        session.confine(older, { vcpus: 1, cpus: [0] }),
        session.shutdown(older),
        session.stats(older),
      ]) {
        t.equal((await faultOf(call)).kind, "not-found");
      }
      t.equal(await session.state(older), null);
      t.equal(await stateOf(spec), "running");
      const newer = await harness.spec({ vmId: spec.vmId, generation: 8, name: spec.name });
      await session.define(newer);
      t.equal((await faultOf(session.start(newer, { paused: true }))).kind, "precondition", "never two generations of one VM");
      await session.destroy(spec);
      await session.destroy(spec);
      await log.gone(spec);
      await session.start(newer, { paused: true });
      t.strictSame((await session.list()).find((status) => status.vmId === spec.vmId && status.state === "paused")?.generation, 8);
      await session.destroy(newer);
      log.stop();
    });

    for (const clusterId of [null, "f0f0f0f0-0000-4000-8000-00000000cafe"]) {
      await t.test(`a domain ${clusterId === null ? "without a mark" : "of another cluster"} is never touched`, async (t) => {
        const { spec, log } = await fresh();
        const foreign = await harness.startForeign(spec.vmId, clusterId);
        t.notOk((await session.list()).some((status) => status.vmId === spec.vmId && status.state !== "defined"));
        t.equal((await faultOf(session.start(spec, { paused: false }))).kind, "precondition");
        await session.destroy(spec);
        await session.undefine(spec);
        const calls: (() => Promise<unknown>)[] = [
          () => session.pause(spec),
          () => session.reset(spec),
          () => session.confine(spec, { vcpus: 1, cpus: [0] }),
          () => session.shutdown(spec),
          () => session.stats(spec),
        ];
        // One after the other: a refusal that nobody waits for yet would count as unhandled.
        for (const call of calls) t.equal((await faultOf(call())).kind, "not-found");
        t.ok(await foreign.runs());
        if (harness.killable) {
          const report = await kill(driver.killRecipe(spec), { libvirtTimeoutMs: 5_000, limitMs: 10_000, log: silentLogger });
          t.equal(report.by, "absent");
          t.ok(await foreign.runs());
        }
        await foreign.end();
        // Another domain's event follows the foreign one's: had there been one, it would have come first.
        const after = await fresh();
        await session.start(after.spec, { paused: true });
        await after.log.until("started", () => after.log.of(after.spec).includes("started"));
        t.strictSame(log.of(spec), []);
        await session.destroy(after.spec);
        log.stop();
        after.log.stop();
      });
    }

    await t.test("what happens behind roost's back is told with its cause", async (t) => {
      const first = await fresh();
      await session.start(first.spec, { paused: false });
      await harness.destroyOutside(first.spec);
      await first.log.gone(first.spec);
      t.equal(first.log.of(first.spec).at(-1), "gone/destroyed");
      t.equal(await stateOf(first.spec), "defined");
      first.log.stop();
      const second = await fresh();
      await session.start(second.spec, { paused: false });
      await harness.crashOutside(second.spec);
      await second.log.gone(second.spec);
      t.equal(second.log.of(second.spec).at(-1), "gone/crashed");
      await session.start(second.spec, { paused: true });
      await session.destroy(second.spec);
      second.log.stop();
    });

    await t.test("another driver on the same hypervisor finds the domains again", async (t) => {
      const { spec, log } = await fresh();
      await session.start(spec, { paused: false });
      const other = await harness.again();
      const otherLog = new EventLog(other);
      const otherSession = await other.login();
      const found = (await otherSession.list()).filter((status) => status.vmId === spec.vmId);
      t.strictSame(found, [{ vmId: spec.vmId, generation: 7, clusterId: harness.clusterId, name: spec.name, state: "running" }]);
      await otherSession.destroy(spec);
      await otherLog.gone(spec);
      await log.gone(spec);
      t.equal(otherLog.of(spec).at(-1), "gone/destroyed");
      t.equal(await otherSession.state(spec), null, "nothing of it is left for a driver that never defined it");
      await otherSession.logout();
      await other.close();
      log.stop();
    });

    await t.test("the daemon's death harms no domain and no driver", async (t) => {
      const { spec, log } = await fresh();
      await session.start(spec, { paused: false });
      const restart = await harness.killDaemon();
      await log.has("disconnected");
      const fault = await faultOf(session.list());
      t.ok(isRetryable(fault), fault.kind);
      await restart();
      await log.has("resync");
      t.ok(
        log.events.findIndex((event) => event.kind === "disconnected") < log.events.findIndex((event) => event.kind === "resync"),
        "first disconnected, then resync",
      );
      t.equal((await session.list()).find((status) => status.vmId === spec.vmId)?.state, "running");
      await harness.crashOutside(spec);
      await log.gone(spec);
      t.equal(log.of(spec).at(-1), "gone/crashed", "events flow again");
      log.stop();
    });

    await t.test("a daemon that does not answer costs a call its time limit, not more", async (t) => {
      const { spec, log } = await fresh();
      await session.start(spec, { paused: false });
      const thaw = await harness.freezeDaemon();
      const faults = await Promise.all([faultOf(session.list()), faultOf(session.state(spec)), faultOf(session.destroy(spec))]);
      for (const fault of faults) t.ok(isRetryable(fault), fault.kind);
      await thaw();
      // Whether the connection outlived the silence is the driver's affair; the session must work again.
      for (let attempt = 0; ; attempt++) {
        try {
          await session.destroy(spec);
          break;
        } catch (error) {
          if (attempt === 50 || !(error instanceof RoostError) || !isRetryable(error.fault)) throw error;
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }
      t.equal(await stateOf(spec), "defined");
      log.stop();
    });

    await t.test(
      "a kill recipe ends exactly its generation",
      { skip: harness.killable ? false : "nothing that a keeper could end" },
      async (t) => {
        const { spec, log } = await fresh();
        const options = { libvirtTimeoutMs: 5_000, limitMs: 15_000, log: silentLogger };
        const recipe = driver.killRecipe(spec);
        t.ok(await isGone(recipe));
        t.equal((await kill(recipe, options)).by, "absent");
        await session.start(spec, { paused: false });
        t.notOk(await isGone(recipe));
        const older = driver.killRecipe({ vmId: spec.vmId, generation: 6 });
        t.ok(await isGone(older));
        t.equal((await kill(older, options)).by, "absent");
        t.notOk(await isGone(recipe));
        t.not((await kill(JSON.parse(JSON.stringify(recipe)) as typeof recipe, options)).by, "absent", "recipes travel as JSON");
        t.ok(await isGone(recipe));
        await log.gone(spec);
        t.equal(log.of(spec).at(-1), "gone/destroyed");
        log.stop();
      },
    );

    await t.test("domains start side by side", async (t) => {
      const vms = await Promise.all(Array.from({ length: 4 }, () => fresh()));
      await Promise.all(vms.map(({ spec }) => session.start(spec, { paused: true })));
      const running = new Set((await session.list()).filter((status) => status.state === "paused").map((status) => status.vmId));
      t.ok(vms.every(({ spec }) => running.has(spec.vmId)));
      await Promise.all(vms.map(({ spec }) => session.destroy(spec)));
      t.notOk((await session.list()).some((status) => status.state !== "defined"));
      for (const { log } of vms) log.stop();
    });

    await t.test("what is not supported is refused", async (t) => {
      const { actions } = await driver.capabilities();
      const { spec, log } = await fresh();
      for (const action of ACTIONS.filter((action) => !actions.includes(action))) {
        const call = {
          shutdown: "shutdown",
          destroy: "destroy",
          reset: "reset",
          pause: "pause",
          resume: "resume",
          stats: "stats",
        } as const;
        const method = call[action as keyof typeof call];
        t.equal((await faultOf(session[method](spec))).kind, "unsupported", action);
      }
      t.pass("every action outside capabilities().actions was refused");
      log.stop();
    });

    await t.test("sessions are counted and return to zero", async (t) => {
      t.equal(driver.sessions(), 1);
      const { maxSessions } = await driver.capabilities();
      const more = await Promise.all(Array.from({ length: maxSessions - 1 }, () => driver.login()));
      t.equal(driver.sessions(), maxSessions);
      t.equal((await faultOf(driver.login())).kind, "exhausted");
      for (const one of more) await one.logout();
      await session.logout();
      await session.logout();
      t.equal(driver.sessions(), 0);
      t.equal((await faultOf(session.list())).kind, "precondition", "a session ends with its logout");
      session = await driver.login();
      await session.logout();
      t.equal(driver.sessions(), 0);
    });
  });
}
