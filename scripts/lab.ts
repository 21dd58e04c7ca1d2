/**
 * N nodes on this machine, to try roost on and to break. `npm run lab -- help` tells the rest.
 */
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { asRoostError, RoostError } from "../src/base/errors.ts";
import { environmentLine, formCluster } from "./lab/cluster.ts";
import type { CutDirection } from "./lab/ground.ts";
import { DEFAULT_BASE, Lab } from "./lab/lab.ts";
import type { KillTarget, LabNode, PauseTarget } from "./lab/node.ts";

const HELP = `A lab of N nodes on this machine, each with its own network, libvirtd and data folder.

  npm run lab -- COMMAND [--base DIR]          (or: node scripts/lab.ts COMMAND …)

  up [--nodes 3] [--subnet 10.78.0] [--replace] [--loopback]
                               make the nodes and power them on (libvirtd answers, no agent yet)
  cluster                      start the agents, join them, print the line for your shell
  status                       nodes, their power, network, processes and VMs
  exec NODE -- CMD…            run a command inside a node; a shell if none is named
  kill NODE [WHAT]             kill -9: agent, keeper, libvirtd, qemu or all (the default: the whole node at once)
  start NODE                   power a dead node on again (its agent starts with it)
  start-agent NODE             start the agent from its data folder
  stop-agent NODE              end the agent in good order
  start-libvirtd NODE          start libvirtd again
  pause|resume NODE [WHAT]     SIGSTOP, SIGCONT: agent, keeper, libvirtd, all (agent and keeper; the default) or host (guests and init too)
  cut NODE [--one-way in|out]  pull its cable, or drop only what it would receive (in) or sends (out)
  heal NODE                    plug it in again
  serial NODE VM               what the VM printed on its serial console there
  down                         end everything and leave nothing

The lab lies in ${DEFAULT_BASE} unless --base says otherwise. Labs with different bases do not know of each other.`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    base: { type: "string", default: process.env["ROOST_LAB"] ?? DEFAULT_BASE },
    nodes: { type: "string", default: "3" },
    subnet: { type: "string" },
    replace: { type: "boolean", default: false },
    loopback: { type: "boolean", default: false },
    "one-way": { type: "string" },
    help: { type: "boolean", short: "h", default: false },
  },
});

const startedMs = performance.now();
const progress = (line: string): void => console.log(`[${((performance.now() - startedMs) / 1000).toFixed(1).padStart(5)} s] ${line}`);

async function main(): Promise<number> {
  const [command = "help", ...rest] = positionals;
  const open = (): Promise<Lab> => Lab.open(values.base);
  const node = async (): Promise<LabNode> => {
    if (rest[0] === undefined) throw new RoostError({ kind: "precondition", reason: `${command} needs a node's name` }, "For example n1.");
    return (await open()).node(rest[0]);
  };
  if (values.help || command === "help") {
    console.log(HELP);
    return 0;
  }
  switch (command) {
    case "up": {
      const subnet = values.subnet === undefined ? {} : { subnet: values.subnet };
      const ground = values.loopback ? { ground: "loopback" as const } : {};
      const lab = await Lab.up({ nodes: Number(values.nodes), base: values.base, replace: values.replace, progress, ...subnet, ...ground });
      await status(lab);
      return 0;
    }
    case "cluster": {
      const lab = await open();
      await formCluster(lab, progress);
      console.log(environmentLine(lab));
      return 0;
    }
    case "status":
      await status(await open());
      return 0;
    case "exec": {
      const [tool = "", ...args] = (await node()).inside(rest.length > 1 ? rest.slice(1) : ["sh"]);
      return spawnSync(tool, args, { stdio: "inherit" }).status ?? 255;
    }
    case "kill": {
      const target = oneOf<KillTarget>(rest[1] ?? "all", ["agent", "keeper", "libvirtd", "qemu", "all"]);
      progress(`killed ${await (await node()).kill(target)} processes`);
      return 0;
    }
    case "start":
      await (await node()).powerOn();
      progress(`${rest[0]} is on`);
      return 0;
    case "start-agent":
      await (await node()).startAgent();
      progress("the agent runs");
      return 0;
    case "stop-agent":
      await (await node()).stopAgent();
      progress("the agent has ended");
      return 0;
    case "start-libvirtd":
      await (await node()).startLibvirtd();
      progress("libvirtd answers");
      return 0;
    case "pause":
    case "resume": {
      const target = oneOf<PauseTarget>(rest[1] ?? "all", ["agent", "keeper", "libvirtd", "all", "host"]);
      const one = await node();
      progress(`${await (command === "pause" ? one.pause(target) : one.resume(target))} processes ${command}d`);
      return 0;
    }
    case "cut":
      await (await node()).cut(oneOf<CutDirection>(values["one-way"] ?? "both", ["in", "out", "both"]));
      return 0;
    case "heal":
      await (await node()).heal();
      return 0;
    case "serial":
      process.stdout.write(await (await node()).serialLog(rest[1] ?? ""));
      return 0;
    case "down":
      progress((await Lab.downAt(values.base)) ? "all taken away" : `there is no lab in ${values.base}`);
      return 0;
    default:
      console.error(`no command ${JSON.stringify(command)}\n\n${HELP}`);
      return 2;
  }
}

function oneOf<T extends string>(word: string, words: readonly T[]): T {
  const found = words.find((one) => one === word);
  if (found === undefined)
    throw new RoostError({ kind: "precondition", reason: `${JSON.stringify(word)} is not one of ${words.join(", ")}` });
  return found;
}

async function status(lab: Lab): Promise<void> {
  console.log(
    `lab in ${lab.base}, ${lab.ground === "namespaces" ? `network ${lab.subnet}.0/24` : "on loopback, simulated VMs"}, shared folder ${lab.sharedDir}`,
  );
  for (const node of lab.nodes) {
    const address = node.place.port === null ? node.ip : `${node.ip}:${node.place.port}`;
    if (!node.isOn()) {
      console.log(`${node.name}  ${address}  ${node.powerNote()}`);
      continue;
    }
    const net = await node.network();
    const wire = net.in && net.out ? "connected" : net.in ? "sends nothing" : net.out ? "receives nothing" : "cut off";
    const runs = (["agent", "keeper", "libvirtd"] as const).map((kind) => {
      const [one] = node.processes(kind);
      return one === undefined ? `no ${kind}` : `${kind} ${one.pid}${one.state === "T" ? " (stopped)" : ""}`;
    });
    const vms = node.qemuProcesses().map((qemu) => qemu.domain || qemu.uuid);
    console.log(`${node.name}  ${address}  on, ${wire}  ${runs.join(", ")}  VMs: ${vms.join(", ") || "none"}`);
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  const told = asRoostError(error);
  console.error(`lab: ${told.message}`);
  if (told.hint !== undefined) console.error(told.hint);
  process.exitCode = 1;
}
