/** Preparing and cleaning a VM's volumes, on real folders with raw volumes (which need no image tools). */
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { clean, DiskHeld, type Pools, prepare, takeBack, volumeName } from "../../src/agent/volumes.ts";
import { RoostError } from "../../src/base/errors.ts";
import type { BootDefinition, DiskDefinition, Vm } from "../../src/model/vm.ts";
import { openPool } from "../../src/storage/open.ts";
import type { StoragePool } from "../../src/storage/pool.ts";
import { errorOf, faultOf, poolRow } from "../storage/support.ts";

const ID = "0b5c1f0e-0000-4000-8000-000000000001";
const KIB = 1024;

// Much of it waits for the disk.
t.setTimeout(180_000);

function disk(over: Partial<DiskDefinition> = {}): DiskDefinition {
  return {
    pool: "p",
    source: "p/base.raw",
    sizeBytes: null,
    clone: true,
    format: "raw",
    target: "vda",
    bus: "virtio",
    device: "disk",
    readonly: false,
    cache: "none",
    ...over,
  };
}

function vm(generation: number, disks: DiskDefinition[], boot: BootDefinition | null = null): Vm {
  return {
    id: ID,
    number: 1,
    definition: {
      name: "web",
      cpus: 1,
      memoryMib: 64,
      arch: "x86_64",
      boot,
      disks,
      nics: [],
      labels: {},
      restart: "always",
      ha: { enabled: null, priority: 0, onQuorumLoss: "stop" },
    },
    createdAtMs: 0,
    revision: 1,
    desired: { power: "on", how: "graceful", deleted: false, hold: false, nodeId: null },
    state: "prolog",
    stateSinceMs: 0,
    reason: null,
    pendingReasons: [],
    claim: { nodeId: "a", generation, deadline: true, sinceMs: 0 },
    generation,
    homeNodeId: null,
    underHa: true,
    warnings: [],
    failures: 0,
    retryAtMs: 0,
    history: [],
    failover: null,
  };
}

/** Two shared pools, p and q, as nodes a and b see them, with a base image and a kernel in p. */
async function twoNodes(t: Test): Promise<{ folder: string; other: string; a: Pools; b: Pools }> {
  const root = t.testdir();
  const folder = join(root, "p");
  const other = join(root, "q");
  await mkdir(join(folder, "boot"), { recursive: true });
  await mkdir(other);
  await writeFile(join(folder, "base.raw"), Buffer.alloc(4 * KIB, "b"));
  await writeFile(join(folder, "boot/vmlinuz"), "kernel");
  await writeFile(join(folder, "boot/initrd"), "initrd");
  const poolsOf = async (nodeId: string): Promise<Pools> =>
    new Map([
      ["p", await openPool(poolRow(folder), { nodeId, mayInitialise: true })],
      ["q", await openPool(poolRow(other, { id: "p2", name: "q" }), { nodeId, mayInitialise: true })],
    ]);
  return { folder, other, a: await poolsOf("a"), b: await poolsOf("b") };
}

/** The pool with one operation done otherwise. */
function replaced<K extends "clone" | "attach">(pool: StoragePool, name: K, instead: StoragePool[K]): StoragePool {
  return new Proxy(pool, {
    get: (target, key) => {
      if (key === name) return instead;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Names in a pool's folder that are roost's doing for the VM. */
async function ours(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.includes(ID) || name.startsWith(".roost-tmp")).sort();
}

await t.test("copies, empty disks and sources in place", async (t) => {
  const { folder, other, a } = await twoNodes(t);
  const row = vm(
    1,
    [
      disk(),
      disk({ target: "vdb", source: null, sizeBytes: 8 * KIB, pool: "q", cache: "writeback" }),
      disk({ target: "vdc", sizeBytes: 16 * KIB, pool: "q" }),
      disk({ target: "sda", bus: "sata", device: "cdrom", source: "p/boot/vmlinuz", clone: false, readonly: true }),
    ],
    { kernel: "p/boot/vmlinuz", initrd: "p/boot/initrd", cmdline: "quiet" },
  );
  const prepared = await prepare(row, a);
  t.same(prepared, {
    boot: { kernelPath: join(folder, "boot/vmlinuz"), initrdPath: join(folder, "boot/initrd"), cmdline: "quiet" },
    disks: [
      {
        source: { kind: "file", path: join(folder, `vm-${ID}-vda.raw`), format: "raw" },
        target: "vda",
        bus: "virtio",
        device: "disk",
        readonly: false,
        cache: "none",
      },
      {
        source: { kind: "file", path: join(other, `vm-${ID}-vdb.raw`), format: "raw" },
        target: "vdb",
        bus: "virtio",
        device: "disk",
        readonly: false,
        cache: "writeback",
      },
      {
        source: { kind: "file", path: join(other, `vm-${ID}-vdc.raw`), format: "raw" },
        target: "vdc",
        bus: "virtio",
        device: "disk",
        readonly: false,
        cache: "none",
      },
      {
        source: { kind: "file", path: join(folder, "boot/vmlinuz"), format: "raw" },
        target: "sda",
        bus: "sata",
        device: "cdrom",
        readonly: true,
        cache: "none",
      },
    ],
  });
  t.equal(await readFile(join(folder, `vm-${ID}-vda.raw`), "utf8"), "b".repeat(4 * KIB));
  t.equal((await stat(join(other, `vm-${ID}-vdb.raw`))).size, 8 * KIB);
  t.equal(await readFile(join(other, `vm-${ID}-vdc.raw`), "utf8"), "b".repeat(4 * KIB) + "\0".repeat(12 * KIB), "grown after the copy");
  t.same(await ours(folder), [`vm-${ID}-vda.raw`, `vm-${ID}.generation-1`]);
  t.same(await prepare(row, a), prepared, "twice is once");

  await clean(row, a);
  t.same(await ours(folder), []);
  t.same(await ours(other), []);
  t.same((await readdir(folder)).sort(), [".roost-pool", "base.raw", "boot"], "sources stay");
  await clean(row, a);
});

await t.test("another node finds the disks as they were left", async (t) => {
  const { folder, a, b } = await twoNodes(t);
  await prepare(vm(1, [disk()]), a);
  await writeFile(join(folder, `vm-${ID}-vda.raw`), Buffer.alloc(4 * KIB, "w"));
  await rm(join(folder, "base.raw"));
  await prepare(vm(2, [disk()]), b);
  t.equal(
    await readFile(join(folder, `vm-${ID}-vda.raw`), "utf8"),
    "w".repeat(4 * KIB),
    "what the VM wrote; its source is not needed any more",
  );
  t.same(
    await ours(folder),
    [`vm-${ID}-vda.raw`, `vm-${ID}.generation-1`, `vm-${ID}.generation-2`],
    "one generation back is kept for messages",
  );

  const stale = { kind: "conflict", reason: /generation 2 of vm-.* is marked in pool "p"; this node still works on generation 1/ };
  t.match(await faultOf(prepare(vm(1, [disk()]), a)), stale, "the node before is stale");
  t.match(await faultOf(clean(vm(1, [disk()]), a)), stale, "and deletes nothing");
  t.equal(await readFile(join(folder, `vm-${ID}-vda.raw`), "utf8"), "w".repeat(4 * KIB));
  t.match(
    await faultOf(prepare(vm(2, [disk()]), a)),
    { kind: "conflict", reason: /generation 2 .* is marked by node b/ },
    "one generation, one node",
  );
  await clean(vm(2, [disk()]), b);
  t.same(await ours(folder), []);
});

await t.test("a source in place is marked too, and never deleted", async (t) => {
  const { folder, a, b } = await twoNodes(t);
  const row = (generation: number): Vm => vm(generation, [disk({ clone: false, pool: "q" })]);
  t.match(await prepare(row(3), a), { disks: [{ source: { path: join(folder, "base.raw") } }] });
  t.match(await faultOf(prepare(row(2), b)), { kind: "conflict" });
  await clean(row(3), a);
  t.same(await ours(folder), []);
  t.equal((await stat(join(folder, "base.raw"))).size, 4 * KIB);
});

await t.test("a volume that was lost is not made anew", async (t) => {
  const { folder, a, b } = await twoNodes(t);
  await prepare(vm(1, [disk()]), a);
  await rm(join(folder, `vm-${ID}-vda.raw`));
  for (const [generation, node] of [
    [1, a],
    [2, b],
    [3, b],
  ] as const) {
    const error = await errorOf(prepare(vm(generation, [disk()]), node));
    t.match(error.fault, { kind: "damaged", what: /disk vda of VM web: its volume .*-vda\.raw was in pool "p" and is gone/ });
    t.match(error.hint, /backup/);
  }
  t.same(
    (await ours(folder)).filter((name) => name.endsWith(".raw")),
    [],
  );
  await clean(vm(3, [disk()]), b);
  t.same(await ours(folder), [], "deleting such a VM still works");
  await prepare(vm(4, [disk()]), b);
});

await t.test("a disk that is still open elsewhere is told with who had it", async (t) => {
  const { a, b } = await twoNodes(t);
  await prepare(vm(1, [disk()]), a);
  const pool = b.get("p");
  if (pool === undefined) return t.fail("no pool");
  const held = new Map(b).set(
    "p",
    replaced(pool, "attach", async (name, want) => {
      if (!want.exclusive) return await pool.attach(name, want);
      throw new RoostError({ kind: "conflict", reason: `${name} is held` }, "wait");
    }),
  );
  const error = await errorOf(prepare(vm(2, [disk()]), held));
  t.ok(error instanceof DiskHeld, "told apart from other conflicts: it is no failure of the VM");
  t.match(error.fault, { kind: "conflict", reason: `vm-${ID}-vda.raw is held; before, node a had it (generation 0.1)` });
  t.equal(error.hint, "wait");
  await prepare(vm(2, [disk()]), b);
});

await t.test("only a shareable source may be open elsewhere", async (t) => {
  const { a } = await twoNodes(t);
  const pool = a.get("p");
  if (pool === undefined) return t.fail("no pool");
  const asked: boolean[] = [];
  const noting = new Map(a).set(
    "p",
    replaced(pool, "attach", async (name, want) => {
      asked.push(want.exclusive);
      return await pool.attach(name, want);
    }),
  );
  const inPlace = { clone: false, source: "p/base.raw" } as const;
  await prepare(vm(1, [disk(inPlace)]), noting);
  t.ok(asked.includes(true), "another writer of a disk of one's own is looked for");
  asked.length = 0;
  t.match(await prepare(vm(1, [disk({ ...inPlace, shareable: true })]), noting), { disks: [{ shareable: true }] });
  t.notOk(asked.includes(true), "of a shareable one nobody is");
});

await t.test("a node that became stale in the middle of a copy does not publish it", async (t) => {
  const { folder, a, b } = await twoNodes(t);
  const slow = a.get("p");
  if (slow === undefined) return t.fail("no pool");
  // While node a copies, node b takes over and cleans up: a must not leave a disk that nobody owns.
  const between = new Map(a).set(
    "p",
    replaced(slow, "clone", async (...args) => {
      await prepare(vm(2, [disk()]), b);
      await clean(vm(2, [disk()]), b);
      return await slow.clone(...args);
    }),
  );
  t.match(await faultOf(prepare(vm(1, [disk()]), between)), { kind: "conflict", reason: /generation 1 .* is no longer marked/ });
  t.same(await ours(folder), []);
});

await t.test("everything wrong is told at once, and nothing is made", async (t) => {
  const { folder, other, a } = await twoNodes(t);
  await writeFile(join(folder, "disk.vmdk"), "KDMV");
  const disks = [
    disk(),
    disk({ target: "vdb", source: "p/none.raw" }),
    disk({ target: "vdc", source: "nopool/x.raw" }),
    disk({ target: "vdd", source: "p/../../etc/passwd" }),
    disk({ target: "vde", source: null }),
    disk({ target: "vdf", source: "p/disk.vmdk" }),
    disk({ target: "vdg", clone: false, format: "qcow2" }),
    disk({ target: "vdh", clone: false, sizeBytes: 8 * KIB }),
    disk({ target: "vdi", pool: "nopool" }),
  ];
  const error = await errorOf(prepare(vm(1, disks, { kernel: "p/none", initrd: "p/.roost-pool", cmdline: "" }), a));
  t.match(error.fault, { kind: "invalid" });
  const told = error.fault.kind === "invalid" ? error.fault.violations.map((v) => `${v.field}: ${v.message}`) : [];
  t.same(told, [
    `boot.kernel: no file in pool "p" (${folder}) is named "none"`,
    `boot.initrd: ".roost-pool" is no name of a file in a pool`,
    `disks[1].source: no file in pool "p" (${folder}) is named "none.raw"`,
    `disks[2].source: no pool (nopool/x.raw) is named "nopool"`,
    `disks[3].source: "../../etc/passwd" is no name of a file in a pool`,
    `disks[4].size: an empty disk needs a size`,
    `disks[5].source: disk.vmdk is vmdk, which cannot be used as a disk`,
    `disks[6].source: base.raw is raw, not qcow2`,
    `disks[7].size: a disk with clone: false keeps the size of its source, 4096 bytes`,
    `disks[8].source: no pool (the disk's pool) is named "nopool"`,
  ]);
  t.match(error.hint, new RegExp(`copy it to ${join(folder, "none")}; .*there are: p, q`));
  t.same(await ours(folder), []);
  t.same(await ours(other), []);

  const tooSmall = await errorOf(prepare(vm(1, [disk({ sizeBytes: 512 })]), a));
  t.match(tooSmall.fault, {
    kind: "invalid",
    violations: [{ field: "disks[0].size", message: /512 is smaller than the source .*base\.raw, which has 4096/ }],
  });
});

await t.test("a pool that is not there is a matter of time, not of the definition", async (t) => {
  const { folder, a } = await twoNodes(t);
  await rm(join(folder, ".roost-pool"));
  t.match(await faultOf(prepare(vm(1, [disk()]), a)), { kind: "unavailable", reason: /holds no marker of pool "p"/ });
  t.match(await faultOf(clean(vm(1, [disk()]), a)), { kind: "unavailable" });
  t.match(await faultOf(prepare({ ...vm(1, []), claim: null }, a)), { kind: "precondition" });
  t.same(await prepare(vm(1, []), new Map()), { boot: null, disks: [] }, "a VM without disks needs no pool");
});

await t.test("what a start made is taken back, what was there before stays", async (t) => {
  const { folder, other, a, b } = await twoNodes(t);
  const raw = `vm-${ID}-vda.raw`;
  const second = disk({ target: "vdb", source: null, sizeBytes: 8 * KIB, pool: "q" });
  const steps: string[] = [];
  const step = (name: string, detail: string): void => void steps.push(`${name}: ${detail}`);

  await prepare(vm(1, [disk(), second]), a, { step });
  await takeBack(vm(1, [disk(), second]), a, { step });
  t.same(await ours(folder), []);
  t.same(await ours(other), []);
  t.same(steps, [
    `disk copy started: p/base.raw to p/${raw}`,
    `disk copy finished: p/${raw}, 4KiB`,
    `disk made: q/vm-${ID}-vdb.raw, 8KiB`,
    `disk deleted: p/${raw}`,
    `disk deleted: q/vm-${ID}-vdb.raw`,
  ]);
  await takeBack(vm(1, [disk(), second]), a);

  await prepare(vm(2, [disk()]), a);
  await writeFile(join(folder, raw), Buffer.alloc(4 * KIB, "w"));
  await prepare(vm(3, [disk(), second]), b);
  await takeBack(vm(3, [disk(), second]), b);
  t.equal(await readFile(join(folder, raw), "utf8"), "w".repeat(4 * KIB), "an older generation's");
  t.same(await ours(other), [], "its own");
  t.match(await faultOf(takeBack(vm(2, [disk()]), a)), { kind: "conflict" }, "a stale node takes nothing back");
  t.equal((await stat(join(folder, raw))).size, 4 * KIB);
  t.match(await prepare(vm(4, [disk(), second]), b), { disks: [{ target: "vda" }, { target: "vdb" }] }, "and it can be tried again");
});

await t.test("a crash at any moment of making and taking back leaves what can be taken back", { timeout: 120_000 }, async (t) => {
  const raw = `vm-${ID}-vda.raw`;
  const broken = new RoostError({ kind: "unavailable", reason: "killed" });
  /** The pool of a process that dies at its `at`th call that changes something, before or after it. */
  const dying = (pool: StoragePool, at: number, after: boolean): StoragePool => {
    let calls = 0;
    return new Proxy(pool, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        const changes = ["mark", "recordVolumes", "clone", "delete", "unmark"].includes(String(key));
        return async (...args: unknown[]): Promise<unknown> => {
          const now = changes ? ++calls : 0;
          if (now === at && !after) throw broken;
          const result: unknown = await value.apply(target, args);
          if (now === at && after) throw broken;
          return result;
        };
      },
    });
  };
  // `before`: with a generation before, which has the disk; or without.
  for (const [first, after, before] of [
    ["prepare", true, false],
    ["prepare", false, true],
    ["takeBack", true, false],
    ["takeBack", false, true],
  ] as const) {
    for (let at = 1; ; at++) {
      const { folder, a } = await twoNodes(t);
      const pool = a.get("p");
      if (pool === undefined) return t.fail("no pool");
      if (before) {
        await prepare(vm(1, [disk()]), a);
        await writeFile(join(folder, raw), Buffer.alloc(4 * KIB, "w"));
      }
      if (first === "takeBack") await prepare(vm(2, [disk()]), a);
      const broke = await (first === "prepare" ? prepare : takeBack)(vm(2, [disk()]), new Map(a).set("p", dying(pool, at, after))).then(
        () => false,
        (error: unknown) => error === broken,
      );
      await takeBack(vm(2, [disk()]), a);
      const label = `${first} died ${after ? "after" : "before"} change ${at}`;
      t.equal((await ours(folder)).includes(raw), before, `${label}: only an older generation's disk is left`);
      await prepare(vm(3, [disk()]), a);
      t.equal(await readFile(join(folder, raw), "utf8"), (before ? "w" : "b").repeat(4 * KIB), `${label}: the next start finds it`);
      if (!broke) break;
    }
  }
});

await t.test("runs at the same time end with one volume", async (t) => {
  const { folder, a } = await twoNodes(t);
  const all = await Promise.allSettled(Array.from({ length: 8 }, () => prepare(vm(1, [disk()]), a)));
  t.ok(all.some((one) => one.status === "fulfilled"));
  for (const one of all) {
    // They look at each other's locks while they look: told as a conflict, which is tried again.
    if (one.status === "rejected") t.match(one.reason, { fault: { kind: "conflict" } });
  }
  t.same(await ours(folder), [volumeName(ID, disk()), `vm-${ID}.generation-1`]);
});
