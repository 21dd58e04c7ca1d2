/**
 * Nodes as plain processes on loopback ports, where this user may not make namespaces. VMs are simulated ones; there is no
 * network to cut, and no guardian: a node says so, and nothing is recovered from it by expiry.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RoostError } from "../../src/base/errors.ts";
import type { Ground, LabPlace, NetworkState } from "./ground.ts";
import { processesOfFolder, type LabProcess } from "./processes.ts";
import { Hopeless, waitFor } from "./wait.ts";

export class LoopbackGround implements Ground {
  readonly kind = "loopback";

  async lay(): Promise<void> {}

  async powerOn(place: LabPlace): Promise<void> {
    await writeFile(join(place.dir, "on"), "");
    if (existsSync(join(place.dir, "agent.argv"))) await this.start(place, "agent");
  }

  async powerOff(place: LabPlace): Promise<void> {
    await rm(join(place.dir, "on"), { force: true });
    await waitFor(
      `the end of ${place.name}'s processes`,
      (saw) => {
        const left = this.processes(place);
        saw(left);
        for (const { pid } of left) {
          try {
            process.kill(pid, "SIGKILL");
          } catch {
            // It has ended already.
          }
        }
        return left.length === 0;
      },
      10_000,
      { everyMs: 20 },
    );
  }

  isOn(place: LabPlace): boolean {
    return existsSync(join(place.dir, "on"));
  }

  processes(place: LabPlace): LabProcess[] {
    return processesOfFolder(place.dataDir);
  }

  inside(_place: LabPlace, argv: readonly string[]): string[] {
    return [...argv];
  }

  async start(place: LabPlace, what: "agent" | "libvirtd"): Promise<void> {
    if (what === "libvirtd") throw unsupported("a libvirtd of the node's own");
    if (this.processes(place).some((one) => one.kind === "agent")) return;
    const [environment, words] = readFileSync(join(place.dir, "agent.argv"), "utf8").split(/^\n/m, 2);
    const env: Record<string, string | undefined> = { ...process.env };
    for (const line of (environment ?? "").split("\n").filter(Boolean))
      env[line.slice(0, line.indexOf("="))] = line.slice(line.indexOf("=") + 1);
    const [command, ...args] = (words ?? "").split("\n").filter((word) => word !== "");
    if (command === undefined) throw new Error(`${place.dir}/agent.argv names no command`);
    const log = openSync(join(place.dir, "log", "agent.log"), "a");
    const agent = spawn(command, args, { detached: true, stdio: ["ignore", log, log], cwd: "/", env });
    closeSync(log);
    agent.unref();
    let failed: Error | undefined;
    agent.on("error", (error) => (failed = error));
    await waitFor(
      `the agent of ${place.name}`,
      () => {
        if (failed !== undefined) throw new Hopeless(failed.message);
        if (agent.exitCode !== null) throw new Hopeless(`it ended with code ${agent.exitCode}; see ${join(place.dir, "log", "agent.log")}`);
        return this.processes(place).some((one) => one.kind === "agent");
      },
      10_000,
    );
  }

  cut(): Promise<void> {
    return Promise.reject(unsupported("cutting the network"));
  }

  heal(): Promise<void> {
    return Promise.reject(unsupported("healing the network"));
  }

  network(): Promise<NetworkState> {
    return Promise.resolve({ in: true, out: true });
  }

  async raze(places: readonly LabPlace[]): Promise<void> {
    for (const place of places) await this.powerOff(place);
  }
}

function unsupported(what: string): RoostError {
  return new RoostError({ kind: "unsupported", what: `${what} in a lab on loopback` }, "Run the lab as root where namespaces may be made.");
}
