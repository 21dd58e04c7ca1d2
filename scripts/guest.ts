/**
 * Makes the test guest: Debian's cloud kernel and a busybox initramfs that prints marks on its serial console and counts
 * on its disk (guest/init.sh). Made once, kept in `.lab/guest/` of the checkout. Needs Debian's apt and busybox-static.
 *
 *   node scripts/guest.ts            make it if it is not there, print where it is
 *   node scripts/guest.ts --force    make it again
 */
import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { cpioArchive, type CpioEntry } from "./guest/cpio.ts";
import { run, tryRun } from "./lab/run.ts";
import { CHECKOUT, type Progress } from "./lab/places.ts";

export interface Guest {
  /** Kernel image for direct boot. */
  kernelPath: string;
  initrdPath: string;
}

/** What a VM that boots the guest needs, in MiB; 96 is the least that works. */
export const GUEST_MEMORY_MIB = 128;

const FOLDER = join(CHECKOUT, ".lab", "guest");
const KERNEL_PACKAGE = "linux-image-cloud-amd64";

/** In the order in which they are loaded; those that a kernel has built in are not there and are left out. */
const MODULES = [
  "virtio_ring",
  "virtio",
  "virtio_pci_legacy_dev",
  "virtio_pci_modern_dev",
  "virtio_pci",
  "virtio_blk",
  "failover",
  "net_failover",
  "virtio_net",
  "button",
  "evdev",
];

/** The kernel command line with which the guest names itself in its marks. */
export function guestCmdline(name: string, generation?: number): string {
  return `console=ttyS0 quiet panic=-1 name=${name}${generation === undefined ? "" : ` generation=${generation}`}`;
}

/** Gives the guest's files, making them first if they are missing or of another recipe. */
export async function ensureGuest(progress: Progress, options: { force?: boolean } = {}): Promise<Guest> {
  const guest = { kernelPath: join(FOLDER, "vmlinuz"), initrdPath: join(FOLDER, "initramfs.gz") };
  const recipe = await recipeHash();
  const made = await readFile(join(FOLDER, "recipe"), "utf8").catch(() => "");
  if (made === recipe && options.force !== true) {
    progress(`test guest: kept from ${FOLDER}`);
    return guest;
  }
  await mkdir(join(CHECKOUT, ".lab"), { recursive: true });
  // Made beside and renamed, so that a run that is broken off leaves no half guest.
  const work = await mkdtemp(join(CHECKOUT, ".lab", "guest-making-"));
  try {
    progress(`test guest: fetching Debian's cloud kernel (about 30 MB)`);
    const tree = await unpackKernel(work);
    const boot = await readdir(join(tree, "boot"));
    const kernel = boot.find((file) => file.startsWith("vmlinuz-"));
    if (kernel === undefined) throw new Error(`${KERNEL_PACKAGE} has no boot/vmlinuz-*; it holds ${boot.join(", ")}`);
    const out = join(work, "out");
    await mkdir(out);
    await copyFile(join(tree, "boot", kernel), join(out, "vmlinuz"));
    progress("test guest: packing the initramfs");
    const archive = cpioArchive(await initramfsEntries(tree));
    await writeFile(join(out, "initramfs.gz"), gzipSync(archive, { level: 9 }));
    await writeFile(join(out, "recipe"), recipe);
    await rm(FOLDER, { recursive: true, force: true });
    await rename(out, FOLDER);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  progress(`test guest: made in ${FOLDER}`);
  return guest;
}

async function recipeHash(): Promise<string> {
  const hash = createHash("sha256");
  for (const file of ["guest.ts", "guest/init.sh", "guest/cpio.ts"]) hash.update(await readFile(join(import.meta.dirname, file)));
  return hash.digest("hex");
}

/** Downloads the newest cloud kernel and unpacks it, installing nothing. Gives the folder it lies in. */
async function unpackKernel(work: string): Promise<string> {
  const architecture = (await run(["dpkg", "--print-architecture"])).trim();
  if (architecture !== "amd64") throw new Error(`the test guest is made for amd64 machines only, and this is ${architecture}`);
  const depends = await tryRun(["apt-cache", "depends", KERNEL_PACKAGE]);
  let name = /Depends: (linux-image-\S+)/.exec(depends.stdout)?.[1];
  if (name === undefined) {
    await run(["apt-get", "update", "-q"], { timeoutMs: 180_000 });
    name = /Depends: (linux-image-\S+)/.exec(await run(["apt-cache", "depends", KERNEL_PACKAGE]))?.[1];
  }
  if (name === undefined) throw new Error(`apt knows no ${KERNEL_PACKAGE}; are Debian's own package sources in /etc/apt?`);
  const fetch = ["apt-get", "download", "-q", name];
  // The lists may be older than the archive (the file is gone there): fetched anew, once.
  if ((await tryRun(fetch, { cwd: work, timeoutMs: 180_000 })).code !== 0) {
    await run(["apt-get", "update", "-q"], { timeoutMs: 180_000 });
    await run(fetch, { cwd: work, timeoutMs: 180_000 });
  }
  const archive = (await readdir(work)).find((file) => file.endsWith(".deb"));
  if (archive === undefined) throw new Error(`${fetch.join(" ")} left no package in ${work}`);
  const tree = join(work, "tree");
  await run(["dpkg", "-x", join(work, archive), tree], { timeoutMs: 60_000 });
  return tree;
}

async function initramfsEntries(tree: string): Promise<CpioEntry[]> {
  const entries: CpioEntry[] = ["bin", "dev", "etc", "lib", "lib/modules", "proc", "sys"].map((path) => ({ path, kind: "folder" }));
  entries.push({ path: "dev/console", kind: "device", mode: 0o600, device: { major: 5, minor: 1 } });
  entries.push({ path: "bin/busybox", kind: "file", content: await readFile(await staticBusybox()) });
  entries.push({ path: "bin/sh", kind: "link", content: "busybox" });
  entries.push({ path: "init", kind: "file", content: await readFile(join(import.meta.dirname, "guest", "init.sh")) });
  const order: string[] = [];
  for (const module of MODULES) {
    const bytes = await moduleBytes(tree, module);
    if (bytes === null) continue;
    order.push(`${module}.ko\n`);
    entries.push({ path: `lib/modules/${module}.ko`, kind: "file", mode: 0o644, content: bytes });
  }
  if (!order.includes("virtio_blk.ko\n")) throw new Error(`the kernel package has no virtio_blk module: the guest would see no disk`);
  entries.push({ path: "lib/modules/order", kind: "file", mode: 0o644, content: order.join("") });
  return entries;
}

async function moduleBytes(tree: string, module: string): Promise<Buffer | null> {
  const found = await run(["find", tree, "-name", `${module}.ko*`]);
  const path = found.trim().split("\n")[0] ?? "";
  if (path === "") return null;
  if (path.endsWith(".xz")) await run(["xz", "-d", path]);
  return await readFile(path.replace(/\.xz$/, ""));
}

async function staticBusybox(): Promise<string> {
  for (const path of ["/bin/busybox", "/usr/bin/busybox"]) {
    const told = await tryRun(["ldd", path]).catch(() => null);
    if (told !== null && /not a dynamic executable|statically linked/.test(told.stdout + told.stderr)) return path;
  }
  throw new Error("no statically linked busybox found; install the package busybox-static");
}

if (import.meta.main) {
  const startedMs = performance.now();
  const guest = await ensureGuest((line) => console.log(`[${((performance.now() - startedMs) / 1000).toFixed(1).padStart(5)} s] ${line}`), {
    force: process.argv.includes("--force"),
  });
  console.log(`kernel  ${guest.kernelPath}\ninitrd  ${guest.initrdPath}`);
}
