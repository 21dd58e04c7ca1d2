/** Nodes as namespaces of this machine, each with its own libvirtd and an init (init.pl) that is also its guardian. Needs root. */
import { spawn } from "node:child_process";
import { existsSync, openSync, closeSync, readFileSync } from "node:fs";
import { cp, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CutDirection, Ground, LabPlace, NetworkState } from "./ground.ts";
import { libvirtdConf, qemuConf } from "./libvirt-config.ts";
import * as network from "./network.ts";
import { CHECKOUT } from "./places.ts";
import { isAlive, processesOfNamespace, readProcess, type LabProcess } from "./processes.ts";
import { tryRun } from "./run.ts";
import { Hopeless, waitFor } from "./wait.ts";

/** What libvirtd found out about this machine's QEMU: with it a node is ready in half a second, without in five. */
const WARM_CACHE = join(CHECKOUT, ".lab", "libvirt-cache");

const INIT = join(import.meta.dirname, "init.pl");

export class NamespaceGround implements Ground {
  readonly kind = "namespaces";
  readonly #names: network.NetworkNames;
  readonly #subnet: string;

  constructor(base: string, subnet: string) {
    this.#names = network.networkNames(base);
    this.#subnet = subnet;
  }

  async lay(places: readonly LabPlace[]): Promise<void> {
    await network.makeSwitch(this.#names, this.#subnet);
    for (const place of places) {
      await network.makePort(this.#names, place.name, place.ip);
      const host = join(place.dir, "host");
      for (const folder of ["etc", "lib", "log", "cache"]) await mkdir(join(host, folder), { recursive: true });
      await writeFile(join(host, "etc", "libvirtd.conf"), libvirtdConf(place.index));
      await writeFile(join(host, "etc", "qemu.conf"), qemuConf());
    }
  }

  async powerOn(place: LabPlace): Promise<void> {
    const cache = join(place.dir, "host", "cache");
    const isWarm = existsSync(WARM_CACHE);
    if (isWarm) await cp(WARM_CACHE, cache, { recursive: true });
    const bootFile = join(place.dir, "boot");
    for (const file of [bootFile, join(place.dir, "init.pid"), join(place.dir, "power")]) await rm(file, { force: true });

    const log = openSync(join(place.dir, "log", "init.log"), "a");
    // Enters by `ip netns exec` and not by unshare alone, since that also mounts the /sys of the network namespace.
    const argv =
      `netns exec ${this.#names.nodeNs(place.name)} unshare --mount --uts --ipc --pid --fork --kill-child --propagation private perl`.split(
        " ",
      );
    argv.push(INIT, place.dir, place.name);
    const outer = spawn("ip", argv, { detached: true, stdio: ["ignore", log, log], cwd: "/", env: cleanEnvironment() });
    closeSync(log);
    outer.unref();
    let failed: Error | undefined;
    outer.on("error", (error) => (failed = error));

    const init = await waitFor(
      `${place.name}'s init`,
      (saw) => {
        if (failed !== undefined) throw new Hopeless(failed.message);
        if (outer.exitCode !== null)
          throw new Hopeless(`it ended with code ${outer.exitCode}:\n${tail(join(place.dir, "log", "init.log"))}`);
        const child = outer.pid === undefined ? null : onlyChild(outer.pid);
        saw(`the launcher ${outer.pid} ${child === null ? "without a child" : `with child ${child.argv.join(" ")}`}`);
        return existsSync(bootFile) ? child : null;
      },
      20_000,
    );
    await writeFile(join(place.dir, "init.pid"), `${init.pid} ${init.startTicks}\n`);
    await this.#libvirtReady(place, 60_000);
    if (!isWarm) await keepWarm(cache);
  }

  async #libvirtReady(place: LabPlace, timeoutMs: number): Promise<void> {
    let seenMs = performance.now();
    await waitFor(
      `libvirtd on ${place.name}`,
      async (saw) => {
        const now = this.processes(place);
        if (now.some((one) => one.kind === "libvirtd")) seenMs = performance.now();
        // Between fork and exec it does not look like libvirtd yet.
        else if (now.length === 0 || performance.now() - seenMs > 2_000) {
          const logs = [
            join(place.dir, "log", "init.log"),
            join(place.dir, "log", "libvirtd.out"),
            join(place.dir, "host", "log", "libvirtd.log"),
          ];
          throw new Hopeless(`it has ended\n${logs.map(tail).join("\n")}`);
        }
        const answer = await tryRun(this.inside(place, ["virsh", "-c", "qemu:///system", "version"]), { timeoutMs: 40_000 });
        saw(`${answer.stderr.trim()}\n${tail(join(place.dir, "log", "libvirtd.out"))}`);
        return answer.code === 0;
      },
      timeoutMs,
      { everyMs: 100 },
    );
  }

  async powerOff(place: LabPlace): Promise<void> {
    const init = initOf(place);
    if (init === null) return;
    const all = processesOfNamespace(init.pid);
    kill(init.pid);
    await waitFor(
      `the end of ${place.name}'s processes`,
      (saw) => {
        const left = all.filter((process) => isAlive(process.pid, process.startTicks));
        saw(left.map((process) => `${process.pid} ${process.argv.join(" ")}`));
        return left.length === 0;
      },
      10_000,
      { everyMs: 10 },
    );
    await writeFile(join(place.dir, "power"), "off: by command\n");
  }

  isOn(place: LabPlace): boolean {
    return initOf(place) !== null;
  }

  processes(place: LabPlace): LabProcess[] {
    const init = initOf(place);
    return init === null ? [] : processesOfNamespace(init.pid);
  }

  inside(place: LabPlace, argv: readonly string[]): string[] {
    const init = initOf(place);
    if (init === null) throw new Error(`${place.name} is off (${powerNote(place)}); \`lab start ${place.name}\` powers it on`);
    return ["nsenter", "-t", String(init.pid), "-m", "-u", "-i", "-n", "-p", "--", ...argv];
  }

  async start(place: LabPlace, what: "agent" | "libvirtd"): Promise<void> {
    const init = initOf(place);
    if (init === null) throw new Error(`${place.name} is off (${powerNote(place)})`);
    process.kill(init.pid, what === "agent" ? "SIGUSR1" : "SIGUSR2");
    await waitFor(`${what} on ${place.name}`, () => this.processes(place).some((one) => one.kind === what), 10_000);
    if (what === "libvirtd") await this.#libvirtReady(place, 30_000);
  }

  cut(place: LabPlace, direction: CutDirection): Promise<void> {
    return network.cutPort(this.#names, place.name, direction);
  }

  heal(place: LabPlace): Promise<void> {
    return network.healPort(this.#names, place.name);
  }

  network(place: LabPlace): Promise<NetworkState> {
    return network.portState(this.#names, place.name);
  }

  async raze(places: readonly LabPlace[]): Promise<void> {
    for (const place of places) if (this.isOn(place)) await this.powerOff(place);
    // Whatever else lives on the lab's network: commands still running inside, the init of a lab without records.
    await waitFor(
      "the end of all processes on the lab's network",
      async (saw) => {
        const pids: number[] = [];
        for (const ns of await network.labNamespaces(this.#names)) pids.push(...(await network.pidsInNamespace(ns)));
        saw(pids);
        for (const pid of pids) kill(pid);
        return pids.length === 0;
      },
      15_000,
    );
    await network.removeNetwork(this.#names);
  }
}

/** True if this process may make namespaces and networks; else why not. */
export async function namespacesRefused(): Promise<string | null> {
  if (process.getuid?.() !== 0) return "this is not root";
  for (const tool of ["ip", "unshare", "nsenter", "perl", "virsh", "/usr/sbin/libvirtd"]) {
    const found = await tryRun(["sh", "-c", `command -v ${tool}`]);
    if (found.code !== 0) return `${tool} is not installed (scripts/packages.ts installs what is missing)`;
  }
  const probe = await tryRun(["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"]);
  return probe.code === 0 ? null : `namespaces are refused here: ${probe.stderr.trim()}`;
}

/** The node's init as recorded at power-on, if it still lives. */
function initOf(place: LabPlace): { pid: number; startTicks: number } | null {
  let text: string;
  try {
    text = readFileSync(join(place.dir, "init.pid"), "utf8");
  } catch {
    return null;
  }
  const [pid, startTicks] = text.split(" ").map(Number);
  if (pid === undefined || startTicks === undefined) return null;
  return isAlive(pid, startTicks) ? { pid, startTicks } : null;
}

/** `unshare --fork` has one child: the first process of the new pid namespace. */
function onlyChild(parentPid: number): LabProcess | null {
  const pid = Number(readFileSync(`/proc/${parentPid}/task/${parentPid}/children`, "utf8").trim().split(" ")[0]);
  return pid > 0 ? readProcess(pid) : null;
}

/** Why the node is off, for people. */
export function powerNote(place: LabPlace): string {
  try {
    return readFileSync(join(place.dir, "power"), "utf8").trim();
  } catch {
    return "off: its init died";
  }
}

/** Keeps what the first libvirtd found out for all later ones; renamed into place, since labs may start side by side. */
async function keepWarm(cache: string): Promise<void> {
  if (existsSync(WARM_CACHE) || (await readdir(cache)).length === 0) return;
  const made = `${WARM_CACHE}.${process.pid}`;
  await mkdir(join(CHECKOUT, ".lab"), { recursive: true });
  await cp(cache, made, { recursive: true });
  await rename(made, WARM_CACHE).catch(() => rm(made, { recursive: true, force: true }));
}

/** The nodes' processes see none of the settings of the shell that started the lab. */
function cleanEnvironment(): Record<string, string> {
  return { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8", HOME: "/root", TERM: "dumb" };
}

function tail(path: string): string {
  try {
    return readFileSync(path, "utf8").split("\n").slice(-8).join("\n");
  } catch {
    return "";
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended already.
  }
}
