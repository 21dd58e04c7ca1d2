/** Pool driver `dir` against the real qemu-img and real file systems (package qemu-utils). */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, watch } from "node:fs";
import { chmod, mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";
import t from "tap";
import { openPool } from "../../src/storage/open.ts";
import type { StoragePool } from "../../src/storage/pool.ts";
import { poolContract } from "../contract/pool.ts";
import { errorOf, faultOf, poolRow } from "./support.ts";

const MIB = 1024 * 1024;
const COPIER = fileURLToPath(new URL("./fixtures/copier.ts", import.meta.url));
const MOUNTS = fileURLToPath(new URL("./fixtures/mounts.ts", import.meta.url));

await poolContract(t, {
  name: "dir, shared",
  formats: ["raw", "qcow2"],
  open: async (t) => {
    const folder = t.testdir();
    return {
      a: await openPool(poolRow(folder), { nodeId: "a", mayInitialise: true }),
      b: await openPool(poolRow(folder), { nodeId: "b", mayInitialise: false }),
    };
  },
});

await poolContract(t, {
  name: "dir, local",
  formats: ["raw", "qcow2"],
  open: async (t) => {
    const row = poolRow(join(t.testdir(), "made/by/us"), { shared: false });
    return { a: await openPool(row, { nodeId: "a", mayInitialise: true }), b: await openPool(row, { nodeId: "a", mayInitialise: false }) };
  },
});

async function shared(folder: string, nodeId = "a"): Promise<StoragePool> {
  return await openPool(poolRow(folder), { nodeId, mayInitialise: true });
}

await t.test("identity: the folder must be this pool's", async (t) => {
  const root = t.testdir({ one: {}, two: {}, file: "" });
  const one = join(root, "one");
  const problem = async (pool: Promise<StoragePool>): Promise<string> => {
    const opened = await pool;
    const status = await opened.status();
    t.match(status, { available: false, totalBytes: 0, freeBytes: 0 });
    const fault = await faultOf(opened.create("x.raw", { format: "raw", sizeBytes: 512 }));
    t.match(fault, { kind: "unavailable" }, "and nothing is made there");
    return status.problem;
  };

  const noMarker = await problem(openPool(poolRow(one), { nodeId: "b", mayInitialise: false }));
  t.equal(noMarker, `${one} holds no marker of pool "p": is it the same folder on each node, and mounted here?`);
  await shared(one);
  t.match(
    await problem(openPool(poolRow(one, { id: "p2", name: "q" }), { nodeId: "a", mayInitialise: true })),
    /belongs to another pool \(p1\), not to "q" \(p2\)/,
  );
  t.match(
    await problem(openPool(poolRow(one, { shared: false }), { nodeId: "a", mayInitialise: true })),
    /was made as a shared pool, but "p" is local now/,
  );
  t.match(await problem(openPool(poolRow("rel/path"), { nodeId: "a", mayInitialise: true })), /must begin with \//);
  t.match(await problem(openPool(poolRow(join(root, "file")), { nodeId: "a", mayInitialise: true })), /is no folder/);
  const missing = join(root, "missing");
  t.match(
    await problem(openPool(poolRow(missing), { nodeId: "a", mayInitialise: true })),
    /does not exist on this node: make it, or mount the share there/,
  );
  t.notOk(existsSync(missing), "a missing shared folder is a missing mount: not made");

  const two = poolRow(join(root, "two"), { shared: false });
  await openPool(two, { nodeId: "a", mayInitialise: true });
  t.match(
    await problem(openPool(two, { nodeId: "b", mayInitialise: true })),
    /in use by node a: if the nodes see the same folder, the pool must be created as shared/,
  );
  await writeFile(join(root, "two/.roost-pool"), "{");
  t.match(
    await problem(openPool(two, { nodeId: "a", mayInitialise: true })),
    /\.roost-pool is damaged: write \{"poolId":"p1","shared":false,"nodeId":"a"\} into it/,
  );
});

await t.test("a mount that goes and comes back", async (t) => {
  const root = t.testdir({ mnt: {} });
  const path = join(root, "mnt");
  const pool = await shared(path);
  await pool.create("v.raw", { format: "raw", sizeBytes: 512 });
  await rename(path, join(root, "away"));
  await mkdir(path);
  t.match(await pool.status(), { available: false, problem: /holds no marker/ });
  t.match(await faultOf(pool.stat("v.raw")), { kind: "unavailable" }, "not: there is no such volume");
  t.match(
    await faultOf(pool.clone({ kind: "file", path: join(root, "away/v.raw"), format: "raw" }, "w.raw", { format: "raw", sizeBytes: null })),
    { kind: "unavailable" },
  );
  t.same(await readdir(path), [], "nothing is written beneath the mount point");
  await rm(path, { recursive: true });
  await rename(join(root, "away"), path);
  t.match(await pool.status(), { available: true, problem: "" });
  t.match(await pool.stat("v.raw"), { name: "v.raw" });
});

await t.test("links lead nowhere outside", async (t) => {
  const root = t.testdir({ secret: "root:x", pool: { images: { "k.raw": "x".repeat(512) } }, out: { "v.raw": "x".repeat(512) } });
  const pool = await shared(join(root, "pool"));
  await symlink("/etc/passwd", join(root, "pool/passwd"));
  await symlink("../secret", join(root, "pool/up"));
  await symlink(join(root, "out"), join(root, "pool/folder"));
  await symlink("images/k.raw", join(root, "pool/inside.raw"));
  await symlink("gone", join(root, "pool/dangling.raw"));
  for (const name of ["passwd", "up", "folder/v.raw"]) {
    const denied = { kind: "denied", reason: /leads out of pool "p"/ };
    t.match(await faultOf(pool.file(name)), denied, `file ${name}`);
    t.match(await faultOf(pool.stat(name)), denied, `stat ${name}`);
    t.match(await faultOf(pool.attach(name, { format: "raw", exclusive: false })), denied, `attach ${name}`);
    t.match(await faultOf(pool.resize(name, 1024)), denied, `resize ${name}`);
    t.match(await faultOf(pool.delete(name)), denied, `delete ${name}`);
  }
  t.equal(await readFile(join(root, "out/v.raw"), "utf8"), "x".repeat(512));
  t.equal(await pool.file("inside.raw"), join(root, "pool/images/k.raw"), "inside they are followed, and the real path is given");
  t.match(await faultOf(pool.create("dangling.raw", { format: "raw", sizeBytes: 512 })), { kind: "exists" }, "never written through");
  t.match(await faultOf(pool.file("images")), { kind: "invalid", violations: [{ message: /no regular file/ }] });
  t.same(await pool.list(), [], "links and folders are not listed");
});

await t.test("images that refer to other files, and foreign formats", async (t) => {
  const root = t.testdir({ pool: {} });
  const path = join(root, "pool");
  const pool = await shared(path);
  const qemuImg = (...args: string[]): Buffer => execFileSync("qemu-img", args, { cwd: path });
  qemuImg("create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", "backed.qcow2");
  qemuImg("create", "-q", "-f", "qcow2", "-o", `data_file=${join(root, "outside")},data_file_raw=on`, "split.qcow2", "1M");
  qemuImg("create", "-q", "-f", "vmdk", "disk.vmdk", "1M");
  qemuImg("create", "-q", "-f", "vdi", "disk.vdi", "1M");
  qemuImg("create", "-q", "-f", "vhdx", "disk.vhdx", "1M");
  qemuImg("create", "-q", "-f", "vpc", "disk.vhd", "1M");
  await writeFile(join(path, "short.qcow2"), "QFI\xfb\0\0\0\x03", "latin1");
  const wrong: [string, RegExp][] = [
    ["backed.qcow2", /has a backing file/],
    ["split.qcow2", /data is in another file/],
    ["disk.vmdk", /is vmdk, which cannot be used as a disk/],
    ["disk.vdi", /is vdi/],
    ["disk.vhdx", /is vhdx/],
    ["disk.vhd", /is vhd/],
    ["short.qcow2", /cut short/],
  ];
  for (const [name, message] of wrong) {
    const error = await errorOf(pool.attach(name, { format: null, exclusive: false }));
    t.match(error.fault, { kind: "invalid", violations: [{ message }] }, name);
    t.match(error.hint, /qemu-img convert/);
  }
  const forged = { kind: "file", path: join(path, "backed.qcow2"), format: "qcow2" } as const;
  t.match(
    await faultOf(pool.clone(forged, "x.qcow2", { format: "qcow2", sizeBytes: null })),
    { kind: "invalid" },
    "not copied either, whoever says so",
  );

  qemuImg("create", "-q", "-f", "qcow2", "plain.img", "1M");
  t.match(await faultOf(pool.attach("plain.img", { format: "raw", exclusive: false })), {
    kind: "invalid",
    violations: [{ message: /is qcow2, not raw/ }],
  });
  t.match(await pool.attach("plain.img", { format: null, exclusive: false }), { format: "qcow2" });
  // A guest can write any header into its raw disk; the name decides.
  await rename(join(path, "backed.qcow2"), join(path, "vm-1-vda.raw"));
  t.match(await pool.attach("vm-1-vda.raw", { format: null, exclusive: true }), { format: "raw" });
});

await t.test("an image in use is seen, raw or qcow2, and left alone", async (t) => {
  const folder = t.testdir();
  const pool = await shared(folder);
  for (const format of ["raw", "qcow2"] as const) {
    const name = `v.${format}`;
    await pool.create(name, { format, sizeBytes: MIB });
    // The locks that a VM takes: with a writable disk, and with a read-only one.
    for (const writes of [true, false]) {
      const take = writes ? "write" : "consistent-read";
      const how = `driver=blkdebug,take-child-perms.0=${take},unshare-child-perms.0=write,image.driver=file,image.filename=${join(folder, name)}`;
      const holder = spawn("qemu-io", [...(writes ? [] : ["-r"]), "--image-opts", how], { stdio: ["pipe", "pipe", "inherit"] });
      t.teardown(() => holder.kill("SIGKILL"));
      holder.stdin.write("length\n");
      await once(holder.stdout, "data");
      t.equal(holder.exitCode, null, "it holds the image");
      t.match(await pool.attach(name, { format, exclusive: false }), { format }, "looking at it is allowed");
      const inUse = { kind: "conflict", reason: /is held: another process has it open/ };
      t.match(await faultOf(pool.attach(name, { format, exclusive: true })), inUse, `${format}: attach`);
      t.match(await faultOf(pool.delete(name)), inUse, `${format}: delete`);
      t.match(await faultOf(pool.resize(name, 2 * MIB)), inUse, `${format}: resize`);
      if (writes) {
        const source = await pool.attach(name, { format, exclusive: false });
        t.match(
          await faultOf(pool.clone(source, "copy", { format, sizeBytes: null })),
          { kind: "conflict", reason: /another process writes to it/ },
          `${format}: copy while written`,
        );
      } else {
        const source = await pool.attach(name, { format, exclusive: false });
        t.match(await pool.clone(source, "copy", { format, sizeBytes: null }), { format }, `${format}: copy while only read`);
        await pool.delete("copy");
      }
      holder.kill("SIGKILL");
      await once(holder, "exit");
    }
    t.match(await pool.attach(name, { format, exclusive: true }), { format }, "the lock goes with its process");
    await pool.delete(name);
  }
});

/** Waits until a process has made a file; fails if it ends instead. */
async function appears(path: string, maker: ChildProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const watcher = watch(dirname(path), () => existsSync(path) && done());
    const ended = (): void => {
      watcher.close();
      reject(new Error(`the process ended before it made ${path}`));
    };
    const done = (): void => {
      watcher.close();
      maker.off("exit", ended);
      resolve();
    };
    maker.once("exit", ended);
    if (existsSync(path)) done();
  });
}

/** Runs a fixture in a process group of its own; kills the whole group at the end of the test. */
function child(t: { teardown(work: () => void): void }, file: string, args: string[], path = process.env["PATH"]): ChildProcess {
  const made = spawn(process.execPath, [file, ...args], {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, PATH: path },
  });
  t.teardown(() => killGroup(made));
  return made;
}

function killGroup(made: ChildProcess): void {
  try {
    if (made.pid !== undefined) process.kill(-made.pid, "SIGKILL");
  } catch {
    // All of it is gone already.
  }
}

for (const stage of ["half copied", "complete but not named"] as const) {
  await t.test(`killed with the volume ${stage}`, async (t) => {
    const root = t.testdir({ pool: {}, bin: {} });
    const folder = join(root, "pool");
    const pool = await shared(folder, "other");
    await writeFile(join(folder, "from.raw"), Buffer.alloc(4 * MIB, 7));
    // A `cp` that copies half, says so, and hangs: the moment of the crash is exact.
    await writeFile(
      join(root, "bin/cp"),
      `#!/bin/sh\nfor last; do :; done\nhead -c 2097152 ${folder}/from.raw > "$last"\n: > ${folder}/half\nexec sleep 1000\n`,
    );
    await chmod(join(root, "bin/cp"), 0o755);
    const half = stage === "half copied";
    const copier = child(t, COPIER, [folder, "a"], half ? `${join(root, "bin")}:${process.env["PATH"] ?? ""}` : process.env["PATH"]);
    if (half) await appears(join(folder, "half"), copier);
    else if (copier.stdout !== null) await once(createInterface(copier.stdout), "line");
    killGroup(copier);
    await once(copier, "exit");

    const temps = async (): Promise<string[]> => (await readdir(folder)).filter((name) => name.startsWith(".roost-tmp."));
    t.equal((await temps()).length, 1, "the crash left its unfinished file");
    t.equal(await pool.stat("to.raw"), null, "under no name that anyone uses");
    const source = await pool.attach("from.raw", { format: "raw", exclusive: false });
    await pool.clone(source, "other.raw", { format: "raw", sizeBytes: null });
    await shared(folder, "other");
    t.equal((await temps()).length, 1, "another node leaves it alone, also when it starts");

    const again = await openPool(poolRow(folder), { nodeId: "a", mayInitialise: false });
    t.same(await temps(), [], "the same node, started again, sweeps it");
    await again.clone(source, "to.raw", { format: "raw", sizeBytes: null });
    t.ok((await readFile(join(folder, "to.raw"))).equals(Buffer.alloc(4 * MIB, 7)), "and makes it whole");
    t.equal((await stat(join(folder, "to.raw"))).mode & 0o777, 0o600, "readable by its owner only");
  });
}

await t.test("opening a pool again does not sweep a copy that is being made", async (t) => {
  const folder = t.testdir({ "from.raw": "x".repeat(512) });
  const pool = await shared(folder);
  const source = await pool.attach("from.raw", { format: "raw", exclusive: false });
  const confirm = async (): Promise<void> => void (await shared(folder));
  t.match(await pool.clone(source, "to.raw", { format: "raw", sizeBytes: null }, { confirm }), { name: "to.raw", sizeBytes: 512 });
});

await t.test("full and read-only folders say so", { skip: process.getuid?.() === 0 ? false : "mounting needs root" }, async (t) => {
  const root = t.testdir({ small: {}, big: {} });
  // In a mount namespace of its own: the mounts end with the process.
  const out = execFileSync("unshare", ["--mount", "--propagation", "private", process.execPath, MOUNTS, root], {
    encoding: "utf8",
    timeout: 60_000,
  });
  const told = JSON.parse(out) as Record<string, { kind: string; message: string; hint?: string }>;
  const small = join(root, "small");
  for (const format of ["raw", "qcow2"]) {
    t.match(told[`full ${format}`], { kind: "exhausted", hint: /free space there/ });
    t.equal(told[`full ${format}`]?.message, `copying ${join(root, "big/from.raw")} to to.${format}: pool "p" (${small}) is full`);
  }
  t.match(told["after full"], { kind: "ok", message: "[]" }, "a failed copy gives its space back");
  t.match(told["read-only status"], { kind: "unavailable", message: /\(.*small\) is mounted read-only: mount it writable/ });
  t.match(told["read-only create"], { kind: "unavailable", message: /^making x\.raw: pool "p" \(.*small\) is mounted read-only$/ });
  t.match(told["read-only delete"], { kind: "unavailable", message: /^deleting keep\.raw: pool "p" \(.*small\) is mounted read-only$/ });
});
