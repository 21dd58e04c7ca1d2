/** The part of a driver's contract that takes two hypervisors: live migration, both halves, taken back and aborted (HA-8, VM-13). */
import { Duplex } from "node:stream";
import t from "tap";
import { RoostError } from "../../src/base/errors.ts";
import type {
  DomainRef,
  DomainSpec,
  DomainState,
  Driver,
  Emigration,
  Immigration,
  PushOptions,
  Session,
} from "../../src/hypervisor/driver.ts";

export interface MigrationHarness {
  source: Driver;
  target: Driver;
  /** A spec for a guest whose volumes both sides reach; `side` for what is a node's own. */
  spec(vm: { vmId: string; generation: number; name: string }, side: "source" | "target"): Promise<DomainSpec>;
  guestReady(spec: DomainSpec): Promise<void>;
  /** Resolves when the guest has done something here; null where guests do nothing. `boots`: how often it says that it began. */
  lives: ((spec: DomainSpec) => Promise<{ boots: number }>) | null;
  /** Another driver on the same hypervisor, as an agent that was started again has; the one before is closed first. */
  again(side: "source" | "target"): Promise<Driver>;
  stop(): Promise<void>;
}

const still = (): AbortSignal => new AbortController().signal;

function options(signal: AbortSignal, seen: number[] = []): PushOptions {
  return { signal, bandwidthMibPerSecond: null, downtimeMs: 300, progress: ({ sentBytes }) => void seen.push(sentBytes) };
}

/** A stream whose other end takes nothing. */
function stuck(): { stream: Duplex; written: Promise<void> } {
  let begun: () => void = () => {};
  const written = new Promise<void>((resolve) => (begun = resolve));
  const stream = new Duplex({ read: () => {}, write: () => begun() });
  return { stream, written };
}

async function faultKind(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof RoostError) return error.fault.kind;
    throw error;
  }
  throw new Error("expected a RoostError, but the call succeeded");
}

export function migrationContract(name: string, makeHarness: () => Promise<MigrationHarness | { skip: string }>): void {
  void t.test(`migration contract: ${name}`, async (t) => {
    const harness = await makeHarness();
    if ("skip" in harness) {
      console.log(`# migration contract on ${name} skipped: ${harness.skip}`);
      t.pass("skipped", { skip: harness.skip });
      return;
    }
    let { source, target } = harness;
    t.teardown(async () => {
      await source.close();
      await target.close();
      await harness.stop();
    });
    let out: Session = await source.login();
    let into: Session = await target.login();
    let count = 0;
    const stateOf = async (session: Session, ref: DomainRef): Promise<DomainState | null> => (await session.state(ref))?.state ?? null;
    /** A VM that runs at the source, and what the target is told of it. */
    const running = async (): Promise<{ here: DomainSpec; there: DomainSpec }> => {
      const vmId = `0a0b0c0d-0000-4000-8000-${String(++count).padStart(12, "0")}`;
      const vmName = `vm ${count} <&>"`;
      const here = await harness.spec({ vmId, generation: 7, name: vmName }, "source");
      await out.define(here);
      await out.start(here, { paused: false });
      await harness.guestReady(here);
      return { here, there: await harness.spec({ vmId, generation: 8, name: vmName }, "target") };
    };
    const begin = async (here: DomainRef, there: DomainSpec): Promise<{ emigration: Emigration; immigration: Immigration }> => {
      const emigration = await out.emigrate(here);
      return { emigration, immigration: await into.immigrate(there, emigration.offer) };
    };
    const whole = async (here: DomainRef, there: DomainSpec, seen: number[] = []): Promise<Immigration> => {
      const { emigration, immigration } = await begin(here, there);
      const receipt = await emigration.push(immigration.ticket, immigration.stream, options(still(), seen));
      await immigration.complete(receipt);
      await emigration.close();
      return immigration;
    };

    await t.test("both drivers say that they can", async (t) => {
      for (const driver of [source, target]) t.ok((await driver.capabilities()).actions.includes("migrate"));
    });

    await t.test("pushed, both are paused; the target goes on where the source stood", async (t) => {
      const { here, there } = await running();
      const seen: number[] = [];
      await whole(here, there, seen);
      t.equal(await stateOf(out, here), "paused");
      t.equal(await stateOf(into, there), "paused");
      t.equal((await into.list()).find((status) => status.vmId === there.vmId)?.generation, 8);
      t.strictSame(
        seen,
        seen.toSorted((a, b) => a - b),
        "progress only grows",
      );
      await out.destroy(here);
      await into.resume(there);
      t.equal(await stateOf(into, there), "running");
      if (harness.lives !== null) t.equal((await harness.lives(there)).boots, 0, "it went on, it did not boot");
      await into.destroy(there);
      t.notOk((await into.list()).some((status) => status.vmId === there.vmId));
    });

    await t.test("a finished push can be taken back", async (t) => {
      const { here, there } = await running();
      const immigration = await whole(here, there);
      await immigration.close();
      t.equal(await stateOf(into, there), "paused", "closing what is complete changes nothing");
      await into.destroy(there);
      await out.resume(here);
      t.equal(await stateOf(out, here), "running");
      if (harness.lives !== null) t.equal((await harness.lives(here)).boots, 1);
      await whole(here, { ...there, generation: 9 });
      await out.destroy(here);
      await into.destroy({ ...there, generation: 9 });
    });

    await t.test("an abort leaves the source running and nothing at the target", async (t) => {
      const { here, there } = await running();
      const { emigration, immigration } = await begin(here, there);
      const abort = new AbortController();
      const { stream, written } = stuck();
      const pushing = emigration.push(immigration.ticket, stream, options(abort.signal));
      pushing.catch(() => {});
      await written;
      abort.abort(new RoostError({ kind: "conflict", reason: "no longer wanted" }));
      t.equal(await faultKind(pushing), "conflict");
      stream.destroy();
      await immigration.close();
      await emigration.close();
      t.equal(await stateOf(out, here), "running");
      t.equal(await stateOf(into, there), null);
      if (harness.lives !== null) t.equal((await harness.lives(here)).boots, 1);
      await whole(here, { ...there, generation: 9 });
      await out.destroy(here);
      await into.destroy({ ...there, generation: 9 });
    });

    await t.test("a stream that breaks costs the migration, not the guest", async (t) => {
      const { here, there } = await running();
      const { emigration, immigration } = await begin(here, there);
      const { stream, written } = stuck();
      const pushing = emigration.push(immigration.ticket, stream, options(still()));
      pushing.catch(() => {});
      await written;
      stream.destroy();
      await faultKind(pushing);
      await immigration.close();
      t.equal(await stateOf(out, here), "running");
      t.equal(await stateOf(into, there), null);
      await out.destroy(here);
    });

    await t.test("what is still arriving cannot run, and can be destroyed", async (t) => {
      const { here, there } = await running();
      const { emigration, immigration } = await begin(here, there);
      t.equal(await stateOf(into, there), "paused");
      await t.rejects(into.resume(there));
      await t.rejects(into.immigrate(there, emigration.offer), "one at a time");
      await into.destroy(there);
      t.equal(await stateOf(into, there), null);
      await t.rejects(immigration.complete(emigration.offer));
      await immigration.close();
      t.equal(await stateOf(out, here), "running");
      await out.destroy(here);
    });

    await t.test("only what runs emigrates, and only to its like", async (t) => {
      const { here, there } = await running();
      await t.rejects(out.emigrate({ vmId: here.vmId, generation: 6 }));
      await t.rejects(into.immigrate(there, new TextEncoder().encode("{}")));
      t.equal(await stateOf(into, there), null);
      await out.destroy(here);
      await t.rejects(out.emigrate(here));
    });

    await t.test("drivers that were started again find both paused, and can take either", async (t) => {
      for (const winner of ["source", "target"] as const) {
        const { here, there } = await running();
        await whole(here, there);
        source = await harness.again("source");
        target = await harness.again("target");
        out = await source.login();
        into = await target.login();
        t.equal(await stateOf(out, here), "paused");
        t.equal(await stateOf(into, there), "paused");
        if (winner === "target") {
          await out.destroy(here);
          await into.resume(there);
          t.equal(await stateOf(into, there), "running");
          await into.destroy(there);
        } else {
          await into.destroy(there);
          await out.resume(here);
          t.equal(await stateOf(out, here), "running");
          await out.destroy(here);
        }
      }
    });
  });
}
