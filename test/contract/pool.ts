/** What every pool driver must do (STO-1); each driver's own test calls `poolContract` with a way to open it. */
import { open } from "node:fs/promises";
import type { Test } from "tap";
import type { VolumeFormat, StoragePool } from "../../src/storage/pool.ts";
import { faultOf } from "../storage/support.ts";

export interface PoolUnderTest {
  name: string;
  formats: readonly VolumeFormat[];
  /** A new, empty pool as seen by two nodes (shared pools), or twice by one. */
  open(t: Test): Promise<{ a: StoragePool; b: StoragePool }>;
}

const MIB = 1024 * 1024;
const BAD_NAMES = [
  "",
  ".",
  "..",
  "../x.raw",
  "a/../../x.raw",
  "/etc/passwd",
  ".hidden",
  "a//b",
  "a/",
  "nbd:x",
  "x,y",
  "x\0y",
  "x\ny",
  "-rf",
  "a/b/c/d/e.raw",
  "é.raw",
  "x".repeat(201),
];

export async function poolContract(t: Test, under: PoolUnderTest): Promise<void> {
  await t.test(`${under.name}: status`, async (t) => {
    const { a, b } = await under.open(t);
    for (const pool of [a, b]) {
      const status = await pool.status();
      t.match(status, { poolId: pool.pool.id, available: true, problem: "" });
      t.ok(status.totalBytes > 0 && status.freeBytes > 0 && status.freeBytes <= status.totalBytes);
    }
  });

  for (const format of under.formats) {
    await t.test(`${under.name}: life of a ${format} volume`, async (t) => {
      const { a, b } = await under.open(t);
      t.equal(await a.stat(`v.${format}`), null);
      t.match(await a.create(`v.${format}`, { format, sizeBytes: MIB }), { name: `v.${format}`, format, sizeBytes: MIB });
      t.match(await b.stat(`v.${format}`), { name: `v.${format}`, format, sizeBytes: MIB }, "the other node sees it");
      t.match(await faultOf(b.create(`v.${format}`, { format, sizeBytes: 2 * MIB })), { kind: "exists" }, "and cannot make it again");
      t.match(await b.stat(`v.${format}`), { sizeBytes: MIB }, "which changed nothing");

      t.match(await a.resize(`v.${format}`, 3 * MIB), { sizeBytes: 3 * MIB });
      t.match(await a.resize(`v.${format}`, 3 * MIB), { sizeBytes: 3 * MIB }, "twice is once");
      t.match(await faultOf(a.resize(`v.${format}`, MIB)), { kind: "invalid", violations: [{ field: "sizeBytes" }] }, "never smaller");
      t.match(await a.list(), [{ name: `v.${format}`, format, sizeBytes: 3 * MIB }]);

      await a.delete(`v.${format}`);
      await a.delete(`v.${format}`);
      t.same(await a.list(), []);
    });

    for (const other of under.formats) {
      await t.test(`${under.name}: full copy ${format} → ${other}`, async (t) => {
        const { a } = await under.open(t);
        await a.create(`from.${format}`, { format, sizeBytes: MIB });
        const source = await a.attach(`from.${format}`, { format: null, exclusive: false });
        t.equal(source.format, format);
        t.match(await faultOf(a.clone(source, "small", { format: other, sizeBytes: MIB / 2 })), {
          kind: "invalid",
          violations: [{ field: "sizeBytes" }],
        });
        t.equal(await a.stat("small"), null, "what is refused leaves nothing");
        t.match(await a.clone(source, `same.${other}`, { format: other, sizeBytes: null }), { format: other, sizeBytes: MIB });
        t.match(await a.clone(source, `grown.${other}`, { format: other, sizeBytes: 2 * MIB }), { format: other, sizeBytes: 2 * MIB });
        t.match(await a.stat(`from.${format}`), { sizeBytes: MIB }, "the source is as it was");
        t.match(await faultOf(a.clone(source, `same.${other}`, { format: other, sizeBytes: null })), { kind: "exists" });
        await a.delete(`from.${format}`);
        t.match(await a.attach(`same.${other}`, { format: other, exclusive: true }), { format: other }, "the copy stands alone");
        t.equal((await a.list()).length, 2, "nothing unfinished lies about");
      });
    }
  }

  await t.test(`${under.name}: a copy has the source's bytes`, async (t) => {
    const { a } = await under.open(t);
    await a.create("from.raw", { format: "raw", sizeBytes: MIB });
    const source = await a.attach("from.raw", { format: "raw", exclusive: true });
    await writeAt(source.path, 12_345, "roost was here");
    let last = source;
    for (const [i, format] of [...under.formats, "raw" as const].entries()) {
      await a.clone(last, `copy${i}.${format}`, { format, sizeBytes: null });
      last = await a.attach(`copy${i}.${format}`, { format, exclusive: true });
    }
    t.equal(await readAt(last.path, 12_345, 14), "roost was here");
  });

  await t.test(`${under.name}: what stops a copy at its end leaves nothing`, async (t) => {
    const { a, b } = await under.open(t);
    await a.create("from.raw", { format: "raw", sizeBytes: MIB });
    const source = await a.attach("from.raw", { format: "raw", exclusive: false });
    const refuse = async (): Promise<void> => {
      throw new Error("not yours any more");
    };
    await t.rejects(a.clone(source, "to.raw", { format: "raw", sizeBytes: null }, { confirm: refuse }), { message: /not yours any more/ });
    t.equal(await a.stat("to.raw"), null);

    // The other node makes the same volume while ours is complete but not yet named: theirs stays.
    const faster = async (): Promise<void> => void (await b.create("to.raw", { format: "raw", sizeBytes: 2 * MIB }));
    t.match(await faultOf(a.clone(source, "to.raw", { format: "raw", sizeBytes: null }, { confirm: faster })), { kind: "exists" });
    t.match(await a.stat("to.raw"), { sizeBytes: 2 * MIB }, "the faster node's volume is not replaced");

    const stop = AbortSignal.abort();
    t.match(await faultOf(a.clone(source, "late.raw", { format: "raw", sizeBytes: null }, { signal: stop })), {
      kind: "unavailable",
      reason: /stopped/,
    });
    t.same(
      (await a.list()).map((volume) => volume.name),
      ["from.raw", "to.raw"],
    );
  });

  await t.test(`${under.name}: names never lead out of the pool`, async (t) => {
    const { a } = await under.open(t);
    for (const name of BAD_NAMES) {
      const shown = JSON.stringify(name.slice(0, 20));
      const invalid = { kind: "invalid", violations: [{ field: "name" }] };
      t.match(await faultOf(a.create(name, { format: "raw", sizeBytes: 512 })), invalid, `create ${shown}`);
      t.match(await faultOf(a.delete(name)), invalid, `delete ${shown}`);
      t.match(await faultOf(a.stat(name)), invalid, `stat ${shown}`);
      t.match(await faultOf(a.resize(name, 512)), invalid, `resize ${shown}`);
      t.match(await faultOf(a.attach(name, { format: "raw", exclusive: false })), invalid, `attach ${shown}`);
      t.match(await faultOf(a.file(name)), invalid, `file ${shown}`);
      t.match(await faultOf(a.mark(name, 1)), invalid, `mark ${shown}`);
    }
    t.match(await faultOf(a.create("folder/x.raw", { format: "raw", sizeBytes: 512 })), { kind: "invalid" }, "volumes are made at the top");
    t.same(await a.list(), []);
  });

  await t.test(`${under.name}: sizes`, async (t) => {
    const { a } = await under.open(t);
    for (const sizeBytes of [0, -512, 511, 1.5, NaN, Infinity, 2 ** 60]) {
      t.match(
        await faultOf(a.create("x.raw", { format: "raw", sizeBytes })),
        { kind: "invalid", violations: [{ field: "sizeBytes" }] },
        String(sizeBytes),
      );
    }
    t.match(await faultOf(a.attach("none.raw", { format: null, exclusive: false })), { kind: "not-found", name: "none.raw" });
    t.match(await faultOf(a.resize("none.raw", 512)), { kind: "not-found", name: "none.raw" });
    t.match(await faultOf(a.file("none")), { kind: "not-found", name: "none" });
  });

  await t.test(`${under.name}: capabilities are the truth`, async (t) => {
    const { a } = await under.open(t);
    t.equal(a.capabilities.shared, a.pool.shared);
    await a.create("x.raw", { format: "raw", sizeBytes: 512 });
    if (!a.capabilities.snapshot) t.match(await faultOf(a.snapshot("x.raw", "s")), { kind: "unsupported" });
    if (!a.capabilities.snapshot) t.match(await faultOf(a.rollback("x.raw", "s")), { kind: "unsupported" });
    if (!a.capabilities.fence) t.match(await faultOf(a.fence("vm-1", 2)), { kind: "unsupported" });
  });

  await t.test(`${under.name}: generations`, async (t) => {
    const { a, b } = await under.open(t);
    t.match(await a.mark("vm-1", 5), { owner: "vm-1", generation: 5, volumes: [], previous: null });
    t.match(await a.mark("vm-1", 5), { generation: 5, previous: null }, "twice is once");
    await a.recordVolumes("vm-1", 5, { volumes: ["vm-1-vda.raw"], making: ["vm-1-vda.raw"] });
    t.match(await a.mark("vm-1", 5), { volumes: ["vm-1-vda.raw"], making: ["vm-1-vda.raw"] }, "what it set out to make is not forgotten");
    t.match(
      await b.mark("vm-1", 6),
      { generation: 6, volumes: ["vm-1-vda.raw"], making: [], previous: { generation: 5 } },
      "a higher one takes over with the volumes, and made none of them",
    );
    t.match(await b.readMark("vm-1", 6), { generation: 6, volumes: ["vm-1-vda.raw"], making: [], previous: { generation: 5 } });
    t.equal(await b.readMark("vm-1", 7), null, "reading adds none");
    await b.checkMark("vm-1", 6, "none above");

    const stale = { kind: "conflict", reason: /generation 6 of vm-1 is marked/ };
    t.match(await faultOf(a.mark("vm-1", 5)), stale, "the lower one is stale");
    t.match(await faultOf(a.checkMark("vm-1", 5, "own")), stale);
    t.match(await faultOf(a.checkMark("vm-1", 5, "none above")), stale);
    t.match(await faultOf(a.recordVolumes("vm-1", 5, { volumes: [], making: [] })), stale);
    t.match(await faultOf(a.unmark("vm-1", 5)), stale);
    await b.checkMark("vm-1", 6, "own");

    t.match(await b.mark("vm-1", 9), { volumes: ["vm-1-vda.raw"], previous: { generation: 6 } });
    t.match(await b.mark("vm-1", 2 ** 52 + 1), { previous: { generation: 9 } }, "generations of a recovered cluster are large");
    t.match(await a.mark("vm-10", 1), { previous: null }, "owners are told apart by their whole name");
    await b.unmark("vm-1", 2 ** 52 + 1);
    await b.checkMark("vm-1", 1, "none above");
    t.match(await faultOf(b.checkMark("vm-1", 1, "own")), { kind: "conflict" }, "forgotten");
    await a.checkMark("vm-10", 1, "own");
    t.same(await a.list(), [], "marks are no volumes");
  });
}

async function writeAt(path: string, position: number, text: string): Promise<void> {
  const handle = await open(path, "r+");
  try {
    await handle.write(text, position);
  } finally {
    await handle.close();
  }
}

async function readAt(path: string, position: number, bytes: number): Promise<string> {
  const handle = await open(path, "r");
  try {
    const { buffer } = await handle.read(Buffer.alloc(bytes), 0, bytes, position);
    return buffer.toString();
  } finally {
    await handle.close();
  }
}
