/**
 * Gets from Debian what roost's lab and tests need on a machine: packages, and the account that libvirt's daemon insists
 * on. Does nothing where all is there.
 *
 *   node scripts/packages.ts           install what is missing (root)
 *   node scripts/packages.ts --check   only say what is missing; exit code 1 if something is
 */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { RoostError } from "../src/base/errors.ts";
import { run, tryRun } from "./lab/run.ts";
import type { Progress } from "./lab/places.ts";

/** Each with what it is for; without recommended packages this is about 50 MB to fetch. */
export const PACKAGES: Readonly<Record<string, string>> = {
  "libvirt-daemon": "runs the VMs",
  "libvirt-clients": "virsh, to look behind roost's back",
  "qemu-system-x86": "emulates or virtualises the VMs",
  "qemu-utils": "qemu-img",
  seabios: "firmware of the VMs",
  "busybox-static": "the test guest's programs",
  iproute2: "the lab's network namespaces",
  "util-linux": "unshare and nsenter for the lab's nodes",
  procps: "ps",
  "xz-utils": "compressed kernel modules",
};

/** Folders over which each node of the lab mounts its own; libvirt's packages leave some of them to be made. */
const LIBVIRT_FOLDERS = ["/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"];

const APT_ENV = { DEBIAN_FRONTEND: "noninteractive", APT_LISTCHANGES_FRONTEND: "none", NEEDRESTART_SUSPEND: "1" };

/** Names of packages that are not installed. */
export async function missingPackages(): Promise<string[]> {
  const names = Object.keys(PACKAGES);
  const asked = await tryRun(["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", ...names]).catch(() => {
    throw new RoostError(
      { kind: "unsupported", what: "a system without dpkg (the set-up scripts are made for Debian 12 and later)" },
      `Install what these Debian packages hold by your system's own means: ${names.join(" ")}`,
    );
  });
  const installed = new Set(asked.stdout.split("\n").flatMap((line) => (line.endsWith(" installed") ? [line.split(" ")[0]] : [])));
  return names.filter((name) => !installed.has(name));
}

/** True if nothing has to be done as root. */
export async function isPrepared(): Promise<boolean> {
  return (
    (await missingPackages()).length === 0 &&
    (await missingAccounts()).length === 0 &&
    LIBVIRT_FOLDERS.every((folder) => existsSync(folder))
  );
}

/**
 * Installs what is missing.
 * @throws RoostError `denied` if something is missing and this is not root; CommandError with apt's last words.
 */
export async function ensurePackages(progress: Progress): Promise<void> {
  const missing = await missingPackages();
  const accounts = await missingAccounts();
  if (process.getuid?.() !== 0 && (missing.length > 0 || accounts.length > 0)) {
    const what =
      missing.length > 0
        ? `the packages ${missing.join(", ")} are missing`
        : "the user or a group that libvirtd insists on is missing (libvirt-qemu, kvm)";
    throw new RoostError(
      { kind: "denied", reason: `${what}, and only root can add them` },
      "Run this once as root, with sudo for example.",
    );
  }
  if (missing.length === 0) progress(`packages: all ${Object.keys(PACKAGES).length} are installed`);
  else await install(missing, progress);
  for (const add of accounts) await run(add);
  if (accounts.length > 0) progress("accounts: made what libvirtd insists on: user libvirt-qemu, groups kvm and libvirt-qemu");
  if (process.getuid?.() === 0) for (const folder of LIBVIRT_FOLDERS) await mkdir(folder, { recursive: true });
}

async function install(names: string[], progress: Progress): Promise<void> {
  progress(`packages: installing ${names.join(" ")}`);
  if (!(await allKnown(names))) await updateLists(progress);
  const command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", ...names];
  let unpacked = 0;
  const options = {
    timeoutMs: 600_000,
    env: APT_ENV,
    onLine: (line: string) => {
      if (/^(Get:|Setting up )/.test(line)) unpacked += 1;
      if (/^(Need to get|Setting up (libvirt|qemu))/.test(line)) progress(`packages: ${line}`);
      else if (unpacked > 0 && unpacked % 25 === 0 && line.startsWith("Get:")) progress(`packages: ${unpacked} fetched`);
    },
  };
  const first = await tryRun(command, options);
  if (first.code !== 0) {
    // Lists older than the archive name files that are gone: fetched anew, once.
    await updateLists(progress);
    await run(command, options);
  }
}

async function allKnown(names: string[]): Promise<boolean> {
  const policy = await tryRun(["apt-cache", "policy", ...names]);
  const candidates = policy.stdout.match(/^ {2}Candidate: (?!\(none\))/gm) ?? [];
  return candidates.length >= names.length;
}

async function updateLists(progress: Progress): Promise<void> {
  progress("packages: fetching apt's lists");
  await run(["apt-get", "update", "-q", "-o", "DPkg::Lock::Timeout=120"], { timeoutMs: 180_000, env: APT_ENV });
}

/** Commands that make what libvirtd wants of /etc/passwd; its package leaves that to libvirt-daemon-system. */
async function missingAccounts(): Promise<string[][]> {
  const commands: string[][] = [];
  for (const group of ["kvm", "libvirt-qemu"]) {
    if ((await tryRun(["getent", "group", group])).code !== 0) commands.push(["groupadd", "--system", group]);
  }
  if ((await tryRun(["getent", "passwd", "libvirt-qemu"])).code !== 0) {
    commands.push([
      "useradd",
      "--system",
      "--no-create-home",
      "--gid",
      "kvm",
      "--shell",
      "/usr/sbin/nologin",
      "--home-dir",
      "/var/lib/libvirt",
      "libvirt-qemu",
    ]);
  }
  return commands;
}

if (import.meta.main) {
  const startedMs = performance.now();
  try {
    if (process.argv.includes("--check")) {
      const missing = await missingPackages();
      console.log(missing.length === 0 ? "nothing is missing" : missing.map((name) => `missing: ${name} (${PACKAGES[name]})`).join("\n"));
      process.exitCode = missing.length === 0 ? 0 : 1;
    } else {
      await ensurePackages((line) => console.log(`[${((performance.now() - startedMs) / 1000).toFixed(1).padStart(5)} s] ${line}`));
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    if (error instanceof RoostError && error.hint !== undefined) console.error(error.hint);
    process.exitCode = 1;
  }
}
